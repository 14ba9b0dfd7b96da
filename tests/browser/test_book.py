"""The built book as people meet it, in Chromium with the network off: `make test-browser`."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import FAULTS_ALONE, HTML, PHONE
from tests.checkout import ROOT

PAGES = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
SOURCES = ["_modules/index", "_modules/ddpm/samplers"]
CHAPTERS = [name for name in PAGES if name.startswith("notebooks/")]
OVERFLOWING = "parts => parts.filter(part => part.scrollWidth > part.clientWidth + 1)"

NARROW = {"width": 320, "height": 568}  # as a laptop's page at 400 %
CUT_FORMULAS = """() => [...document.querySelectorAll("main span.math:not(.wide) mjx-math")].filter(formula =>
    formula.getBoundingClientRect().right > formula.closest("span.math").getBoundingClientRect().right + 3)"""

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(name, visit):
    page = visit(name)
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    asked, rendered = page.locator(".math").count(), page.locator("mjx-container").count()
    assert rendered >= asked
    page.evaluate("document.querySelectorAll('details').forEach(details => (details.open = true))")
    for image in page.locator("main img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert len(image.get_attribute("alt") or "") > 20, image.get_attribute("src")


@pytest.mark.parametrize("name", [*PAGES, "genindex"])
def test_a_page_fits_a_phone(name, visit):
    page = visit(name, PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.set_viewport_size(NARROW)
    page.evaluate("document.querySelectorAll('details').forEach(details => (details.open = true))")
    page.wait_for_function(f"!({CUT_FORMULAS})().length")
    scrolled = page.locator("main span.math.wide").evaluate_all(
        "all => all.map(part => getComputedStyle(part).overflowX)"
    )
    assert set(scrolled) <= {"auto"}
    assert scrolled or name != "notebooks/03_round_trip"
    page.evaluate("document.querySelectorAll('details').forEach(details => (details.open = false))")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    if name == "genindex":
        page.set_viewport_size({"width": 640, "height": 450})
        assert page.evaluate("document.documentElement.scrollWidth") <= 640


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_open_to_everyone(name, visit):
    """By all rules as it opens, and in the dark by those of colour: the themes differ in nothing else."""
    page = visit(name)
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert serious_faults(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    faded = "document.getAnimations().map(change => change instanceof CSSTransition && change.finished)"
    page.evaluate(f"Promise.all({faded})")
    assert serious_faults(page, runOnly=["color-contrast", "link-in-text-block"]) == []


def serious_faults(page, **options):
    """What axe finds, each with the element."""
    found = Axe().run(page, options=FAULTS_ALONE | options).response["violations"]
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


class Links(HTMLParser):
    """Where a page leads, and what on it can be led to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.ids, self.files = [], set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.targets.append(given["href"])
        self.files |= {given[name] for name in ("src", "srcset") if tag in ("img", "source") and given.get(name)}


@pytest.fixture(scope="session")
def links():
    return {path: Links(path) for path in HTML.rglob("*.html") if "_static" not in path.parts}


@pytest.mark.parametrize("name", [*PAGES, *SOURCES])
def test_every_link_inside_the_book_resolves(name, links):
    path = HTML / f"{name}.html"
    for target in links[path].targets:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert goal.is_file(), target
        if parts.fragment and goal.suffix == ".html":
            assert unquote(parts.fragment) in links[goal].ids, target


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light(name, links):
    path = HTML / f"{name}.html"
    files = [path, *((path.parent / unquote(file)) for file in links[path].files if not file.startswith("data:"))]
    assert sum(file.stat().st_size for file in files) <= 1.5e6


@pytest.mark.parametrize(("motion", "shown"), [("no-preference", "denoising.webp"), ("reduce", "samples.png")])
def test_a_film_stands_still_for_those_who_prefer_that(motion, shown, visit):
    page = visit("book/index", reduced_motion=motion)
    asked_for = "performance.getEntriesByType('resource').some(each => /denoising/.test(each.name))"
    assert not page.evaluate(asked_for)
    page.locator("details.film summary").click()
    film = page.locator("details.film img")
    expect(film).to_be_visible()
    assert film.evaluate("image => image.decode().then(() => image.currentSrc)").endswith(shown)


