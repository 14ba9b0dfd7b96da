import json
import math
import re
from itertools import pairwise
from statistics import mean, median, stdev

import pytest
import torch

from ddpm.companion.checks import read_record
from ddpm.companion.long_runs import over_seeds
from ddpm.companion.notebook import read_notebook
from ddpm.companion.results import results
from ddpm.langevin import flow_and_langevin
from ddpm.oracles import EmpiricalData
from ddpm.samplers import heun
from ddpm.schedule import linear
from ddpm.walks import DEFAULT_WALK
from equal_terms.report import in_words
from tests.cells import cells_of
from tests.checkout import ROOT, script

STILL = "Heun, in sigma, Karras's grid"
RESULTS = ROOT / "book" / "results"
CARD = "ddpm/assets/models/fashion-mnist/card.md"
STUDENT = "ddpm/assets/models/fashion-mnist-4-calls"


def words(path):
    """A text of the repository without its line breaks."""
    return " ".join((ROOT / path).read_text(encoding="utf-8").split())


def sources(chapter):
    """All that a chapter's cells say and do."""
    return " ".join(cell["source"] for cell in cells_of(ROOT / "notebooks" / f"{chapter}.ipynb"))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_says_how_it_was_measured(path):
    measured = results(path.stem)
    assert measured["rows"]
    assert len({tuple(row) for row in measured["rows"]}) == 1
    assert {"device", "date", "seed", "versions", "seconds"} <= set(measured["provenance"])
    if "Frechet distance" in measured["rows"][0]:
        for word in ("2,000", "EMA", "floor", "test"):
            assert word in measured["conditions"]


@pytest.mark.parametrize(
    ("name", "by", "others"),
    [
        ("samplers", ("sampler", "network calls"), ()),
        ("distillation", ("model", "network calls"), ()),
        ("straight-path", ("model",), ()),
        ("guidance", ("guidance", "network calls"), ("kernel distance x 1,000", "precision", "recall", "accuracy")),
    ],
)
def test_tables_are_the_means_of_their_rows(name, by, others):
    measured = results(name)
    assert measured["table"] == over_seeds(measured["rows"], by, ("Frechet distance", *others))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_tables_in_the_book_are_those_of_the_results(path):
    name = path.stem.replace("-", "_")
    assert path.read_text(encoding="utf-8") == script(f"benchmarks/{name}.py").report(results(path.stem))


def test_results_say_how_they_were_measured_in_their_scripts_words():
    """All but on what, and when."""
    for name in ("samplers", "distillation", "straight-path", "guidance", "transformer"):
        measured = results(name)
        what, module = measured["provenance"], script(f"benchmarks/{name.replace('-', '_')}.py")
        others = (measured["real images"], what) if name == "guidance" else (what, float(measured["floor"]))
        if name == "transformer":
            others = ({key: measured[key] for key in ("seconds a step", "timed on")}, what)
        written = module.with_conditions(measured["rows"], *others)
        said, says = (whole["conditions"].rpartition(" On ")[0] for whole in (measured, written))
        assert said == says, name
    measured = results("generative-models")
    assert measured["conditions"] == in_words(measured)
    for kind in ("diffusion", "gan", "vae", "autoencoder"):
        assert measured["conditions"] in words(f"ddpm/assets/models/equal-{kind}/card.md")


def test_the_scatter_of_trainings_is_that_of_the_rows():
    """By which the page on speed says what one seed can rank, and the page of proofs what the interval says."""
    runs = [
        (row[by], float(row[measure]))
        for name, by, measure in (
            ("ablations", "network", "distance, ddim 20"),
            ("straight-path", "model", "Frechet distance"),
        )
        for row in results(name)["rows"]
        if row[by] in ("whole", "no attention, as many parameters") or name == "straight-path"
    ]
    groups = [[distance for other, distance in runs if other == name] for name in dict(runs)]
    assert [len(group) for group in groups] == [3] * 5
    scatter = math.sqrt(mean((stdev(group) / mean(group)) ** 2 for group in groups))
    assert f"scatter by some {100 * scatter:.0f} % (standard deviation)" in words("book/performance.md")
    assert 2 < 0.2 / (math.sqrt(2) * scatter) < 3  # "within a fifth", of two trainings
    usual, same = groups[3:]
    change = [one - other for one, other in zip(usual, same, strict=True)]
    assert mean(change) > 4.303 * stdev(change) / math.sqrt(3)  # "outside of zero by the interval"


