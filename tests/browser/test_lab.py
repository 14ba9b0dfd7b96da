"""The lab: its samplers against the package's, state by state, and its benches as people use them."""

import ast
import hashlib
import lzma
import re
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

import ddpm
from ddpm import data
from ddpm.denoiser import Guided, NetworkDenoiser
from ddpm.interop.onnx import export_onnx
from ddpm.schedule import linear, linear_zero_snr
from ddpm.unet import UNet, UNetConfig
from tests.browser import lab_vectors
from tests.browser.conftest import DESKTOP, PHONE
from tests.checkout import ROOT

RUNTIME = ROOT / "book" / "_ext" / "onnxruntime-web"
SOON = 120_000  # milliseconds until a network has surely answered


@pytest.mark.parametrize("bench", ["plane", "garments"])
def test_the_vectors_are_what_the_package_computes(bench):
    exactness = {"plane": 1e-8, "garments": 1e-4}[bench]
    for kept, now in zip(lab_vectors.kept(bench), lab_vectors.computed(bench), strict=True):
        assert (kept["setup"], kept.get("length")) == (now["setup"], now.get("length"))
        assert kept["states"] == [pytest.approx(state, rel=0, abs=exactness) for state in now["states"]]


def test_what_runs_networks_in_the_page_is_the_file_of_its_package():
    rows = re.findall(r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$", (RUNTIME / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 3
    for name, sha256 in rows:
        file = RUNTIME / name
        content = file.read_bytes() if file.exists() else lzma.decompress(Path(f"{file}.xz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == sha256, name


# The samplers.


@pytest.mark.browser
def test_every_state_of_a_walk_in_the_plane_is_the_packages(visit):
    page = visit("book/lab")
    for walk in lab_vectors.kept("plane"):
        states = page.evaluate(
            "async setup => (await walked({ ...FIRST, ...setup })).walk.slice(1).map(({ x }) => [...x])", walk["setup"]
        )
        assert len(states) == walk["length"]
        for ours, theirs in zip(states, walk["states"], strict=False):
            assert ours == pytest.approx(theirs, rel=0, abs=1e-6), walk["setup"]


@pytest.mark.browser
def test_every_state_of_two_garments_is_the_packages(visit):
    page = visit("book/lab")
    for walk in lab_vectors.kept("garments"):
        states = page.evaluate(
            """async ([{ network: name, sampler, spacing, seed, steps, up, labels, weight }, stride]) => {
                const network = await NetworkDenoiser.brought(name);
                const model = labels ? new Guided(network.given(labels), network, weight) : network;
                const grid = network.schedule.timesteps(steps, spacing);
                const randnLike = perSampleNoise(seed, network.pixels);
                const x = randnLike(new Float64Array(2 * network.pixels));
                const options = { eta: 0, weight: 0, stepSize: 0, randnLike };
                const walk = up ? invert(network, x, grid) : SAMPLERS[sampler].walk(model, x, grid, options);
                const states = [];
                for await (const step of walk) states.push([...step.x].filter((_, i) => i % stride === 0));
                return states;
            }""",
            [walk["setup"], lab_vectors.PIXELS],
        )
        assert len(states) == len(walk["states"])
        for ours, theirs in zip(states, walk["states"], strict=True):
            assert ours == pytest.approx(theirs, rel=0, abs=1e-4), walk["setup"]


@pytest.mark.browser
@pytest.mark.parametrize("each", [2, 21, 1024])
@pytest.mark.parametrize("seed", [0, 7])
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
    {"sampler": "langevin", "delta": 0.02},
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
    assert names["points"].flatten().tolist() == pytest.approx(points, abs=1e-3)


# What the page's own text says.


def found(page, query, points=2000):
    """The end of a link's walk: each bump's share of the points, their mean, and the distance from the density."""
    return page.evaluate(
        """async ([query, points]) => {
            const setup = { ...setupOf(query), points }, { walk } = await walked(setup), x = walk.at(-1).x;
            const mean = [0, 0];
            x.forEach((value, i) => { mean[i % 2] += value / points; });
            return { shares: sharesOf(setup.bumps, x), mean, ...distanceTo(setup, x) };
        }""",
        [query, points],
    )


@pytest.mark.browser
def test_what_the_page_says_of_its_links_is_so(visit):
    page = visit("book/lab")
    links = page.locator(".lab-tries a[href^='?']").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    straight, chain, _, ddim, guided, solver = (found(page, link.partition("#")[0]) for link in links)
    data = [0.2 * -1.5 + 0.3 * 1.5, 0.2 * -0.8 + 0.3 * -0.8 + 0.5 * 1.5]
    assert straight["mean"] == pytest.approx(data, abs=1e-6)
    assert straight["distance"] > 0.9
    assert 0.26 < chain["shares"][0] < 0.34
    by_seed = {}
    for name in ("ancestral", "ddim"):
        ends = [found(page, f"?sampler={name}&seed={seed}", points=500)["distance"] for seed in range(6)]
        by_seed[name] = mean(ends), stdev(ends)
    (one, spread), (other, _) = by_seed.values()
    assert abs(one - other) < spread
    assert {link.partition("#")[0] for link in links[2:4]} == {"?sampler=ancestral", "?sampler=ddim"}
    assert guided["mean"][0] > 1.5
    assert found(page, links[4].partition("#")[0].replace("weight=4", "weight=1"))["mean"][0] < 1.05
    assert solver["distance"] < found(page, "?sampler=ddim&steps=10")["distance"]
    assert found(page, "?sampler=ddim&steps=100")["distance"] < 3 * ddim["floor"][1]
    # a set of true points lies between the nearest and the furthest of the sets that are shown, or little beside them
    true = page.evaluate(
        """() => [20, 21, 22, 23, 24].map(seed => {
            const mixture = modelOf(FIRST).target, points = mixture.sample(FIRST.points, new TorchGenerator(seed));
            return [distanceTo(FIRST, points).distance, distanceTo(FIRST, points).floor];
        })"""
    )
    for distance, (nearest, furthest) in true:
        assert nearest < furthest
        assert 0.7 * nearest < distance < 1.4 * furthest


# The plane's bench.


@pytest.mark.browser
def test_a_link_holds_everything_and_what_is_not_legal_in_it_is_as_at_first(visit):
    page = visit("book/lab")
    changed = {
        "bumps": [{"weight": 0.5, "mean": [-2, 1.25], "std": 0.1}, {"weight": 1, "mean": [3, -3], "std": 1}],
        "sampler": "heun", "schedule": "straight", "spacing": "log_snr", "steps": 3, "eta": 0.5, "lambda": 2,
        "stepSize": 0.05, "delta": 0.1, "told": "1", "weight": 3.5, "points": 50, "seed": 11, "trails": False,
    }  # fmt: skip
    assert page.evaluate("setup => setupOf(linkOf(setup))", changed) == changed
    first = page.evaluate("FIRST")
    assert changed.keys() == first.keys()
    wrong = "sampler=euler&schedule=cosine&spacing=even&eta=2&lambda=x&stepSize=&told=9&weight=NaN&points=1e9&seed=-1"
    for query in (
        "", "?", f"?{wrong}", "?steps=0", "?steps=2.5", "?points=50.5", "?seed=1.5", "?told=3", "?bumps=1_2",
        "?bumps=NaN_0_0_0.2", "?bumps=1_0_0_0.2*2_0_0_0.2", "?bumps=" + "*".join(["1_0_0_1"] * 9),
    ):  # fmt: skip
        assert page.evaluate("query => setupOf(query)", query) == first, query
        parts = [part for part in query.removeprefix("?").split("&") if part]
        assert page.evaluate("query => ignoredIn(query)", query) == parts, query
    assert page.evaluate("setupOf('?trails=yes').trails")
    assert page.evaluate("setup => ignoredIn(linkOf(setup))", changed) == []
    assert page.evaluate("setup => ignoredIn(linkOf(setup))", first) == []


@pytest.mark.browser
def test_what_is_not_understood_in_a_link_is_said_until_one_starts_afresh(visit):
    page = visit("book/lab", query="?steps=0&points=50&colour=red")
    bench = page.locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("not understood in the link: steps=0, colour=red")
    bench.locator("button[name=afresh]").click()
    expect(bench.locator(".lab-numbers")).not_to_contain_text("not understood")
    assert "?" not in page.url


@pytest.mark.browser
def test_a_link_is_followed_and_a_new_one_made(visit):
    page = visit("book/lab", query="?sampler=heun&steps=9&points=50&seed=5#plane")
    clipboard = "{ value: { writeText: async text => { window.copied = text; } } }"
    page.evaluate(f"Object.defineProperty(navigator, 'clipboard', {clipboard})")
    bench = page.locator(".lab-plane")
    said = bench.locator(".lab-numbers")
    expect(said).to_contain_text("17 calls")
    bench.locator("[name=told]").select_option("1")
    bench.locator("[name=weight]").fill("2")
    expect(said).to_contain_text("34 calls")
    bench.locator("[name=told]").select_option("")
    assert bench.locator("[name=sampler]").input_value() == "heun"
    bench.locator("[name=sampler]").select_option("ancestral")
    expect(said).to_contain_text("9 calls")
    bench.locator("button[name=link]").click()
    expect(said).to_contain_text("9 calls")
    expect(said).to_contain_text("the link is copied")
    link = page.evaluate("window.copied")
    assert link.startswith(page.url.partition("?")[0] + "?")
    assert link.endswith("#plane")
    setup = page.evaluate("link => setupOf(new URL(link).search)", link)
    assert setup == page.evaluate("FIRST") | {"sampler": "ancestral", "steps": 9, "points": 50, "seed": 5}


@pytest.mark.browser
def test_one_step_along_straight_paths_ends_in_one_place(visit):
    """Chapter 6's F4, as the bench shows it: the data's mean, which lies about 1 from the density."""
    bench = visit("book/lab", query="?schedule=straight&steps=1").locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("the end is 0.9")
    bench.locator("[name=steps]").fill("100")
    expect(bench.locator(".lab-numbers")).to_contain_text("the end is 0.0")


@pytest.mark.browser
def test_the_keyboard_alone_plays_steps_and_moves_a_bump(visit):
    page = visit("book/lab", query="?points=50&steps=9")
    bench = page.locator(".lab-plane")
    said, play = bench.locator(".lab-numbers"), bench.locator("button[name=play]")
    expect(said).to_contain_text("state 9 of 9")
    play.press("Enter")
    expect(play).to_have_text("pause")
    expect(play).to_have_text("play", timeout=20_000)
    expect(said).to_contain_text("state 9 of 9")
    bench.locator("button[name=reverse]").press("Enter")
    play.press("Enter")
    expect(said).to_contain_text("state 0 of 9", timeout=20_000)
    expect(play).to_have_text("play")
    bench.locator("button[name=forth]").press("Enter")
    expect(said).to_contain_text("state 1 of 9")
    bench.locator("[name=bumpX]").press("ArrowUp")
    expect(said).to_contain_text("state 9 of 9")
    expect(bench.locator("pre")).to_contain_text("means = [[-1.4, -0.8]")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "bumpY"


@pytest.mark.browser
def test_a_key_changes_the_number_of_its_own_slider_alone_and_none_is_announced(visit):
    page = visit("book/lab", query="?points=50&steps=9")
    bench = page.locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 9 of 9")
    outputs = page.locator("form output")
    assert outputs.count() > 5
    before = bench.locator("[data-field=bumpStd] output").inner_text()
    assert {output.get_attribute("aria-live") for output in outputs.all()} == {"off"}
    page.evaluate(
        """() => {
          window.changed = [];
          const seen = new MutationObserver((all) => window.changed.push(...all.map(({ target }) => target)));
          for (const output of document.querySelectorAll("form output")) seen.observe(output, { childList: true });
        }"""
    )
    bench.locator("[name=bumpStd]").press("ArrowUp")
    expect(bench.locator("[data-field=bumpStd] output")).not_to_have_text(before)
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.evaluate("window.changed.map((one) => one.parentElement.dataset.field)") == ["bumpStd"]


@pytest.mark.browser
def test_reversed_while_it_plays_it_comes_to_an_end(visit):
    bench = visit("book/lab", query="?points=50&steps=5").locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 5 of 5")
    bench.locator("button[name=play]").click()
    bench.locator("button[name=reverse]").click()
    expect(bench.locator("button[name=play]")).to_have_text("play", timeout=20_000)
    expect(bench.locator(".lab-numbers")).to_contain_text("state 0 of 5")


@pytest.mark.browser
def test_numbers_that_are_no_setup_are_not_taken(visit):
    bench = visit("book/lab", query="?points=50&steps=5").locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 5 of 5")
    for value in ("", "1.5", "-3", "123456"):
        bench.locator("[name=seed]").fill(value)
    expect(bench.locator("pre")).to_contain_text('points = ddpm.sample(model, 50, "ddim", 5, 0,')
    bench.locator("[name=seed]").blur()
    assert bench.locator("[name=seed]").input_value() == "0"
    expect(bench.locator(".lab-numbers")).to_have_text('"Seed" is 123456; legal are whole numbers 0 to 9999.')


@pytest.mark.browser
@pytest.mark.parametrize("typed", ["-0.5", "1.05"])
def test_a_place_is_taken_as_it_is_typed(typed, visit):
    """Though the points are drawn anew after every key."""
    bench = visit("book/lab", query="?points=50&steps=2").locator(".lab-plane")
    field = bench.locator("[name=bumpX]")
    field.select_text()
    field.press_sequentially(typed, delay=60)
    expect(field).to_have_value(typed)
    expect(bench.locator("pre")).to_contain_text(f"means = [[{typed}, -0.8]")


@pytest.mark.browser
def test_a_link_of_the_page_is_followed_again_after_its_settings_were_changed(visit):
    page = visit("book/lab")
    link, steps = page.locator(".lab-tries a[href^='?']").first, page.locator(".lab-plane [name=steps]")
    link.click()
    expect(steps).to_have_value("1")
    steps.fill("16")
    expect(page.locator(".lab-plane .lab-numbers")).to_contain_text("state 16 of 16")
    link.click()
    expect(steps).to_have_value("1")


@pytest.mark.browser
def test_a_long_walk_leaves_the_page_free_and_gives_way_to_the_next(visit):
    bench = visit("book/lab", query="?points=50&steps=9").locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 9 of 9")
    ticks, calls, stale = bench.evaluate(
        """async () => {
            const many = { sampler: "annealed_langevin", steps: 200, points: 2000 };
            const setup = { ...FIRST, bumps: SHAPES.ring.bumps, ...many };
            let ticks = 0;
            const clock = setInterval(() => ticks++, 10);
            const { calls } = await walked(setup, () => ticks > 5);
            clearInterval(clock);
            return [ticks, calls, (await walked({ ...setup, steps: 1, points: 50 })).calls];
        }"""
    )
    assert ticks > 5  # something else was done meanwhile
    assert stale <= calls < 1000  # and the walk was left


@pytest.mark.browser
def test_a_new_bump_lies_apart_and_there_are_at_most_eight(visit):
    bench = visit("book/lab", query="?points=50&steps=2").locator(".lab-plane")
    for _ in range(5):
        bench.locator("button[name=add]").click()
    expect(bench.locator("button[name=add]")).to_be_disabled()
    bumps = bench.locator("pre").text_content().partition("means = ")[2].partition("\n")[0]
    places = torch.tensor(ast.literal_eval(bumps))
    assert len(places) == 8
    assert torch.pdist(places.float()).min() > 0.5


@pytest.mark.browser
def test_a_chain_that_diverges_says_so(visit):
    bench = visit("book/lab", query="?sampler=langevin&delta=0.1&steps=200&bumps=1_0_0_0.05").locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("No walk: the chain diverged by step")
    canvas = bench.locator("canvas")  # which shows the density, and no walk
    assert canvas.get_attribute("aria-label").startswith("No walk: the chain diverged by step")
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, 640, 640).data.some((value) => value)"
    assert canvas.evaluate(drawn)
    bench.locator("[name=delta]").fill("0.01")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 200 of 200")
    bench.locator("[name=delta]").fill("0.1")
    expect(canvas).to_have_attribute("aria-label", re.compile("^No walk"))
    assert bench.locator("[name=state]").get_attribute("max") == "0"


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_bump_is_dragged(viewport, visit):
    page = visit("book/lab", viewport, query="?points=50&steps=9")
    bench = page.locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 9 of 9")
    canvas = bench.locator("canvas")

    def at(x, y):
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        return box["x"] + (x / 3.2 + 1) / 2 * box["width"], box["y"] + (1 - y / 3.2) / 2 * box["height"]

    page.mouse.move(*at(-1.4, -0.7))  # beside the middle, which keeps its distance
    page.mouse.down()
    page.mouse.move(*at(-1.9, 0.1), steps=4)
    page.mouse.up()
    expect(bench.locator("[name=bumpX]")).to_have_value(re.compile(r"^-(2|2\.0.|1\.9.)$"))
    expect(bench.locator("[name=bumpY]")).to_have_value(re.compile(r"^-?0(\.0.?)?$"))
    bench.locator("[name=state]").fill("4")  # on the way, too, a bump is dragged where it will be
    page.mouse.move(*at(-2, 0))
    page.mouse.down()
    page.mouse.move(*at(-1, 1), steps=4)
    expect(bench.locator("[name=bumpX]")).to_have_value(re.compile(r"^-(1|1\.0.|0\.9.)$"))
    expect(bench.locator(".lab-numbers")).to_contain_text("state 4 of 9")
    page.mouse.up()
    page.mouse.move(*at(-1, 1))
    page.mouse.down(button="right")
    page.mouse.move(*at(2, 2), steps=4)
    page.mouse.up(button="right")
    expect(bench.locator("[name=bumpX]")).to_have_value(re.compile(r"^-(1|1\.0.|0\.9.)$"))


@pytest.mark.browser
@pytest.mark.parametrize(
    ("move", "shown"),
    [("to('state', 4)", "state 4 of 12"), ("click('reverse'), click('play')", "state 0 of 12")],
    ids=["chosen", "played"],
)
def test_who_moves_while_a_walk_is_made_is_not_thrown_to_its_end(move, shown, visit):
    bench = visit("book/lab", query="?points=50&steps=9").locator(".lab-plane")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 9 of 9")
    bench.evaluate(  # all in one task, before the walk that is asked for can have come
        f"""bench => {{
            const to = (name, value) => {{
                const field = bench.querySelector(`[name=${{name}}]`);
                field.value = value;
                field.dispatchEvent(new Event("input", {{ bubbles: true }}));
            }};
            const click = (name) => bench.querySelector(`button[name=${{name}}]`).click();
            to("steps", 12);
            {move};
        }}"""
    )
    expect(bench.locator(".lab-numbers")).to_contain_text(shown, timeout=20_000)


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [PHONE, {"width": 700, "height": 400}, {"width": 820, "height": 1180}])
def test_a_picture_covers_no_knob(viewport, visit):
    page = visit("book/lab", viewport)
    picture = page.locator(".lab-plane canvas")
    for knob in page.locator(".lab-plane :is(input, select):visible").all():
        knob.focus()
        box, other = picture.bounding_box(), knob.bounding_box()
        is_beside = other["x"] >= box["x"] + box["width"] or other["y"] >= box["y"] + box["height"]
        assert is_beside, knob.get_attribute("name")


# The garments' bench.


@pytest.mark.browser
def test_garments_are_drawn_and_go_to_noise_and_back(visit, tmp_path):
    page = visit("book/lab")
    bench = page.locator(".lab-garments")
    said = bench.locator(".lab-numbers")
    expect(said).to_contain_text("Nothing is loaded yet")
    assert page.locator("script[src$='.onnx.js'], script[src*='ort']").count() == 0
    bench.locator("button[name=trip]").click()
    expect(said).to_contain_text("there is no picture yet")
    transport = [bench.locator(f"[name={name}]") for name in ("back", "play", "forth", "reverse", "state")]
    assert all(part.is_disabled() for part in transport)  # as there is no state yet
    bench.locator("[name=network]").select_option("equal-diffusion")
    bench.locator("[name=steps]").fill("8")
    bench.locator("[name=count]").fill("2")
    bench.locator("button[name=draw]").click()
    expect(said).to_contain_text("state 8 of 8, t = 0", timeout=SOON)
    assert bench.locator("canvas").evaluate("canvas => [canvas.width, canvas.height]") == [64, 64]
    assert all(part.is_enabled() for part in transport)
    bench.locator("button[name=back]").press("Enter")
    expect(said).to_contain_text("state 7 of 8, t = 125")
    bench.locator("[name=depth]").fill("300")
    off = {}
    for kind in ("own", "fresh"):
        bench.locator("[name=kind]").select_option(kind)
        bench.locator("button[name=trip]").click()
        expect(said).to_contain_text("the pixels that come back are off by", timeout=SOON)
        off[kind] = float(re.search(r"off by ([\d.]+)", said.inner_text()).group(1))
    assert 0 < off["own"] < 0.1
    assert 2 * off["own"] < off["fresh"] < 0.5
    bench.locator("[name=depth]").fill(
        "1000"
    )  # from noise alone nothing comes back, though the garments' seed is the same
    bench.locator("button[name=trip]").click()
    expect(said).to_contain_text(
        "state 9 of 9, t = 0 · the way back · the pixels that come back are off by", timeout=SOON
    )
    assert float(re.search(r"off by ([\d.]+)", said.inner_text()).group(1)) > 0.3
    bench.locator("button[name=back]").press("Enter")
    expect(said).not_to_contain_text("off by")
    bench.locator("button[name=forth]").press("Enter")
    expect(said).to_contain_text("off by")
    (tmp_path / "essay.png").write_text("no picture")
    bench.locator("[name=source]").select_option("own")
    bench.locator("[name=picture]").set_input_files(tmp_path / "essay.png")
    bench.locator("button[name=trip]").click()
    expect(said).to_have_text(re.compile(r"essay.png is no picture that this browser reads, such as .* WebP\.$"))
    Image.new("RGB", (90, 60), "white").save(tmp_path / "white.png")
    bench.locator("[name=source]").select_option("own")
    bench.locator("[name=picture]").set_input_files(tmp_path / "white.png")
    bench.locator("button[name=trip]").click()
    expect(said).to_contain_text("the pixels that come back are off by", timeout=SOON)
    bench.locator("[name=state]").fill("0")
    pixels = "canvas => [...canvas.getContext('2d').getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 < 3)"
    assert set(bench.locator("canvas").evaluate(pixels)) == {255}


@pytest.mark.browser
def test_a_picture_of_ones_own_is_taken_from_its_middle_and_in_grey(visit, tmp_path):
    bench = visit("book/lab").locator(".lab-garments")
    picture = Image.new("RGB", (90, 60), "white")
    picture.paste("red", (0, 0, 45, 60))
    picture.save(tmp_path / "half.png")
    bench.locator("[name=network]").select_option("equal-diffusion")
    bench.locator("[name=steps]").fill("2")
    bench.locator("[name=source]").select_option("own")
    bench.locator("[name=picture]").set_input_files(tmp_path / "half.png")
    bench.locator("button[name=trip]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("the pixels that come back are off by", timeout=SOON)
    bench.locator("[name=state]").fill("0")
    row = bench.locator("canvas").evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 9, 32, 1).data]")[::4]
    assert row[:15] == pytest.approx([picture.convert("L").getpixel((0, 0))] * 15, abs=1)
    assert row[17:] == [255] * 15