def test_a_functions_code_is_one_click_from_its_reference(visit):
    page = visit("book/api")
    page.locator("dt[id='ddpm.samplers.ancestral']").get_by_text("[source]").click()
    page.wait_for_url("**/_modules/ddpm/samplers.html#ancestral")
    code = page.locator("#ancestral")
    expect(code).to_contain_text("def ancestral(")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    code.get_by_text("[docs]").click()
    page.wait_for_url("**/book/api.html#ddpm.samplers.ancestral")


def test_search_finds_ddim(visit):
    page = visit("search", query="?q=DDIM")
    expect(page.locator("#search-results li").first).to_be_visible(timeout=20_000)
    assert "DDIM" in page.locator("#search-results").inner_text()


def test_the_ledger_filters(visit):
    page = visit("book/ledger")
    rows = page.locator("table.ledger tbody tr:visible")
    total = rows.count()
    assert total == page.locator("table.ledger tbody tr").count() > 50
    page.get_by_label("Verdict").select_option("corrected")
    corrected = rows.count()
    assert 0 < corrected < total
    page.get_by_label("Words").fill("langevin ddpm")
    assert 0 < rows.count() < corrected
    for row in rows.all():
        assert "corrected" in row.inner_text()
        assert "langevin" in row.inner_text().lower()
    expect(page.locator(".ledger-filter output")).to_have_text(f"{rows.count()} of {total} claims")
    page.emulate_media(media="print")
    expect(page.locator(".ledger-filter")).not_to_be_visible()
    assert rows.first.evaluate("row => getComputedStyle(row).breakInside") == "avoid"

    page = visit("book/ledger", query="?verdict=holds")
    page.get_by_label("Chapter").select_option("2")
    rows = page.locator("table.ledger tbody tr:visible")
    assert rows.count() > 0
    for row in rows.all():
        assert "(chapter 2)" in row.inner_text()
        assert row.get_attribute("data-verdict") == "holds"


def test_the_theme_switches_and_stays(visit):
    page = visit("book/index")
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    for _ in range(3):  # auto, light, dark
        page.locator(".theme-switch-button:visible").click()
        if page.evaluate(background) != before:
            break
    assert page.evaluate(background) != before
    after = page.evaluate("document.documentElement.dataset.theme")
    page.reload()
    page.wait_for_function(f"document.documentElement.dataset.theme === '{after}'")  # scripts settle it after the load


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_only_checks_is_closed_and_opens(chapter, visit):
    page = visit(chapter)
    folded = page.locator(".tag_hide-input").last
    code = folded.locator(".cell_input pre")
    expect(code).not_to_be_visible()
    folded.locator("summary").first.click()
    expect(code).to_be_visible()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_quiz_answers(chapter, visit):
    page = visit(chapter)
    answers = page.locator("details.answer")
    assert answers.count() == 9  # three questions
    verdicts = []
    for answer in answers.all():
        text = answer.locator("p").first
        expect(text).not_to_be_visible()
        answer.locator("summary").click()
        expect(text).to_be_visible()
        verdicts.append(text.inner_text())
    assert sum(verdict.startswith("Yes") for verdict in verdicts) == 3


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_fold_says_what_is_in_it(name, visit):
    page = visit(name)
    folds = page.locator("details.hide")
    said = [fold.locator("summary p").first.inner_text() for fold in folds.all()]
    assert not [words for words in said if "code cell" in words]
    for fold, words in zip(folds.all(), said, strict=True):
        code = fold.evaluate("fold => [...fold.children].slice(1).map(part => part.textContent).join()")
        if "figure" in words:
            assert fold.locator("xpath=..").locator("img").count() == 1
        if words.endswith("checks"):
            assert "check" in code
        elif words == "Show the code":
            assert "check(" not in code
        elif words == "Show the table of claims":
            assert fold.locator("table").count() == 1
    assert {"Show the checks", "Show all numbers"} <= set(said)
    assert said.count("Show the table of claims") == (name != CHAPTERS[0])
    assert page.locator("summary[aria-label]").count() == 0  # it would be read out instead of these words
    assert page.locator("details.hide + details.hide").count() == 0  # a cell has one fold


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_box_opens_by_the_keyboard_and_on_paper(name, visit):
    page = visit(name)
    boxes = page.locator("details.box")
    titles = boxes.locator("summary").all_inner_texts()
    assert len(set(titles)) == len(titles) > 0
    for box in boxes.all():
        expect(box.locator("p, ul").first).not_to_be_visible()
    boxes.last.locator("summary").press("Enter")
    expect(boxes.last.locator("p").first).to_be_visible()
    count_open = "document.querySelectorAll('details.box[open]').length"
    page.evaluate(f"addEventListener('beforeprint', () => (window.inPrint = {count_open}))")
    page.pdf()
    assert page.evaluate(f"[window.inPrint, {count_open}]") == [len(titles), 1]