def test_a_benchmarks_docstring_says_which_rows_are_committed():
    rows = results("samplers")["rows"]
    assert f"The committed file holds {len(rows)}: those of seed 0" in words("benchmarks/samplers.py")
    rows = results("time-to-quality")["rows"]
    plain = [row for row in rows if (row["minutes"], row["seed"], row["n"]) == (5, 0, 1000)]
    said = words("benchmarks/time_to_quality.py")
    assert f"it makes thirteen of the {len(rows)} rows that are committed" in said
    assert "The other sixteen took options" in said
    assert (len(plain), len(rows) - len(plain)) == (13, 16)


def test_the_page_on_speed_says_what_min_snr_weights_reach():
    """After five minutes, beside the same recipe without them, and with Muon beside log-normal times."""
    distance = {
        row["recipe"]: float(row["Frechet distance"])
        for row in results("time-to-quality")["rows"]
        if (row["minutes"], row["n"]) == (5, 1000)
    }
    said = words("book/performance.md")
    for weighted, other in (
        ("min-SNR weights", "baseline"),
        ("v, min-SNR weights", "v"),
        ("v, min-SNR weights, Muon 2e-3", "v, log-normal times, Muon 2e-3"),
    ):
        assert f"{distance[weighted]:.1f} to {distance[other]:.1f}" in said
    assert distance["min-SNR weights"] < distance["baseline"]
    assert distance["v, min-SNR weights, Muon 2e-3"] > 1.1 * distance["v, log-normal times, Muon 2e-3"]


def test_the_page_on_speed_says_what_was_measured():
    """Its sentences on twenty and on eight minutes, from the rows."""
    rows = results("time-to-quality")["rows"]
    chosen = [row for row in rows if row["recipe"] == "v, log-normal and 0.1 uniform times, Muon 2e-3"]

    def distances(minutes, sampler="DPM-Solver++ 20", n=2000):
        return [
            float(row["Frechet distance"])
            for row in chosen
            if (row["minutes"], row["sampler"], row["n"]) == (minutes, sampler, n)
        ]

    page = words("book/performance.md")
    twenty, (eight,) = distances(20), distances(8)
    baseline = float(re.search(r"5,073 steps, has (\d\.\d+)", words(CARD))[1])
    assert len(twenty) == 3
    assert f"{mean(twenty):.2f} ± {stdev(twenty):.2f} in twenty minutes (three trainings)" in page
    assert f"{mean(twenty) / baseline:.2f} of what the recipe" in page
    (pace,) = [row["minutes"] / row["steps"] for row in rows if row["recipe"] == "baseline"]
    assert f"after 5,073 steps of training, which take {5073 * pace:.0f} minutes at the pace of the table" in page
    assert f"of the table ({baseline}, one training)." in page
    assert f"Eight minutes reach {eight:.2f}" in page
    (many,) = distances(20, "DPM-Solver++ 50")
    assert f"(seed 0: {twenty[0]:.2f} in 20 calls, {many:.2f} in 50)" in page
    assert eight > baseline > max(twenty)  # they pass it somewhere between
    by = {
        (tenths, weight): f"DPM-Solver++ 20, guided from {tenths}/10, weight {weight}"
        for tenths, weight in ((2, 2), (1, 2), (3, 2), (2, 3))
    }
    guided, (early,) = distances(20, by[2, 2]), distances(8, by[2, 2])
    assert len(guided) == 3
    spread = f"{mean(guided):.2f} ± {stdev(guided):.2f}"
    assert f"reach {spread} (three trainings), {mean(guided) / baseline:.2f} of the baseline" in page
    assert f"eight minutes reach {early:.2f} (one training)." in page
    first, *others = (f"{value:.2f}" for value in guided)
    assert f"which has {first}; the other two have {' and '.join(others)}." in page
    assert min(guided) == guided[0]
    tried = {key: distances(20, name, 1000)[0] for key, name in by.items()}
    assert min(tried, key=tried.get) == (2, 2)
    assert (
        f"with 1,000 images: {tried[2, 2]:.2f}. After a tenth of the steps it is {tried[1, 2]:.2f}, after three tenths "
        f"{tried[3, 2]:.2f}, and at three times the difference {tried[2, 3]:.2f}." in page
    )
    training = words("book/training.md")
    assert f"reach {mean(twenty):.2f} without the guide and {mean(guided):.2f} with it" in training
    assert f"reaches {spread} in 40 calls (three trainings, by one of which" in words("README.md")


