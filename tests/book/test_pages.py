"""The built pages, where `make book` or `make test` has built them."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_page_of_the_contents_exists():
    files = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
    for name in files:
        assert [path for path in ROOT.glob(f"{name}.*") if path.suffix in (".md", ".ipynb")], name
    chapters = {str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob("notebooks/*.ipynb")}
    assert chapters <= set(files)


@pytest.mark.parametrize("page", sorted(ROOT.glob("book/*.md")), ids=lambda path: path.stem)
def test_local_links_and_images_exist(page):
    for target in re.findall(r"\]\(([^)#\s]+)\)|```\{figure\} (\S+)", page.read_text()):
        path = target[0] or target[1]
        assert (page.parent / path).exists(), path


def test_the_readme_shows_what_exists():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#\s]+)\)", readme):
        assert (ROOT / path).exists(), path


def test_films_are_small():
    films = [path for suffix in ("webp", "gif", "mp4") for path in ROOT.glob(f"book/**/*.{suffix}")]
    assert films
    assert max(film.stat().st_size for film in films) <= 400e3


def test_a_formula_keeps_its_full_stop_and_what_is_no_stop_stays_outside():
    path = ROOT / "book" / "_ext" / "mended_pages.py"
    spec = importlib.util.spec_from_file_location("mended_pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    formula = r'<span class="math notranslate nohighlight">\(x\)</span>'
    context = {"script_files": [], "body": f"<p>See {formula}. And {formula} alone.</p>"}
    module.mend(None, "page", "page.html", context, None)
    assert context["body"] == f'<p>See <span class="together">{formula}.</span> And {formula} alone.</p>'
