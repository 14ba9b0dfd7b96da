"""The built pages, where `make book` or `make test` has built them."""

import json
import re
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

from ddpm.targets import Prediction
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


def test_code_of_a_page_fits_its_column():
    pages = [
        ROOT / "book" / f"{each}.md"
        for each in ("how_to_run", "training", "own_parts", "instructors", "start", "make_it_yours")
    ]
    code = {
        page.stem: re.findall(r"^ *```\w*\n(.+?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE) for page in pages
    }
    assert all(code.values())
    assert [
        (name, line) for name, blocks in code.items() for line in "".join(blocks).splitlines() if len(line) > 88
    ] == []


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


@pytest.mark.parametrize("verdict", ["holds", "holds when", "corrected"])
def test_a_verdict_says_which_it_is_and_another_quotation_says_nothing(verdict, mended):
    said = f"<div><p><strong>C1 · {verdict}.</strong> <em>So it is.</em></p></div></blockquote>"
    assert mended(f"<blockquote>\n{said}") == f'<blockquote data-verdict="{verdict}">\n{said}'
    other = "<blockquote>\n<div><p><strong>C1</strong>: not checked.</p></div></blockquote>"
    assert mended(other) == other


def test_next_and_previous_make_one_chain_through_the_contents_in_the_order_to_be_read():
    module = script("book/_ext/mended_pages.py")
    pages = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    titles = {page: page.upper() for page in pages}
    builder = SimpleNamespace(get_relative_uri=lambda page, other: other, render_partial=lambda title: {"title": title})
    app = SimpleNamespace(builder=builder, env=SimpleNamespace(titles=titles))
    forth, back = {}, {}
    for i, page in enumerate(pages):
        context = {"prev": {"link": pages[i - 1]} if i else None, "next": {"link": (*pages, None)[i + 1]}}
        module.lead(app, page, "page.html", context, None)
        forth[page], back[page] = context["next"], context["prev"]
    chain = [pages[0]]
    while following := forth[chain[-1]]["link"]:
        assert back[following]["link"] == chain[-1]
        chain.append(following)
    assert sorted(chain) == sorted(pages)
    chapters = [page for page in chain if page.startswith("notebooks/")]
    others = [page for page in pages if page.startswith("notebooks/") and page not in module.READ]
    assert chapters == [*module.READ, *others]
    assert chain.index("book/start") + 1 == chain.index(chapters[0])
    assert forth[chapters[0]]["title"] == f"3. {chapters[1].upper()}"


def test_the_page_to_start_at_names_the_chapters_in_the_order_to_be_read():
    start = (ROOT / "book" / "start.md").read_text(encoding="utf-8")
    named = dict.fromkeys(re.findall(r"\]\(\.\./(notebooks/\w+)\.ipynb\)", start))
    assert tuple(named) == script("book/_ext/mended_pages.py").READ


def test_a_named_tuples_fields_stay_off_the_page_of_the_package():
    module = script("book/_ext/mended_pages.py")
    assert module.is_left_out(None, "class", "x0", Prediction.x0, False, {}) is True
    assert module.is_left_out(None, "class", "Prediction", Prediction, False, {}) is None


def test_the_first_of_several_cells_with_a_tag_is_its_target():
    module = script("book/_ext/cell_anchors.py")
    labels = SimpleNamespace(anonlabels={}, labels={})
    document = new_document("notebooks/07_mine")
    first, second = (nodes.container(classes=["cell", "tag_C1-verdict"]) for _ in range(2))
    document += [first, second]
    env = SimpleNamespace(docname="notebooks/07_mine", get_domain=lambda name: labels)
    module.note_cells(SimpleNamespace(env=env), document)
    assert (first["ids"], second["ids"]) == (["07_mine-c1-verdict"], [])
    assert labels.labels == {"07_mine-c1-verdict": ("notebooks/07_mine", "07_mine-c1-verdict", "C1-verdict")}


@pytest.fixture
def lab_files(tmp_path, monkeypatch):
    """The extension that writes the lab's files, where exports are b"export 1", b"export 2" and so on."""
    module = script("book/_ext/lab_files.py")
    (tmp_path / "onnx.py").write_text("# the export")
    made = iter(range(1, 10))
    export = SimpleNamespace(__file__=tmp_path / "onnx.py", onnx_file=lambda model: f"export {next(made)}".encode())
    monkeypatch.setattr(module, "onnx", export)
    monkeypatch.setattr(module, "KEPT", tmp_path)
    monkeypatch.setattr(module, "ddpm", SimpleNamespace(load=lambda *args, **options: None))
    return module


def test_a_network_is_exported_again_when_the_export_has_changed(lab_files, tmp_path):
    assert [lab_files.exported("fashion-mnist") for _ in range(2)] == [b"export 1"] * 2
    (tmp_path / "onnx.py").write_text("# another export")
    assert lab_files.exported("fashion-mnist") == b"export 2"


def test_the_lab_says_how_much_is_loaded_in_base64(lab_files, monkeypatch):
    monkeypatch.setattr(lab_files, "exported", lambda name: bytes(6_000_000))
    scripts = lab_files.files()
    offered = json.loads(scripts["networks.js"].decode().removeprefix("labNetworks = ").rstrip(";\n"))
    assert {network["megabytes"] for network in offered.values()} == {8}
    assert round(len(scripts["fashion-mnist.onnx.js"]) / 1e6) == 8
