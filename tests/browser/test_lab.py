"""The lab: its samplers against the package's, state by state, and its bench as people use it."""

import re

import pytest
import torch
from playwright.sync_api import expect

import ddpm
from tests.browser import lab_vectors
from tests.browser.conftest import PHONE


def test_the_vectors_are_what_the_package_computes():
    for kept, computed in zip(lab_vectors.kept(), lab_vectors.computed(), strict=True):
        assert kept["setup"] == computed["setup"]
        assert kept["states"] == [pytest.approx(state, rel=0, abs=1e-8) for state in computed["states"]]


@pytest.mark.browser
def test_every_state_of_a_walk_is_the_packages(visit):
    page = visit("book/lab")
    for walk in lab_vectors.kept():
        states = page.evaluate(
            "async setup => (await walked({ ...FIRST, ...setup })).walk.slice(1).map(({ x }) => [...x])", walk["setup"]
        )
        assert len(states) == len(walk["states"])
        for ours, theirs in zip(states, walk["states"], strict=True):
            assert ours == pytest.approx(theirs, rel=0, abs=1e-6), walk["setup"]


@pytest.mark.browser
@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("each", [2, 21, 1024])
def test_a_seed_means_the_same_noise(seed, each, visit):
    """One by one below 16 numbers, by sixteen from there on, with the odd end drawn again: as torch does."""
    page = visit("book/lab")
    draw = "([seed, each]) => { const draw = perSampleNoise(seed, each), x = new Float64Array(3 * each); "
    twice = page.evaluate(draw + "return [[...draw(x)], [...draw(x)]]; }", [seed, each])
    noise = ddpm.noise.PerSampleNoise(seed)
    for drawn in twice:
        assert drawn == pytest.approx(noise(torch.empty(3, each)).flatten().tolist(), abs=2e-6)


SETUPS = [
    {"sampler": "ddim", "eta": 0.5},
    {"sampler": "heun", "schedule": "straight", "spacing": "log_snr"},
    {"sampler": "flow_and_langevin", "lambda": 0.25, "told": "1", "weight": 1},
    {"sampler": "dpm_solver_pp", "spacing": "karras", "told": "2", "weight": 2.5},
    {"sampler": "annealed_langevin", "stepSize": 0.25},
    {"sampler": "langevin", "stepSize": 0.25},
]


@pytest.mark.browser
@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup["sampler"])
def test_the_program_that_is_shown_draws_the_same_points(setup, visit):
    page = visit("book/lab")
    asked = {"points": 50, "steps": 9, "seed": 4} | setup
    program, points = page.evaluate(
        """async asked => {
            const setup = { ...FIRST, ...asked }, { walk } = await walked(setup);
            return [pythonOf(setup), [...walk.at(-1).x]];
        }""",
        asked,
    )
    names = {}
    exec(program, names)
    drawn = names.get("points", names.get("x"))
    assert drawn.flatten().tolist() == pytest.approx(points, abs=1e-3)


@pytest.mark.browser
def test_a_link_holds_everything_and_what_is_not_legal_in_it_is_as_at_first(visit):
    page = visit("book/lab")
    changed = {
        "bumps": [{"weight": 0.5, "mean": [-2, 1.25], "std": 0.1}, {"weight": 1, "mean": [3, -3], "std": 1}],
        "sampler": "heun", "schedule": "straight", "spacing": "log_snr", "steps": 3, "eta": 0.5, "lambda": 2,
        "stepSize": 0.05, "told": "1", "weight": 3.5, "points": 50, "seed": 11, "trails": False,
    }  # fmt: skip
    assert page.evaluate("setup => setupOf(linkOf(setup))", changed) == changed
    first = page.evaluate("FIRST")
    assert changed.keys() == first.keys()
    wrong = "bumps=1_2&sampler=euler&schedule=cosine&spacing=even&steps=0&eta=2&lambda=x&stepSize=&told=9&weight=NaN"
    for query in (
        "",
        "?",
        f"?{wrong}&points=1e9&seed=-1",
        "?told=3",
        "?bumps=NaN_0_0_0.2",
        "?bumps=" + "*".join(["1_0_0_1"] * 9),
    ):
        assert page.evaluate("query => setupOf(query)", query) == first, query


@pytest.mark.browser
def test_a_link_is_followed_and_kept_up_to_date(visit):
    page = visit("book/lab", query="?sampler=heun&steps=9&points=50&seed=5#plane")
    numbers = page.locator(".lab-numbers")
    expect(numbers).to_contain_text("17 calls")
    assert page.locator("[name=sampler]").input_value() == "heun"
    page.locator("[name=sampler]").select_option("ancestral")
    expect(numbers).to_contain_text("9 calls")
    assert "sampler=ancestral" in page.url
    assert "seed=5" in page.url


@pytest.mark.browser
def test_one_step_along_straight_paths_ends_in_one_place(visit):
    """Chapter 6's F4, as the bench shows it: the data's mean, which lies about 1 from the density."""
    page = visit("book/lab", query="?schedule=straight&steps=1")
    expect(page.locator(".lab-numbers")).to_contain_text("the end is 0.9")
    page.locator("[name=steps]").fill("100")
    expect(page.locator(".lab-numbers")).to_contain_text("the end is 0.0")


@pytest.mark.browser
def test_the_keyboard_alone_plays_steps_and_moves_a_bump(visit):
    page = visit("book/lab", query="?points=50&steps=9")
    numbers = page.locator(".lab-numbers")
    expect(numbers).to_contain_text("state 9 of 9")
    page.locator(".lab-plane canvas").focus()
    page.keyboard.press("Space")
    expect(page.locator("button[name=play]")).to_have_text("pause")
    expect(numbers).to_contain_text("state 9 of 9", timeout=10_000)
    expect(page.locator("button[name=play]")).to_have_text("play")
    page.locator("button[name=back]").press("Enter")
    expect(numbers).to_contain_text("state 8 of 9")
    before = page.url
    page.locator(".lab-plane canvas").press("ArrowRight")
    expect(numbers).to_contain_text("state 9 of 9")
    assert "bumps=0.2_-1.4_" in page.url
    assert page.url != before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "back"


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desktop"])
def test_a_bump_is_dragged(viewport, visit):
    page = visit("book/lab", viewport, query="?points=50&steps=9")
    expect(page.locator(".lab-numbers")).to_contain_text("state 9 of 9")
    canvas = page.locator(".lab-plane canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def at(x, y):
        return box["x"] + (x / 3.2 + 1) / 2 * box["width"], box["y"] + (1 - y / 3.2) / 2 * box["height"]

    page.mouse.move(*at(-1.5, -0.8))
    page.mouse.down()
    page.mouse.move(*at(-2, 0), steps=4)
    page.mouse.up()
    x, y = re.search(r"bumps=0\.2_(-?[\d.]+)_(-?[\d.]+)_", page.url).groups()
    assert abs(float(x) + 2) < 0.05
    assert abs(float(y)) < 0.05


@pytest.mark.browser
def test_without_scripts_the_page_says_what_it_would_do(visit):
    page = visit("book/lab", java_script_enabled=False)
    expect(page.locator(".lab-plane")).to_contain_text("This bench needs JavaScript")
