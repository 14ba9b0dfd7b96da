"""The chapters' explorers, as people use them."""

import json

import pytest

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


def test_without_scripts_the_whole_strip_stands(visit):
    strip = visit(CHAPTERS[0], PHONE, java_script_enabled=False).locator("img[data-explorer]")
    box = strip.bounding_box()
    assert 300 < box["width"] <= 390
    assert box["width"] / box["height"] == pytest.approx(
        strip.evaluate("img => img.naturalWidth / img.naturalHeight"), rel=0.02
    )