def test_a_dark_page_is_printed_in_dark_ink(visit):
    page = visit(CHAPTERS[0], theme="dark")
    page.evaluate("addEventListener('beforeprint', () => (window.inPrint = document.documentElement.dataset.theme))")
    page.pdf()
    assert page.evaluate("[window.inPrint, document.documentElement.dataset.theme]") == ["light", "dark"]
    page.emulate_media(media="print")
    cell = page.locator("div.cell_input").first
    assert cell.evaluate("cell => getComputedStyle(cell).breakInside") == "avoid"
    assert page.locator("details.hide.above-input:not([open]):visible").count() == 0


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_keyboard_stops_at_formulas_and_figures_only_where_they_scroll(chapter, visit):
    page = visit(chapter, PHONE)
    page.evaluate("document.querySelectorAll('details.box').forEach(box => (box.open = true))")
    assert page.locator("mjx-container[tabindex]").count() == 0
    inner = page.locator("main div.math mjx-container")
    assert set(inner.evaluate_all("all => all.map(part => getComputedStyle(part).overflowX)")) <= {"visible"}
    scrolled = page.locator("main div.math, div.cell_output figure")
    page.wait_for_function(
        """() => [...document.querySelectorAll("main div.math, div.cell_output figure:not(:has(a))")].every(
            part => part.tabIndex === (part.scrollWidth > part.clientWidth ? 0 : -1))"""
    )
    unreachable = "parts.filter(part => part.tabIndex < 0 && !part.querySelector('a')).map(part => part.outerHTML)"
    assert scrolled.evaluate_all(f"all => {{ const parts = ({OVERFLOWING})(all); return {unreachable}; }}") == []
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function("!document.querySelector('div.cell_output figure[tabindex]')")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_figure_on_a_phone_is_scrolled_and_can_be_read(chapter, visit):
    page = visit(chapter, PHONE)
    for figure in page.locator("div.cell_output figure").all():
        drawn = figure.locator("img").evaluate("image => image.naturalWidth / 2")  # at two dots a pixel
        assert figure.locator("img").bounding_box()["width"] == pytest.approx(drawn, abs=1.5)
        assert figure.bounding_box()["width"] <= PHONE["width"]
        figure.evaluate("figure => figure.scrollTo(figure.scrollWidth, 0)")
        caption = figure.locator("figcaption").bounding_box()
        assert caption["x"] >= 0
        assert caption["x"] + caption["width"] <= PHONE["width"]


def test_the_keyboard_is_seen_on_the_buttons_above_a_page(visit):
    page = visit(CHAPTERS[0])
    page.keyboard.press("Tab")
    buttons = page.locator(".bd-header-article .btn:visible").all()
    assert len(buttons) > 2
    for button in buttons:
        button.focus()
        outline = button.evaluate(
            "button => [getComputedStyle(button).outlineStyle, getComputedStyle(button).outlineWidth]"
        )
        assert outline == ["solid", "3px"]
    page.emulate_media(forced_colors="active")
    link = page.locator(".bd-sidebar-primary a.reference.internal").first
    link.focus()
    assert link.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"