def test_what_is_said_of_the_race_was_measured():
    """The README and the page on speed, from the rows."""
    measured = results("speed")
    ratio = {(row["contestant"], row["mode"], row["C"], row["batch"]): row["ratio"] for row in measured["rows"]}
    shipped, best = (
        {key[1:]: value for key, value in ratio.items() if key[0] == f"diffusers, {how}"}
        for how in ("as shipped", "best settings")
    )
    job = {row["contestant"]: row["ratio"] for row in measured["whole job"]}
    typed = {row["contestant"]: row["seconds"] for row in measured["command line"]}
    walk, student = f"ddpm, by default: {DEFAULT_WALK.steps} steps of DPM-Solver++", "ddpm, the student: 4 steps"
    assert walk in job, "the default walk is another one: run benchmarks/speed.py again (make bench)"
    readme, page = words("README.md"), words("book/performance.md")
    training, forward = ([shipped[mode, C, 64] for C in (32, 64)] for mode in ("training", "forward"))
    assert f"takes {training[0]} times as long as this package for a training step of 64 images with 32" in readme
    assert f"{training[1]} times with 64, and {forward[0]} and {forward[1]} times for a forward pass" in readme
    behind = [round(100 * (best["forward", C, 64] - 1)) for C in (32, 64)]
    assert "level in training, takes {} and {} % longer for a forward pass".format(*behind) in readme
    assert all(abs(best["training", C, 64] - 1) < 0.05 for C in (32, 64))
    (whole,) = (row for row in measured["whole job"] if row["contestant"] == "diffusers, best settings")
    spread = f"{whole['ratio']} ({whole['ratio min']} to {whole['ratio max']})"
    assert f"takes {spread} of this package's time for 1,000 whole images." in readme
    assert f"takes {job[walk]} of the time of DDIM in 50 steps, and the student {job[student]}." in readme
    assert f"take {job[walk]} of the time of 50 steps of DDIM" in page
    assert f"in the 4 steps of the student {job[student]}." in page
    start, *others = (typed[name] for name in ("python -c 'import torch'", "ddpm", walk, student))
    assert f"Python and torch, {start:.1f} seconds here" in page
    assert "take {:.1f} seconds in 50 steps, {:.1f} by default and {:.1f} with the student".format(*others) in page
    ceiling = [row["of ceiling"] for row in measured["rows"] if row["contestant"] == "ddpm" and row["batch"] > 1]
    assert f"reaches {100 * min(ceiling):.0f} to {100 * max(ceiling):.0f} % of what" in page
    settled = [value for (_, _, batch), value in best.items() if batch > 1]
    assert f"{100 * (1 - min(settled)):.0f} % behind to {100 * (max(settled) - 1):.0f} % ahead" in page
    raw = [value for (_, _, batch), value in shipped.items() if batch > 1]
    assert f"takes {min(raw):.1f} to {max(raw):.1f} times as long" in page


def test_what_is_said_of_samplers_was_measured():
    """Chapter 4, the page on speed, the card and the README, from the rows."""
    measured = results("samplers")
    of_seeds = {(line["sampler"], line["network calls"]): line["Frechet distance"] for line in measured["table"]}
    rows = [row for row in measured["rows"] if row["seed"] == 0]
    distance = {(row["sampler"], row["network calls"]): row["Frechet distance"] for row in rows}
    sd = {(row["sampler"], row["network calls"]): float(row["bootstrap sd"]) for row in rows}
    solver, on_karras = "DPM-Solver++(2M)", ", Karras's grid"
    guided, sooner = (distance[f"{solver}{on_karras}, guided", calls] for calls in (100, 50))
    chapter = (ROOT / "notebooks" / "04_samplers.ipynb").read_text(encoding="utf-8")
    for name, said in (("DDIM", "DDIM has"), (solver, "DPM-Solver++")):
        other = f"{name}{on_karras}", 50
        assert f"{said} {distance[other]} instead of {distance[name, 50]}" in chapter
        assert abs(float(distance[other]) - float(distance[name, 50])) < 2 * sd[other]
    in_angle, in_sigma, by_karras = "Heun", "Heun, in sigma", f"Heun, in sigma{on_karras}"
    said = " ".join(heun.__doc__.split())
    assert (
        "in 9 calls of the shipped model on a trailing grid, its images are nearer to real ones than those of" in said
    )
    assert float(distance[in_angle, 9]) - float(distance[in_sigma, 9]) > 3 * (sd[in_angle, 9] + sd[in_sigma, 9])
    assert "On the grid of Karras et al. they are much further away than either" in said
    assert float(distance[by_karras, 9]) > 2 * float(distance[in_angle, 9])
    by_ddim = distance[f"DDIM{on_karras}, guided", 50]
    assert f"The best of them, DPM-Solver++ in 100 calls, has {guided}." in chapter
    assert float(guided) == min(float(row["Frechet distance"]) for row in rows if "guided" in row["sampler"])
    card = words(CARD)
    assert f"on Karras's grid it is {distance[f'{solver}{on_karras}', 50]}; guided by" in card
    baseline = float(re.search(r"5,073 steps, has (\d\.\d+)", card)[1])
    share = float(guided) / baseline
    spread = sd[f"{solver}{on_karras}, guided", 100]
    assert f"{guided}, bootstrap standard deviation {spread}, or {share:.2f} B (seed 0)" in card
    page = words("book/performance.md")
    assert f"on Karras's grid it is {distance[f'{solver}{on_karras}', 50]}, and {guided} where" in page
    assert f"a quarter of the baseline's {baseline}" in page
    assert 0.24 < share < 0.25
    assert f"In 50 calls, 25 of each network, it is {sooner}, and by DDIM {by_ddim}." in page
    assert f"reach {guided} in 100 network calls and {sooner} in 50" in words("README.md")
    even = "DPM-Solver++(2M), grid even in log SNR"
    assert f"has {of_seeds[even, 10]} in 10 calls, where on the trailing grid it needs more than 20 for that" in chapter
    ten = [
        float(row["Frechet distance"])
        for row in measured["rows"]
        if (row["sampler"], row["network calls"]) == (even, 10)
    ]
    assert max(ten) < float(distance[solver, 20])
    for calls in (10, 20, 50):
        order = [solver, "DDIM", "ancestral, small variance", "ancestral, large variance"]
        assert sorted(order, key=lambda name: float(distance[name, calls])) == order


