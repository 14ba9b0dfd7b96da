"""The chapters' explorers, as people use them."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import HTML, PHONE

CHAPTERS = sorted(f"notebooks/{path.stem}" for path in (HTML.parents[1] / "notebooks").glob("*.ipynb"))
STRIPS = json.loads((HTML.parents[1] / "book" / "explorers" / "explorers.json").read_text(encoding="utf-8"))

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_keyboard_turns_the_knob(chapter, visit):
    page = visit(chapter, PHONE)
    explorer = page.locator(".explorer").first
    strip, view = explorer.locator("img"), explorer.locator(".explorer-window")
    facts = STRIPS[strip.evaluate("strip => strip.src.match(/([\\w-]+)\\.png/)[1]")]
    assert explorer.locator(".explorer-rows span").all_inner_texts() == facts["rows"]
    slider, now = explorer.get_by_label(facts["knob"], exact=True), explorer.locator(".explorer-setting")
    assert now.inner_text() == facts["settings"][0]
    width = view.bounding_box()["width"]
    assert width > 200
    first = strip.bounding_box()
    assert first["x"] == pytest.approx(view.bounding_box()["x"], abs=0.5)
    slider.press("ArrowRight")
    assert now.inner_text() == slider.get_attribute("aria-valuetext") == facts["settings"][1]
    assert first["x"] - strip.bounding_box()["x"] == pytest.approx(width * 132 / 128, abs=0.5)
    slider.press("End")
    assert now.inner_text() == facts["settings"][-1]
    ends = [box["y"] + box["height"] for box in (strip.bounding_box(), view.bounding_box())]
    assert ends[0] == pytest.approx(ends[1], abs=0.5)
    across = (len(facts["settings"]) - 1) % 4
    assert first["x"] - strip.bounding_box()["x"] == pytest.approx(across * width * 132 / 128, abs=0.5)


def test_an_explorer_plays_when_it_is_told_to(visit):
    page = visit(CHAPTERS[0], PHONE)
    explorer = page.locator(".explorer").first
    button, slider = explorer.get_by_role("button", name="play"), explorer.locator("input")
    settings = STRIPS["walk"]["settings"]
    page.wait_for_timeout(1000)
    assert slider.get_attribute("aria-valuetext") == settings[0]  # it never begins by itself
    slider.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(slider).to_have_attribute("aria-valuetext", settings[2], timeout=5000)
    explorer.get_by_role("button", name="pause").click()
    stopped = slider.get_attribute("aria-valuetext")
    page.wait_for_timeout(1000)
    assert slider.get_attribute("aria-valuetext") == stopped
    slider.press("End")
    button.click()
    assert slider.get_attribute("aria-valuetext") == settings[0]  # from the beginning
    slider.evaluate("slider => (slider.value = slider.max - 1)")
    expect(slider).to_have_attribute("aria-valuetext", settings[-1], timeout=5000)
    expect(button).to_be_visible()  # and ends there
    assert visit(CHAPTERS[0], reduced_motion="reduce").get_by_role("button", name="play").count() == 0


def test_on_paper_the_whole_strip_stands_and_then_the_explorer_again(visit):
    page = visit(CHAPTERS[0])
    page.locator(".explorer input").first.press("End")
    looks = """() => [document.querySelectorAll(".explorer").length,
        document.querySelector("img[data-explorer]").style.cssText]"""
    before = page.evaluate(looks)
    page.evaluate(f"addEventListener('beforeprint', () => (window.inPrint = ({looks})()))")
    page.pdf()
    assert page.evaluate("window.inPrint") == [0, ""]
    assert page.evaluate(looks) == before


def test_without_scripts_the_whole_strip_stands(visit):
    strip = visit(CHAPTERS[0], PHONE, java_script_enabled=False).locator("img[data-explorer]")
    box = strip.bounding_box()
    assert 300 < box["width"] <= 390
    assert box["width"] / box["height"] == pytest.approx(
        strip.evaluate("img => img.naturalWidth / img.naturalHeight"), rel=0.02
    )