@pytest.mark.browser
def test_a_network_of_colours_takes_a_picture_in_its_colours(visit, tmp_path):
    bench = visit("book/lab").locator(".lab-garments")
    torch.manual_seed(0)
    small = {"base_channels": 8, "channel_multipliers": (1, 2), "blocks_per_level": 1, "head_channels": 8}
    config = UNetConfig(channels=3, attention_levels=(), **small)
    own = NetworkDenoiser(UNet(config), linear(), "v", "float32", (3, 8, 8))
    own.distilled_for = 4
    export_onnx(own, tmp_path / "own.onnx")
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / "one.png")
    bench.locator("[name=network]").select_option("own")
    bench.locator("[name=file]").set_input_files(tmp_path / "own.onnx")
    expect(bench.locator(".lab-numbers")).to_have_text("Steps are now 4, which suit this network. ")
    expect(bench.locator("[name=steps]")).to_have_value("4")
    bench.locator("[name=source]").select_option("own")
    bench.locator("[name=picture]").set_input_files(tmp_path / "one.png")
    bench.locator("button[name=trip]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("the pixels that come back are off by", timeout=SOON)
    bench.locator("[name=state]").fill("0")
    row = bench.locator("canvas").evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 4, 8, 1).data]")
    assert row == pytest.approx([200, 100, 50, 255] * 8, abs=1)