def test_what_chapter_4_says_of_its_own_run_was_measured_in_it():
    notebook = read_notebook(ROOT / "notebooks" / "04_samplers.ipynb")
    said, record = sources("04_samplers"), read_record(notebook)
    plane, high = (record[f"squared jump with the score over that without, {d} dimensions"].measured for d in (2, 128))
    assert f"{plane:.1f} times as large in two dimensions, and {high:.0f} times in 128" in said
    printed = " ".join(out.get("text", "") for cell in notebook["cells"] for out in cell.get("outputs", []))
    few, some = (re.search(rf"DDIM, {k} steps: Frechet distance (\S+)", printed)[1] for k in (5, 20))
    floor = re.search(r"floor, 100 real train images against the same: (\S+)", printed)[1]
    assert f"come near the floor ({float(some):.1f} against {float(floor):.1f}), and 5 steps" in said
    assert f"and 5 steps do not ({float(few):.1f})" in said


def test_what_chapter_4_says_of_noise_in_many_calls():
    """Eq. 3, churn and ancestral sampling beside the walks without noise, in up to 250 calls."""
    measured = results("samplers")
    of_seeds = {(line["sampler"], line["network calls"]): line["Frechet distance"] for line in measured["table"]}
    each = {(row["sampler"], row["network calls"], row["seed"]): row["Frechet distance"] for row in measured["rows"]}
    distance = {key[:2]: value for key, value in each.items() if key[2] == 0}
    sd = {
        (row["sampler"], row["network calls"]): float(row["bootstrap sd"])
        for row in measured["rows"]
        if row["seed"] == 0
    }
    chapter = (ROOT / "notebooks" / "04_samplers.ipynb").read_text(encoding="utf-8")
    solver, churning = "DPM-Solver++(2M)", "Heun with churn"
    half = distance["flow and half of Langevin", 50]
    assert f"in 50 calls it has {half}, and DDIM {distance['DDIM', 50]}. In 250" in chapter
    churn, without = ([of_seeds[name, calls] for calls in (9, 19, 49)] for name in (churning, STILL))
    assert f"with churn they are worse: {churn[0]} and {without[0]}. With 19" in chapter
    assert f"With 19 calls it has {churn[1]} with churn and {without[1]} without. With 49" in chapter
    assert f"With 49 it has {churn[2]} and {without[2]}, and churn is ahead from two of three seeds" in chapter
    ahead = [float(each[churning, 49, seed]) < float(each[STILL, 49, seed]) for seed in (0, 1, 2)]
    assert sum(ahead) == 2
    assert float(distance["DDIM", 50]) < float(half) < float(distance["ancestral, large variance", 50])
    churned, drawn = distance[churning, 249], distance["ancestral, small variance", 250]
    still, solved = distance["DDIM", 250], distance[solver, 250]
    again = each["ancestral, small variance", 250, 1]
    assert f"Heun with churn has {churned}, ancestral sampling {drawn} and {again} (two seeds), DDIM {still}" in chapter
    assert f"and DPM-Solver++ {solved}. These differ by at most about two *bootstrap" in chapter
    half = distance["flow and half of Langevin", 250]
    assert f"In 250 it is at {half}, though at most times it adds only about half as much variance" in chapter
    schedule = linear()
    moves = [(t, s) for t, s in pairwise(schedule.timesteps(250)) if s > 0]
    shares = [schedule.beta(t, s) / 2 / schedule.posterior_std(t, s) ** 2 for t, s in moves]  # of the small variance
    assert 0.5 < median(shares) < 0.51
    assert float(half) > float(solved) + 2 * sd["flow and half of Langevin", 250]
    assert max(float(churned), float(drawn)) < min(float(still), float(solved))
    assert float(solved) > float(distance[solver, 50]) - sd[solver, 50]
    spreads = [sd[row] for row in sd if row[1] >= 249 and row[0] != "flow and half of Langevin"]
    assert f"(here {min(spreads):.2f} to {max(spreads):.2f})" in chapter
    assert 1 < (float(solved) - float(churned)) / max(spreads) < 3
    less = float(distance[STILL, 249]) - float(churned)
    assert f"Heun has {distance[STILL, 249]}: {less:.2f} more, which is over two standard deviations of" in chapter
    assert f"With 249, above, it is ahead by {less:.2f}, from one seed" in chapter
    by_chance = math.hypot(sd[STILL, 249], sd[churning, 249])
    by_seed = stdev(float(each[churning, 49, seed]) - float(each[STILL, 49, seed]) for seed in (0, 1, 2))
    assert 2 < less / max(by_chance, by_seed) < 3


