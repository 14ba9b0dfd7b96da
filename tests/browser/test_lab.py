"""The lab: its samplers against the package's, state by state, and its bench as people use it."""

import re

import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

import ddpm
from ddpm.denoiser import NetworkDenoiser
from ddpm.interop.onnx import export_onnx
from ddpm.schedule import linear_zero_snr
from ddpm.unet import UNet, UNetConfig
from tests.browser import lab_vectors
from tests.browser.conftest import PHONE


@pytest.mark.parametrize(
    ("bench", "computed", "exactness"),
    [("plane", lab_vectors.computed, 1e-8), ("garments", lab_vectors.computed_garments, 2e-5)],
    ids=["plane", "garments"],
)
def test_the_vectors_are_what_the_package_computes(bench, computed, exactness):
    for kept, now in zip(lab_vectors.kept(bench), computed(), strict=True):
        assert kept["setup"] == now["setup"]
        assert kept["states"] == [pytest.approx(state, rel=0, abs=exactness) for state in now["states"]]


@pytest.mark.browser
def test_every_state_of_a_walk_is_the_packages(visit):
    page = visit("book/lab")
    for walk in lab_vectors.kept("plane"):
        states = page.evaluate(
            "async setup => (await walked({ ...FIRST, ...setup })).walk.slice(1).map(({ x }) => [...x])", walk["setup"]
        )
        assert len(states) == len(walk["states"])
        for ours, theirs in zip(states, walk["states"], strict=True):
            assert ours == pytest.approx(theirs, rel=0, abs=1e-6), walk["setup"]


@pytest.mark.browser
def test_every_state_of_two_garments_is_the_packages(visit):
    page = visit("book/lab")
    page.evaluate("async name => { window.network = await NetworkDenoiser.shipped(name); }", lab_vectors.NETWORK)
    for walk in lab_vectors.kept("garments"):
        setup = {"spacing": "trailing", "seed": lab_vectors.SEED, "steps": 3} | walk["setup"]
        states = page.evaluate(
            """async ([{ sampler, spacing, seed, steps }, stride]) => {
                const grid = network.schedule.timesteps(steps, spacing);
                const randnLike = perSampleNoise(seed, network.pixels);
                const walk = { ddim, ancestral, heun, dpm_solver_pp: dpmSolverPp }[sampler];
                const x = randnLike(new Float64Array(2 * network.pixels)), states = [];
                for await (const step of walk(network, x, grid, { randnLike }))
                    states.push([...step.x].filter((_, i) => i % stride === 0));
                return states;
            }""",
            [setup, lab_vectors.PIXELS],
        )
        assert len(states) == len(walk["states"])
        for ours, theirs in zip(states, walk["states"], strict=True):
            assert ours == pytest.approx(theirs, rel=0, abs=1e-4), walk["setup"]


@pytest.mark.browser
def test_garments_are_drawn_and_go_to_noise_and_back(visit, tmp_path):
    page = visit("book/lab")
    bench = page.locator(".lab-garments")
    said = bench.locator(".lab-numbers")
    expect(said).to_contain_text("Nothing is loaded yet")
    assert not page.evaluate("performance.getEntriesByType('resource').some(entry => entry.name.includes('files/'))")
    bench.locator("button[name=trip]").click()  # nothing to take there yet
    expect(said).to_contain_text("there is no picture yet", timeout=60_000)
    bench.locator("[name=model]").select_option("equal-diffusion")
    bench.locator("[name=steps]").fill("3")
    bench.locator("[name=count]").fill("2")
    bench.locator("button[name=draw]").click()
    expect(said).to_contain_text("state 3, t = 0", timeout=60_000)
    assert bench.locator("canvas").evaluate("canvas => [canvas.width, canvas.height]") == [64, 64]
    bench.locator("button[name=back]").press("Enter")
    assert bench.locator("[name=state]").get_attribute("aria-valuetext").startswith("state 2 of 3")
    Image.new("RGB", (90, 60), "white").save(tmp_path / "white.png")
    bench.locator("[name=picture]").set_input_files(tmp_path / "white.png")
    for kind in ("own", "fresh"):
        bench.locator("[name=kind]").select_option(kind)
        bench.locator("button[name=trip]").click()
        expect(said).to_contain_text("The pixels that come back are off by", timeout=60_000)
        said.evaluate("element => element.replaceChildren()")
    assert bench.locator("canvas").evaluate("canvas => [canvas.width, canvas.height]") == [32, 64]


@pytest.mark.browser
def test_a_network_of_ones_own_is_taken_and_another_file_is_not(visit, tmp_path):
    page = visit("book/lab")
    bench = page.locator(".lab-garments")
    torch.manual_seed(0)
    config = UNetConfig(
        base_channels=8, channel_multipliers=(1, 2), blocks_per_level=1, attention_levels=(), head_channels=8
    )
    own = NetworkDenoiser(UNet(config), linear_zero_snr(30), "v", "float32", (1, 8, 8))
    export_onnx(own, tmp_path / "own.onnx")
    (tmp_path / "none.onnx").write_bytes(b"not a network")
    bench.locator("[name=file]").set_input_files(tmp_path / "none.onnx")
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("That did not work: no ONNX file")
    bench.locator("[name=file]").set_input_files(tmp_path / "own.onnx")
    bench.locator("[name=steps]").fill("5")
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("state 5, t = 0", timeout=60_000)
    assert bench.locator("canvas").evaluate("canvas => canvas.height") == 16


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
    bench = page.locator(".lab-plane")
    numbers = bench.locator(".lab-numbers")
    expect(numbers).to_contain_text("17 calls")
    assert bench.locator("[name=sampler]").input_value() == "heun"
    bench.locator("[name=sampler]").select_option("ancestral")
    expect(numbers).to_contain_text("9 calls")
    assert "sampler=ancestral" in page.url
    assert "seed=5" in page.url


@pytest.mark.browser
def test_one_step_along_straight_paths_ends_in_one_place(visit):
    """Chapter 6's F4, as the bench shows it: the data's mean, which lies about 1 from the density."""
    page = visit("book/lab", query="?schedule=straight&steps=1")
    bench = page.locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("the end is 0.9")
    bench.locator("[name=steps]").fill("100")
    expect(bench.locator(".lab-numbers")).to_contain_text("the end is 0.0")


@pytest.mark.browser
def test_the_keyboard_alone_plays_steps_and_moves_a_bump(visit):
    page = visit("book/lab", query="?points=50&steps=9")
    bench = page.locator(".lab-plane")
    numbers = bench.locator(".lab-numbers")
    expect(numbers).to_contain_text("state 9 of 9")
    bench.locator("canvas").focus()
    page.keyboard.press("Space")
    expect(bench.locator("button[name=play]")).to_have_text("pause")
    expect(numbers).to_contain_text("state 9 of 9", timeout=10_000)
    expect(bench.locator("button[name=play]")).to_have_text("play")
    bench.locator("button[name=back]").press("Enter")
    expect(numbers).to_contain_text("state 8 of 9")
    before = page.url
    bench.locator("canvas").press("ArrowRight")
    expect(numbers).to_contain_text("state 9 of 9")
    assert "bumps=0.2_-1.4_" in page.url
    assert page.url != before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "back"


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desktop"])
def test_a_bump_is_dragged(viewport, visit):
    page = visit("book/lab", viewport, query="?points=50&steps=9")
    bench = page.locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 9 of 9")
    canvas = bench.locator("canvas")
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
    for bench in (".lab-plane", ".lab-garments"):
        expect(page.locator(bench)).to_contain_text("This bench needs JavaScript")