@pytest.mark.browser
def test_a_drawing_is_stopped(visit):
    bench = visit("book/lab").locator(".lab-garments")
    bench.locator("[name=network]").select_option("equal-diffusion")
    bench.locator("[name=steps]").fill("50")
    bench.locator("[name=count]").fill("8")
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_have_text(re.compile(r"state \d+ of \d+"), timeout=SOON)
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("Stopped.")
    expect(bench.locator("button[name=draw]")).to_have_text("draw")
    assert int(bench.locator("[name=state]").get_attribute("max")) < 50


def beside(images):
    """The grey levels of two images (2, 1, height, width), side by side, row by row."""
    return torch.cat([*((images + 1) * 127.5).clamp(0, 255)[:, 0]], dim=1).flatten().tolist()


@pytest.mark.browser
@pytest.mark.parametrize("target", ["v", "x0"])
def test_a_network_of_ones_own_is_taken_and_another_file_is_not(target, visit, tmp_path):
    page = visit("book/lab")
    bench = page.locator(".lab-garments")
    torch.manual_seed(0)
    config = UNetConfig(
        base_channels=8, channel_multipliers=(1, 2), blocks_per_level=1, attention_levels=(), head_channels=8, classes=2
    )
    own = NetworkDenoiser(UNet(config), linear_zero_snr(30), target, "float32", (1, 8, 8), ("bag", "boot"))
    export_onnx(own, tmp_path / "own.onnx")
    (tmp_path / "none.onnx").write_bytes(b"not a network")
    bench.locator("[name=network]").select_option("own")
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("there is no file yet")
    bench.locator("[name=file]").set_input_files(tmp_path / "none.onnx")
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("That did not work: this is no")
    expect(bench.locator("[name=class]")).to_be_hidden()
    bench.locator("[name=file]").set_input_files(tmp_path / "own.onnx")
    expect(bench.locator("[name=class] option")).to_have_text(["any", "each in turn", "bag", "boot"])
    expect(bench.locator("[name=weight]")).to_be_hidden()
    bench.locator("[name=steps]").fill("5")
    bench.locator("[name=count]").fill("2")
    for chosen, weight, denoise in (
        ("any", 1, own),
        ("boot", 1, own.given("boot")),
        ("each in turn", 3, Guided(own.given([0, 1]), own, 3)),
    ):
        bench.locator("[name=class]").select_option(label=chosen)
        if weight > 1:
            bench.locator("[name=weight]").fill(str(weight))
        bench.locator("button[name=draw]").click()
        told = {"any": "", "boot": " · boot"}.get(chosen, f" · each class in turn, w = {weight}")
        expect(bench.locator(".lab-numbers")).to_have_text(f"state 5 of 5, t = 0{told}", timeout=SOON)
        image = "canvas => [...canvas.getContext('2d').getImageData(0, 0, 16, 8).data]"
        shown = bench.locator("canvas").evaluate(image)
        pair = beside(ddpm.sample(denoise, 2, "ddim", 5, progress=False))
        assert shown[::4] == pytest.approx(pair, abs=1), chosen