def test_half_of_langevin_draws_half_as_much_noise_and_leaves_too_much_at_the_end():
    """What chapter 4 says of eq. 3 in 250 moves, where its factor of the noise is 0.5."""
    schedule = linear()
    grid = schedule.timesteps(250)
    small = sum(schedule.posterior_std(t, s) ** 2 for t, s in pairwise(grid) if s > 0)
    half = sum(0.5 * schedule.beta(t, s) for t, s in pairwise(grid) if s > 0)
    assert half / small == pytest.approx(0.5, abs=0.02)
    image = EmpiricalData(torch.zeros(1, 1, dtype=torch.float64), schedule)
    torch.manual_seed(0)
    noise = torch.randn(100_000, 1, dtype=torch.float64)
    (at_4,) = [step.x for step in flow_and_langevin(image, noise, grid, weight=0.5) if step.t == 4]
    assert at_4.var().item() / schedule.noise(4) ** 2 == pytest.approx(1.52, abs=0.02)
    assert "its state at $t = 4$ has 1.52 times the noise variance" in words("notebooks/04_samplers.ipynb")


def test_the_default_draws_no_worse_than_fifty_calls_of_ddim_and_ten_calls_of_it_do():
    """With every seed that was drawn of both, and so it is said everywhere."""

    def distances(file, by, name, calls):
        rows = results(file)["rows"]
        own = [row for row in rows if (row[by], row["network calls"]) == (name, calls)]
        return {row["seed"]: float(row["Frechet distance"]) for row in own}

    even = "DPM-Solver++(2M), grid even in log SNR"
    own, ten = (distances("samplers", "sampler", even, calls) for calls in (DEFAULT_WALK.steps, 10))
    ddim = distances("distillation", "model", "teacher, DDIM", 50)
    assert DEFAULT_WALK == ("dpm_solver_pp", 12, "log_snr")
    assert sorted(own) == sorted(ddim) == [0, 1, 2]
    assert all(own[seed] < ddim[seed] for seed in own)
    assert ten
    assert all(ten[seed] > ddim[seed] for seed in ten)
    for seed, distance in distances("samplers", "sampler", "DDIM", 50).items():  # both files have drawn it
        assert distance == ddim[seed]
    of_fifty = f"{mean(ddim.values()):.2f} ± {stdev(ddim.values()):.2f}"
    assert f"{of_fifty}: one training, three seeds of its samples" in words("README.md")
    assert f"{of_fifty} over three seeds of its samples" in words("book/performance.md")
    card = words(CARD)
    assert f"**{of_fifty}** over three seeds of the samples; with seed 0 it is {ddim[0]:.2f}," in card
    baseline = float(re.search(r"5,073 steps, has (\d\.\d+)", card)[1])
    assert f"so this is {mean(ddim.values()) / baseline:.2f} B." in card
    said = f"{mean(own.values()):.2f} ± {stdev(own.values()):.2f}"
    for page in ("README.md", "CHANGELOG.md", "book/performance.md", CARD, "notebooks/04_samplers.ipynb"):
        assert said in words(page), page


