"""The decks of slides as a lecturer opens them, in Chromium with the network off."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import FAULTS_ALONE, HTML

DECKS = sorted(path.stem for path in (HTML.parents[1] / "notebooks").glob("0*.ipynb"))
SCREEN = {"width": 1280, "height": 720}

pytestmark = pytest.mark.browser


def opened(visit, name, query=""):
    page = visit(f"slides/{name}", SCREEN, query=query)
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    return page


@pytest.mark.parametrize("name", DECKS)
def test_every_slide_fits_the_screen_and_is_whole(name, visit):
    page = opened(visit, name)
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator("mjx-container").count() >= page.locator(".math:not(.notes .math)").count()
    too_large = page.evaluate(
        """() => Array.from({ length: Reveal.getTotalSlides() }, (_, i) => {
            Reveal.slide(i);
            const { scrollWidth, scrollHeight } = Reveal.getCurrentSlide();
            return scrollWidth > 1290 || scrollHeight > 720 ? i : -1;
        }).filter(i => i >= 0)"""
    )
    assert too_large == []
    cut_off = page.evaluate(
        """() => Array.from({ length: Reveal.getTotalSlides() }, (_, i) => {
            Reveal.slide(i);
            const parts = Reveal.getCurrentSlide().querySelectorAll("pre, div.math, table");
            return [...parts].some(part => !part.closest("aside") && part.scrollWidth > part.clientWidth + 1) ? i : -1;
        }).filter(i => i >= 0)"""
    )
    assert cut_off == []
    for image in page.locator("section img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert len(image.get_attribute("alt") or "") > 20


@pytest.mark.parametrize("name", DECKS)
def test_a_deck_is_open_to_everyone(name, visit):
    page = opened(visit, name)
    for slide in (0, 4, 9):
        page.evaluate("slide => Reveal.slide(slide)", slide)
        found = Axe().run(page, options=FAULTS_ALONE).response["violations"]
        violations = [each["help"] for each in found if each["impact"] in ("serious", "critical")]
        assert not violations


@pytest.mark.parametrize("name", DECKS)
def test_a_slides_text_is_as_large_as_fits_and_its_title_stands_still(name, visit):
    page = opened(visit, name)
    sizes, tops = page.evaluate(
        """() => {
            const slides = Array.from({ length: Reveal.getTotalSlides() }, (_, i) => {
                Reveal.slide(i);
                const slide = Reveal.getCurrentSlide();
                return [parseFloat(slide.style.fontSize), slide.querySelector("h2")?.getBoundingClientRect().top];
            });
            return [slides.map(([size]) => size), slides.map(([, top]) => top).filter((top) => top)];
        }"""
    )
    assert max(tops) - min(tops) < 10
    assert sizes.count(30) >= 0.8 * len(sizes)
    assert min(sizes) >= 21
    arrow, number = (page.locator(f".reveal {part}").bounding_box() for part in (".navigate-right", ".slide-number"))
    assert number["x"] + number["width"] < arrow["x"]


@pytest.mark.parametrize("name", DECKS)
def test_a_figure_is_as_large_as_its_slide_allows(name, visit):
    page = opened(visit, name)
    figures = page.evaluate(
        """() => [...document.querySelectorAll("section")].map((slide, i) => {
            const image = slide.querySelector("img");
            if (!image) return null;
            Reveal.slide(i);
            const { width, height } = image.getBoundingClientRect(), scale = Reveal.getScale();
            return { i: i + 1, tall: image.width < 1.5 * image.height, width: width / scale, height: height / scale };
        }).filter(Boolean)"""
    )
    assert figures
    for figure in figures:
        assert figure["width"] > 1200 or figure["height"] > (580 if figure["tall"] else 500), figure


def test_a_full_stop_never_begins_a_line_because_a_formula_ends_the_one_before(visit):
    page = opened(visit, DECKS[1])
    begun = page.evaluate(
        """() => {
            let begun = 0;
            document.querySelectorAll("section:has(> p .kept)").forEach((slide) => {
                slide.style.cssText = "display: block; font-size: 30px";
                for (let width = 300; width < 1200; width += 50) {
                    slide.style.width = `${width}px`;
                    for (const kept of slide.querySelectorAll(":scope > p .kept")) {
                        const stop = document.createRange();
                        stop.selectNodeContents(kept.lastChild);
                        const formula = kept.querySelector("mjx-container").getBoundingClientRect();
                        if (stop.getBoundingClientRect().left < formula.left) begun += 1;
                    }
                }
            });
            return begun;
        }"""
    )
    assert begun == 0


def test_the_text_keeps_away_from_the_edge_of_the_screen(visit):
    page = opened(visit, DECKS[1])
    assert page.locator("section.present h1").bounding_box()["x"] >= 40


def test_a_short_deck_leaves_out_the_questions(visit):
    whole, short = opened(visit, DECKS[1]), opened(visit, DECKS[1], "?short")
    printed = opened(visit, DECKS[1], "?short?print-pdf")  # as somebody writes it who adds to the address
    assert printed.locator("section.extra").count() == 0
    extra, none = (page.locator("section.extra").count() for page in (whole, short))
    slides, left = (page.evaluate("Reveal.getTotalSlides()") for page in (whole, short))
    assert (none, left) == (0, slides - extra)
    assert left < slides
    headings = short.locator("section h2").all_inner_texts()
    assert "Question" not in headings
    assert {"Predict first", "In short"} < set(headings)


def test_the_keyboard_turns_slides_and_opens_the_speakers_notes(visit):
    page = opened(visit, DECKS[3])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("section.present h2")).to_have_text("Predict first")
    with page.expect_popup() as notes:
        page.keyboard.press("s")
    expect(notes.value.locator(".speaker-controls-notes")).to_contain_text("Collect the guesses", timeout=20_000)


def test_a_deck_starts_though_its_formulas_cannot_be_typeset(chromium):
    page = chromium.new_page(viewport=SCREEN)
    failed = "{ startup: { promise: Promise.reject(new Error('no fonts')) } }"
    page.add_init_script(f"Object.defineProperty(window, 'MathJax', {{ value: {failed} }})")
    page.goto((HTML / "slides" / f"{DECKS[1]}.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    page.close()