@pytest.mark.browser
@pytest.mark.parametrize(
    ("sampler", "options"),
    [("ancestral", {"spacing": "log_snr"}), ("ddim", {"spacing": "karras", "eta": 0.5}), ("heun", {})],
    ids=["ancestral", "ddim", "heun"],
)
def test_what_is_drawn_is_the_packages_with_every_setting(sampler, options, visit, tmp_path):
    """A state on the way, and below it what the network guessed in the state before."""
    bench = visit("book/lab").locator(".lab-garments")
    torch.manual_seed(0)
    config = UNetConfig(
        base_channels=8, channel_multipliers=(1, 2), blocks_per_level=1, attention_levels=(), head_channels=8
    )
    own = NetworkDenoiser(UNet(config), linear(30), "v", "float32", (1, 8, 8))
    export_onnx(own, tmp_path / "own.onnx")
    bench.locator("[name=network]").select_option("own")
    bench.locator("[name=file]").set_input_files(tmp_path / "own.onnx")
    bench.locator("[name=sampler]").select_option(sampler)
    settings = {"steps": 5, "count": 2, "seed": 5} | {k: v for k, v in options.items() if k == "eta"}
    for name, value in settings.items():
        bench.locator(f"[name={name}]").fill(str(value))
    bench.locator("[name=spacing]").select_option(options.get("spacing", "trailing"))
    bench.locator("button[name=draw]").click()
    expect(bench.locator(".lab-numbers")).to_contain_text("state 5 of 5", timeout=SOON)
    bench.locator("button[name=back]").press("Enter")
    expect(bench.locator(".lab-numbers")).to_contain_text("state 4 of 5")
    steps = []
    ddpm.sample(own, 2, sampler, 5, seed=5, progress=False, watch=steps.append, **options)
    shown = bench.locator("canvas").evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 16, 16).data]")
    state, guess = beside(steps[3].x[:2]), beside(steps[3].prediction.x0[:2])  # a chunk is filled up
    assert shown[::4] == pytest.approx(state + guess, abs=1)
    assert state != pytest.approx(guess, abs=1)