def test_what_chapter_6_says_of_the_student():
    """Its distances over three seeds, what every seed confirms, and what its training cost, from its record."""
    measured = results("distillation")
    ddim, solver = "teacher, DDIM", "teacher, DPM-Solver++(2M), grid even in log SNR"

    def distance(name, calls):
        wanted = (name, calls, 3)
        (line,) = [
            line for line in measured["table"] if (line["model"], line["network calls"], line["seeds"]) == wanted
        ]
        return line["Frechet distance"]

    def in_brackets(name, calls):
        """The mean, and what a distance scatters when the images are drawn again from the set."""
        (line,) = [line for line in measured["table"] if (line["model"], line["network calls"]) == (name, calls)]
        return f"{line['Frechet distance'].split()[0]} ({line['bootstrap sd']})"

    text, card = sources("06_flows"), words(f"{STUDENT}/card.md")
    four = distance("student", 4)
    near, by_ddim, in_twenty = (found.split()[0] for found in (four, distance(ddim, 4), distance(ddim, 20)))
    scatter = next(line["bootstrap sd"] for line in measured["table"] if line["Frechet distance"] == four)
    assert f"has a distance of {near} (bootstrap sd {scatter}), where its teacher has {by_ddim} by DDIM" in text
    one, by_eight = distance("student", 1), distance(ddim, 8)
    assert abs(float(one.split()[0]) - float(by_eight.split()[0])) < 0.3  # "about as near"
    assert "in twenty-four, guided, it is nearer to the data than any other line" in text
    by_solver = distance(solver, 8).split()[0]
    assert f"a distance of {four.split()[0]} is good enough: eight calls of the model itself give {by_solver}." in text
    own = {calls: in_brackets("student", calls) for calls in (1, 2, 4, 8)}
    said = own[4].replace(" ", "** ", 1)
    assert f"**{said}; of the student of eight calls that taught it, {own[8]}." in card
    assert f"it has {own[2]} in two calls and {own[1]} in one" in card
    of_teacher = [in_brackets(ddim, calls) for calls in (4, 10, 20, 50)]
    assert "{} in four calls, {} in ten, {} in twenty and {} in fifty".format(*of_teacher) in card

    found = {(row["model"], row["network calls"], row["seed"]): row for row in measured["rows"]}
    far = {key: float(row["Frechet distance"]) for key, row in found.items()}
    for seed in (0, 1, 2):
        assert far["student", 4, seed] < far[ddim, 20, seed]
        assert far[solver, 8, seed] < far["student", 4, seed] < far[solver, 4, seed]
        assert far["student", 8, seed] < far[solver, 8, seed]
        own = {key[:2]: value for key, value in far.items() if key[2] == seed}
        assert min(own, key=own.__getitem__) == ("teacher, the same, guided", 24)
        assert own[solver, 12] < min(value for (name, calls), value in own.items() if calls <= 12 and name != solver)
    at_four = f"DDIM in twenty has {in_twenty}, and with each of the three seeds the student is nearer,"
    at_eight = "a tenth nearer than DPM-Solver++ in as many calls, with each seed"
    for said, ours, theirs in ((at_four, ("student", 4), (ddim, 20)), (at_eight, ("student", 8), (solver, 8))):
        nearer = [far[(*theirs, seed)] - far[(*ours, seed)] for seed in (0, 1, 2)]
        assert f"{said} by {min(nearer):.2f} to {max(nearer):.2f}." in text
    of_student, of_solver, of_fifty = (
        mean(far[name, calls, seed] for seed in (0, 1, 2)) for name, calls in (("student", 8), (solver, 8), (ddim, 50))
    )
    assert of_student / of_fifty < 1.1  # "within a tenth of that"
    assert of_student / of_solver == pytest.approx(0.9, abs=0.02)  # "a tenth nearer"
    training = json.loads((ROOT / STUDENT / "config.json").read_text(encoding="utf-8"))["training"]
    assert f"four = {training['steps']} * images * (2 + 3)" in text
    assert f"images = {training['batch_size']}  # in a step" in text
    calls = training["batch_size"] * (2400 * (4 + 3) + training["steps"] * (2 + 3))
    assert round(calls / (8 - 4), -4) == 360_000  # "some 360,000 garments"
    assert "after some 360,000 garments" in text