@pytest.mark.parametrize("name", [CHAPTERS[0], CHAPTERS[5], "book/glossary"])
def test_only_an_empty_heading_of_a_table_is_hidden(name, visit):
    heads = visit(name).locator("main table:not(details *) thead")
    said = heads.evaluate_all("all => all.map(head => [!head.textContent.trim(), head.offsetHeight === 0])")
    assert said
    assert all(is_empty == is_hidden for is_empty, is_hidden in said)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_wide_tables_suit_a_laptop(chapter, visit):
    page = visit(chapter, {"width": 1440, "height": 900})
    tables = page.locator(".pst-scrollable-table-container:not(details *)")
    assert tables.evaluate_all(f"all => ({OVERFLOWING})(all).length") == 0


@pytest.mark.parametrize("screen", [{"width": 1440, "height": 900}, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_figure_is_shown_at_its_size_wherever_it_is_read(chapter, screen, visit):
    page = visit(chapter, screen)
    page.evaluate("document.querySelectorAll('details').forEach(details => (details.open = true))")
    figures = page.locator("div.cell_output figure img")
    assert figures.count() > 2
    sizes = figures.evaluate_all(
        """all => Promise.all(all.map(async image => {
            image.loading = "eager"; await image.decode();
            return [image.naturalWidth, image.naturalHeight, image.offsetWidth, image.offsetHeight];
        }))"""
    )
    for width, height, *shown in sizes:
        assert shown == [pytest.approx(width / 2, abs=1.5), pytest.approx(height / 2, abs=1.5)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_fits_a_laptops_page(chapter, visit):
    page = visit(chapter)
    page.evaluate("document.querySelectorAll('details').forEach(details => (details.open = true))")
    cut = page.locator("div.cell_input pre").evaluate_all(f"all => ({OVERFLOWING})(all).map(each => each.textContent)")
    assert [code for code in cut if max(map(len, code.splitlines())) <= 86] == []


def test_tables_with_code_fit_a_phone(visit):
    for name in ("book/glossary", CHAPTERS[0]):
        tables = visit(name, PHONE).locator(".pst-scrollable-table-container:has(td code)")
        assert tables.count() > 0
        assert tables.evaluate_all(f"all => ({OVERFLOWING})(all).length") == 0


def test_measured_numbers_stay_whole(visit):
    page = visit("notebooks/03_round_trip", PHONE)
    numbers = page.locator("div.cell_output blockquote strong")
    assert numbers.count() > 5
    assert numbers.evaluate_all("all => all.filter(each => each.getClientRects().length > 1).length") == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is(name):
    head = (HTML / f"{name}.html").read_text(encoding="utf-8").partition("</head>")[0]
    (title,) = re.findall("<title>(.+)</title>", head)
    assert title.count("Diffusion models, run line by line") == 1
    about = re.findall('<meta name="description" content="([^"]*)"', head)
    assert len(about) == 1
    assert all(30 < len(each) < 400 for each in about)
    assert re.findall('<meta property="og:description" content="([^"]*)"', head) == about
    (icon,) = re.findall('<link rel="icon" href="([^"]+)"', head)
    assert ((HTML / name).parent / icon).stat().st_size < 5000


def test_the_books_own_address_says_what_it_is():
    start = (HTML / "index.html").read_text(encoding="utf-8")
    assert '<html lang="en">' in start
    assert "<title>Diffusion models, run line by line</title>" in start
    assert re.search('<meta name="description" content="[^"]{30,}"', start)
    assert 'content="0; url=book/index.html"' in start


def test_the_sidebar_and_the_page_number_the_chapters(visit):
    page = visit(CHAPTERS[4])
    assert page.title().startswith("4. ")
    expect(page.locator(".chapter")).to_have_text("Chapter 4")
    assert re.match(r"1\. ", page.locator(".right-next .prev-next-title").inner_text())
    entries = page.locator(".bd-sidebar-primary a.reference.internal").all_inner_texts()
    assert [entry[:3] for entry in entries if re.match(r"\d", entry)] == [f"{int(name[10:12])}. " for name in CHAPTERS]
    assert page.locator(".bd-sidebar-primary .current a.current").inner_text().startswith("4. ")