@pytest.mark.browser
def test_a_link_holds_the_settings_of_the_garments(visit):
    query = (
        "?weight=2&class=8&network=fashion-mnist-classes&steps=2&count=1&eta=0.5&seed=7&colour=red&depth=75#garments"
    )
    page = visit("book/lab", query=query)
    clipboard = "{ value: { writeText: async text => { window.copied = text; } } }"
    page.evaluate(f"Object.defineProperty(navigator, 'clipboard', {clipboard})")
    bench = page.locator(".lab-garments")
    said = bench.locator(".lab-numbers")
    expect(said).to_contain_text("not understood in the link: colour=red, depth=75")
    expect(page.locator(".lab-plane .lab-numbers")).not_to_contain_text("not understood")
    bench.locator("button[name=draw]").click()
    expect(said).to_have_text("state 2 of 2, t = 0 · bag, w = 2", timeout=SOON)
    bench.locator("button[name=link]").click()
    expect(said).to_have_text("The link is copied.")
    link = page.evaluate("window.copied")
    held = dict(part.split("=") for part in link.partition("?")[2].removesuffix("#garments").split("&"))
    asked = {"class": "8", "weight": "2", "steps": "2", "count": "1", "eta": "0.5", "seed": "7", "depth": "500"}
    assert asked.items() <= held.items()
    again = visit("book/lab", query=f"?{link.partition('?')[2]}").locator(".lab-garments")
    expect(again.locator(".lab-numbers")).to_have_text("The settings are those of the link: click on draw.")
    assert {name: again.locator(f"[name={name}]").input_value() for name in held} == held