def test_what_chapter_2_says_of_a_transformer():
    """From one seed, and far outside of what the draws of images scatter."""
    measured = results("transformer")
    table = measured["table"]
    unet, coarse, fine = dict.fromkeys(line["network"] for line in table)
    by_rate = {
        name: {line["learning rate"]: float(line["Frechet distance"]) for line in table if line["network"] == name}
        for name in (unet, coarse, fine)
    }
    text = sources("02_unet_dimensions")
    assert {line["seeds"] for line in table} == {1}
    assert measured["provenance"]["minutes"] == 5
    assert {len(distances) for distances in by_rate.values()} == {5}
    assert "at five learning rates and with all other settings as they had been chosen for the UNet" in text
    best = {name: min(distances.values()) for name, distances in by_rate.items()}
    assert f"At the best rate of each, the UNet's drawings lie at a distance of {best[unet]:.1f} from" in text
    assert f"of 4 × 4 pixels at {best[coarse]:.1f}, with patches of 2 × 2 at {best[fine]:.1f}" in text
    own = min(by_rate[unet], key=by_rate[unet].get)
    level = max(distance for rate, distance in by_rate[unet].items() if 0.001 <= rate <= 0.008)
    assert (
        f"at {own:g}, the UNet's best, they have {by_rate[coarse][own]:.1f} and {by_rate[fine][own]:.1f}, while the "
        f"UNet has at most {level:.1f} anywhere from 0.001 to 0.008, and {by_rate[unet][0.016]:.1f} at 0.016."
    ) in text
    lines = {line["network"]: line for line in table}  # but for the rate, alike in what follows
    steps = [lines[name]["steps"] for name in (unet, coarse, fine)]
    assert "In these minutes they made {}, {} and {} steps".format(*steps) in text
    sizes = {name: float(line["parameters"].removesuffix(" M")) for name, line in lines.items()}
    assert min(sizes, key=sizes.get) == fine
    arithmetic = {name: float(line["FLOPs an image"].removesuffix(" M")) for name, line in lines.items()}
    assert max(arithmetic, key=arithmetic.get) == fine
    assert "the last one has the fewest parameters and the most arithmetic an image" in text
    for line in table:
        if float(line["Frechet distance"]) == best[line["network"]]:
            assert float(line["bootstrap sd"]) < 0.05 * (min(best[coarse], best[fine]) - best[unet])


def test_what_chapter_6_says_of_the_straight_path():
    """The means over three seeds, and which of them every seed confirms."""
    measured = results("straight-path")
    recipe, usual, same_times = (
        [float(row["Frechet distance"]) for row in measured["rows"] if row["model"] == name]
        for name in ("the recipe", "straight path, its usual times", "straight path, the recipe's times")
    )
    text = sources("06_flows")
    assert f"Nine were trained for {measured['provenance']['steps']} steps each" in text
    assert len(recipe) == len(usual) == len(same_times) == 3
    by_recipe, by_usual, by_same = (f"{mean(d):.2f} ± {stdev(d):.2f}" for d in (recipe, usual, same_times))
    assert f"the recipe's times the distance is {by_same}, and on the linear schedule {by_recipe}." in text
    assert f"around equal signal and noise (Esser et al. 2024), it is {by_usual}" in text
    assert sum(one < other for one, other in zip(same_times, recipe, strict=True)) == 2
    assert all(one > other for one, other in zip(usual, same_times, strict=True))


