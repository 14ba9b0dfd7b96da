"""The built pages, where `make book` or `make test` has built them."""

import re

import pytest

from tests.cells import cells_of
from tests.checkout import ROOT, script


def test_every_page_of_the_contents_exists():
    files = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
    for name in files:
        assert [path for path in ROOT.glob(f"{name}.*") if path.suffix in (".md", ".ipynb")], name
    chapters = {str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob("notebooks/*.ipynb")}
    assert chapters <= set(files)


def test_the_contents_number_every_chapter():
    titles = re.findall(r'file: notebooks/(\d\d)_\w+\n +title: "(\d+)\. .+"', (ROOT / "_toc.yml").read_text())
    assert len(titles) == len(list(ROOT.glob("notebooks/*.ipynb")))
    assert [int(number) for number, _ in titles] == [int(number) for _, number in titles]


def labels(page):
    """The labels of a page of Markdown, such as (c11)=, to which a link #c11 of any page of the book leads."""
    return set(re.findall(r"(?m)^.*?\(([\w-]+)\)=$", page.read_text(encoding="utf-8")))


def headings(page):
    """The headings of a page or a chapter, as a link names them after a #."""
    if page.suffix == ".ipynb":
        text = "\n".join(cell["source"] for cell in cells_of(page, "markdown"))
    else:
        text = page.read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    lines = re.findall(r"(?m)^#+ (.+?)\s*$", text)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def broken_links(page):
    """The local links and images of a page that lead to no file, to no heading of it or to no label."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", text)
    links += [(figure, "") for figure in re.findall(r"```\{figure\} (\S+)", text)]
    broken = []
    for path, name in links:
        target = page.parent / path if path else page
        named = set().union(*map(labels, page.parent.glob("*.md"))) if name and not path else set()
        if not target.exists() or (name and name not in named | headings(target)):
            broken.append(f"{path}#{name}")
    return broken


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("book/*.md"))], ids=lambda path: path.stem)
def test_local_links_and_images_exist(page):
    assert broken_links(page) == []


def test_links_to_no_file_and_to_no_heading_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# The first\n\n* - (c1)=\n## It's a *second*\n", encoding="utf-8")
    right = "[a](other.md) [b](other.md#the-first) [c](other.md#its-a-second) [d](#c1) [e](#here)"
    wrong = "[f](none.md) [g](none.md#the-first) [h](other.md#no-such-heading) [i](#there)"
    (tmp_path / "page.md").write_text(f"# Here\n\n{right}\n\n{wrong}\n", encoding="utf-8")
    found = broken_links(tmp_path / "page.md")
    assert found == ["none.md#", "none.md#the-first", "other.md#no-such-heading", "#there"]


def test_films_are_small():
    films = [path for suffix in ("webp", "gif", "mp4") for path in ROOT.glob(f"book/**/*.{suffix}")]
    assert films
    assert max(film.stat().st_size for film in films) <= 400e3


@pytest.fixture
def mended():
    """What the build makes of a page's HTML."""
    module = script("book/_ext/mended_pages.py")

    def mend(body):
        context = {"script_files": [], "metatags": "", "body": body}
        module.mend(None, "page", "page.html", context, None)
        return context["body"]

    return mend


def test_a_formula_keeps_its_full_stop_and_what_is_no_stop_stays_outside(mended):
    formula = r'<span class="math notranslate nohighlight">\(x\)</span>'
    body = mended(f"<p>See {formula}. And {formula} alone.</p>")
    assert body == f'<p>See <span class="together">{formula}.</span> And {formula} alone.</p>'


@pytest.mark.parametrize(
    ("body", "right"),
    [
        ("<p>5 % of 10\n±\n2</p>", "<p>5\u00a0% of 10\u00a0±\u00a02</p>"),
        ("<p><strong>5</strong> ± 1</p>", "<p><strong>5</strong>\u00a0±\u00a01</p>"),
        ("<summary>It's the network's.</summary>", "<summary>It’s the network’s.</summary>"),
    ],
)
def test_numbers_stay_together_and_apostrophes_are_curly(body, right, mended):
    assert mended(body) == right


@pytest.mark.parametrize(
    "body",
    [
        """<pre><span>7 % 3</span> == "it's"</pre>""",
        '<code class="docutils"><span class="pre">7 % 3</span> ± 2</code>',
        r'<div class="math notranslate nohighlight">\[f\'s 5 % ± 1\]</div>',
        """<img alt="It's 5 % ± 1" src="x.png" />""",
        "<script>let it = 7 % 3, s = 'a'</script>",
    ],
)
def test_code_formulas_and_attributes_stay_as_they_are(body, mended):
    assert mended(body) == body


def test_a_folded_cell_is_called_by_its_own_words(mended):
    body = mended('<summary aria-label="Toggle hidden content">\n<p>Show the checks</p></summary>')
    assert body == "<summary>\n<p>Show the checks</p></summary>"