@pytest.mark.browser
def test_a_link_of_the_garments_stays_theirs_whichever_bench_is_gone_to(visit):
    page = visit("book/lab", query="?network=fashion-mnist-classes&class=each&count=10#plane")
    expect(page.locator(".lab-garments .lab-numbers")).to_have_text(
        "The settings are those of the link: click on draw."
    )
    expect(page.locator(".lab-plane .lab-numbers")).to_contain_text("state 20 of 20")
    expect(page.locator(".lab-plane .lab-numbers")).not_to_contain_text("not understood")


@pytest.mark.browser
def test_what_is_drawn_is_what_was_asked_for_though_the_settings_change_meanwhile(visit):
    bench = visit("book/lab", query="?network=fashion-mnist-classes&class=8&steps=3&count=1#garments")
    bench = bench.locator(".lab-garments")
    said = bench.locator(".lab-numbers")
    expect(said).to_have_text("The settings are those of the link: click on draw.")
    bench.locator("button[name=draw]").click()
    bench.locator("[name=seed]").fill("")
    bench.locator("[name=class]").select_option(label="shirt")
    ended = "state 3 of 3, t = 0 · bag · the settings have changed meanwhile: draw again"
    expect(said).to_have_text(ended, timeout=SOON)


@pytest.mark.browser
def test_the_links_of_the_garments_are_understood(visit):
    links = visit("book/lab").locator(".lab-asks a[href^='?']")
    assert links.count() == 5
    for link in links.evaluate_all("links => links.map(link => link.getAttribute('href'))"):
        said = visit("book/lab", query=link).locator(".lab-garments .lab-numbers")
        expect(said).to_have_text("The settings are those of the link: click on draw.")