def test_what_chapter_5_and_the_card_say_of_garments_by_class():
    """Of the means over three seeds, and where it says so of each seed."""
    measured = results("guidance")
    assert measured["provenance"]["seed"] == [0, 1, 2]
    assert len(measured["rows"]) == 3 * len(measured["table"]) == 66
    by_seed = {(row["guidance"], row["seed"]): row for row in measured["rows"]}
    table = {line["guidance"]: line for line in measured["table"]}

    def number(name, measure):
        return float(table[name][measure].partition(" ± ")[0])

    weights = ["none", *(f"classes, w = {w:g}" for w in (1.5, 2, 3, 4, 6, 8))]
    distance, recall, accuracy = (
        [number(name, measure) for name in weights] for measure in ("Frechet distance", "recall", "accuracy")
    )
    assert accuracy == sorted(accuracy)
    assert recall == sorted(recall, reverse=True)
    assert distance == sorted(distance)
    of_real = float(measured["real images"]["accuracy"])
    assert accuracy[1] < of_real < accuracy[2]
    assert round(distance[-1] / distance[0]) == 9
    middle, wider = (f"classes, w = 2, sigma 0.5 to {high}" for high in (2, 6))
    for seed in (0, 1, 2):
        none, guided = by_seed["none", seed], by_seed[middle, seed]
        assert float(guided["Frechet distance"]) < float(none["Frechet distance"])
        assert float(guided["accuracy"]) > float(none["accuracy"])
        assert abs(float(guided["recall"]) - float(none["recall"])) < 0.02
        assert guided["network calls"] - none["network calls"] == 2
        assert by_seed["classes, w = 2", seed]["network calls"] - none["network calls"] == 15
    assert number(wider, "accuracy") > number(middle, "accuracy")
    assert number(wider, "Frechet distance") > distance[0]
    worse = number("a worse model, w = 1.3", "Frechet distance")
    assert worse < min(number("none, twice the moves", "Frechet distance"), *distance[1:])
    assert number("none, twice the moves", "Frechet distance") > distance[0]
    assert number("a worse model, w = 1.6", "Frechet distance") > distance[0]
    strong = "classes, w = 4, sigma 0.5 to 2"
    assert number(strong, "Frechet distance") > distance[0]
    best = {line["measure"]: line for line in measured["best"]}
    for measure in ("Frechet distance", "kernel distance x 1,000", "accuracy"):
        assert best[measure]["confirmed by seeds"] == [1, 2]
    assert best["precision"]["confirmed by seeds"] == [1]
    assert best["recall"]["best on seed 0"] == "none"
    for seed in (1, 2):
        own = {name: float(by_seed[name, seed]["recall"]) for name in table}
        assert max(own, key=own.get) == "classes, w = 2, sigma 0.2 to 2"
    chapter = (ROOT / "notebooks" / "05_guidance.ipynb").read_text(encoding="utf-8")
    more, further = number(strong, "accuracy"), number(strong, "Frechet distance")
    assert f"more are recognised ({more:.2f}), but the distance no longer falls ({further:.2f})" in chapter
    untold, began = (
        number(f"none, {name}", "Frechet distance") for name in ("no class told", "a network without classes")
    )
    assert f"as the one that it was trained on from ({untold:.2f} and {began:.2f})" in chapter
    assert "at $w = 8$ it is nine times as large as without guidance" in chapter
    assert "It takes two calls more instead of fifteen" in chapter
    card = words("ddpm/assets/models/fashion-mnist-classes/card.md")
    for name in ("none, no class told", "none, a network without classes", "none", middle, "classes, w = 2"):
        assert f"| {table[name]['Frechet distance']} |" in card
    (same_noise,) = [
        row["Frechet distance"]
        for row in results("samplers")["rows"]
        if (row["sampler"], row["network calls"], row["seed"]) == ("DPM-Solver++(2M), grid even in log SNR", 12, 0)
    ]
    assert f"where `fashion-mnist` has {same_noise} from the same noise; told" in card


def test_what_chapter_5_says_of_two_ways_with_each_seed():
    measured = results("guidance")
    by_seed = {(row["guidance"], row["seed"]): row for row in measured["rows"]}
    text = sources("05_guidance")

    def less(name, other, measure="Frechet distance"):
        pairs = ((by_seed[name, seed][measure], by_seed[other, seed][measure]) for seed in (0, 1, 2))
        return sorted(round(float(two) - float(one), 3) for one, two in pairs)

    least, _, most = less("a worse model, w = 1.3", "none, twice the moves")
    assert f"That is better, with each of the three seeds and by {least} to {most}, than to spend" in text
    assert less("classes, w = 2, sigma 0.2 to 2", "classes, w = 2, sigma 0.5 to 2") == [0, 0.01, 0.01]
    assert "the Frechet distance is level with one seed and 0.01 larger with two" in text
    told = [line["guidance"] for line in measured["table"] if line["accuracy"]]
    assert all(less(name, "classes, w = 8", "accuracy")[0] >= 0 for name in told)
    assert "No way has more accuracy than $w = 8$, with any seed" in text


def test_the_challenge_for_a_class_is_measured_by_the_distances_of_the_table():
    page = words("book/instructors.md")
    distances = {
        (row["model"], row["network calls"]): row["Frechet distance"].split(" ")[0]
        for row in results("distillation")["table"]
    }
    for model, said in (
        ("teacher, DDIM", "`fashion-mnist` by DDIM"),
        ("student", "its students, by progressive distillation"),
    ):
        assert f"| {said} | {' | '.join(distances[model, calls] for calls in (1, 2, 4))} |" in page