@pytest.mark.browser
def test_classes_are_offered_where_the_network_knows_them(visit):
    bench = visit("book/lab").locator(".lab-garments")
    said = bench.locator(".lab-numbers")
    expect(bench.locator("[name=class]")).to_be_hidden()
    bench.locator("[name=network]").select_option("fashion-mnist-classes")
    assert bench.locator("[name=class] option").all_inner_texts() == ["any", "each in turn", *data.CLASSES]
    expect(bench.locator("[name=weight]")).to_be_hidden()
    bench.locator("[name=class]").select_option(label="bag")
    bench.locator("[name=weight]").fill("2")
    bench.locator("[name=steps]").fill("2")
    bench.locator("[name=count]").fill("1")
    bench.locator("button[name=draw]").click()
    expect(said).to_have_text("state 2 of 2, t = 0 · bag, w = 2", timeout=SOON)
    bench.locator("[name=class]").select_option(label="ankle boot")  # taken up as what it is, and down as another
    bench.locator("button[name=trip]").click()
    back = "the way back · ankle boot, w = 2 · the pixels that come back are off by"
    expect(said).to_contain_text(back, timeout=SOON)
    bench.locator("[name=network]").select_option("equal-diffusion")
    expect(bench.locator("[name=class]")).to_be_hidden()
    expect(bench.locator("[name=weight]")).to_be_hidden()


# Pages without scripts.


@pytest.mark.browser
def test_without_scripts_the_page_says_what_it_would_do(visit):
    page = visit("book/lab", java_script_enabled=False)
    for bench in (".lab-plane", ".lab-garments"):
        expect(page.locator(bench)).to_contain_text("This bench needs JavaScript")
