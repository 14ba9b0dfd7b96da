import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from statistics import mean, stdev
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
import typer
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import ddpm
from ddpm.autoencoder import Autoencoder, AutoencoderConfig
from ddpm.companion.long_runs import over_seeds
from ddpm.data import load, normalise
from ddpm.denoiser import Guided, NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.distillation import distill
from ddpm.fast import Recorded
from ddpm.files import load_tensors, read_json
from ddpm.interop import export_diffusers
from ddpm.metrics import accuracy, frechet_distance
from ddpm.oracles import GaussianMixture
from ddpm.samplers import final, heun
from ddpm.schedule import cosine, linear, straight
from ddpm.targets import Prediction
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.training.recipes import recipe
from ddpm.unet import UNet, UNetConfig
from equal_terms import measures, table, terms
from equal_terms import report as equal_report
from equal_terms import runs as trainings
from race import clock, comparison, fidelity, networks, report, search, whole_job
from race.networks import PEERS, Settings, choices
from tests.checkout import ROOT, script
from tests.networks import SMALL_UNET, stirred

pytestmark = pytest.mark.long

BENCHMARKS = ROOT / "benchmarks"
SAID_OF_SPEED = "README.md", "book/performance.md"


def test_quality_against_calls_goes_on_where_it_stopped(tmp_path):
    train(
        DiffusionConfig(SMALL_UNET), load("fashion-mnist-embedded", "train", quiet=True),
        TrainingConfig(steps=1, batch_size=2), tmp_path / "run",
    )  # fmt: skip
    out, samplers = tmp_path / "samplers.json", script("benchmarks/samplers.py")

    def rows():
        results = json.loads(out.read_text())
        return {(row["sampler"], row["network calls"], row["seed"]): row for row in results["rows"]}

    def table(*calls, seed=0):
        samplers.main(str(tmp_path / "run"), 65, None, list(calls), [seed], out)
        return rows()

    command = [sys.executable, BENCHMARKS / "samplers.py", "--model", tmp_path / "run", "--n", "65", "--out", out]
    options = ["--seed", "0", "--calls", "2", "--sampler", "Heun"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(rows()) == [("Heun", 1, 0)]
    first = table(3)
    assert ("Heun", 1, 0) in first  # three calls are one move of two, less one
    every = len(samplers.SAMPLERS)
    assert len(first) == every
    assert ("DDIM, Karras's grid, guided", 2, 0) in first  # one move of two networks
    second = table(3, 4)
    assert len(second) == 2 * every
    assert all(second[key] == row for key, row in first.items())
    both = table(4, seed=1)
    assert len(both) == 3 * every
    assert all(both[name, calls, 0] == row for (name, calls, _), row in second.items())
    for (name, calls, seed), row in both.items():
        assert seed == 0 or row["Frechet distance"] != second[name, calls, 0]["Frechet distance"]
    means = {(line["sampler"], line["network calls"]): line for line in json.loads(out.read_text())["table"]}
    values = [float(both["DDIM", 4, seed]["Frechet distance"]) for seed in (0, 1)]
    assert means["DDIM", 4]["Frechet distance"] == f"{mean(values):.2f} ± {stdev(values):.2f}"
    assert means["DDIM", 3]["Frechet distance"] == both["DDIM", 3, 0]["Frechet distance"]


def test_students_beside_their_teacher_go_on_where_it_stopped(tmp_path):
    settings = TrainingConfig(steps=1, batch_size=2, threads=1)
    images = load("fashion-mnist-embedded", "train", quiet=True)
    train(DiffusionConfig(SMALL_UNET, target="v"), images, settings, tmp_path / "teacher", progress=False)
    distill(tmp_path / "teacher", images, settings, tmp_path / "run", 1, 4, progress=False)
    out, distillation = tmp_path / "distillation.json", script("benchmarks/distillation.py")
    assert set(distillation.students_in([tmp_path / "run"])) == {1, 2}
    assert set(distillation.students_in([tmp_path / "run" / "teachers" / "calls-2"])) == {2}

    def rows(*names, seeds=(0,)):
        distillation.main([tmp_path / "run"], str(tmp_path / "teacher"), 65, list(names), list(seeds), out)
        return {(row["model"], row["network calls"], row["seed"]): row for row in json.loads(out.read_text())["rows"]}

    first = rows("student")
    assert list(first) == [("student", 1, 0), ("student", 2, 0)]  # none of four and eight calls was made
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 10 * 3 * 32
    both = rows("student", "teacher, the same, guided", seeds=(0, 1))
    assert all(both[key] == row for key, row in first.items())
    assert {calls for name, calls, _ in both if name != "student"} == {4, 8, 12, 24}
    means = {(line["model"], line["network calls"]): line for line in json.loads(out.read_text())["table"]}
    values = [float(both["student", 2, seed]["Frechet distance"]) for seed in (0, 1)]
    assert means["student", 2]["Frechet distance"] == f"{mean(values):.2f} ± {stdev(values):.2f}"
    with pytest.raises(typer.BadParameter, match="it must be the folder of a run of ddpm distill"):
        distillation.students_in([tmp_path / "teacher"])
    with pytest.raises(typer.BadParameter, match="runs has two students of 2 calls"):
        distillation.students_in([tmp_path / "run", tmp_path / "run" / "teachers" / "calls-2"])
    with pytest.raises(typer.BadParameter, match="row is 'pupil'; legal are student, teacher, DDIM"):
        rows("pupil")


def test_the_straight_path_beside_the_recipe_goes_on_where_it_stopped(tmp_path, monkeypatch):
    straight_path = script("benchmarks/straight_path.py")
    small = {name: replace(model, unet=SMALL_UNET) for name, model in straight_path.ROWS.items()}
    monkeypatch.setattr(straight_path, "ROWS", small)
    out = tmp_path / "straight-path.json"

    def rows(*names, seeds=(0,)):
        straight_path.main(1, list(names), list(seeds), 65, "fashion-mnist-embedded", tmp_path / "runs", out)
        return {(row["model"], row["seed"]): row for row in json.loads(out.read_text())["rows"]}

    trained, train = [], straight_path.train
    monkeypatch.setattr(straight_path, "train", lambda *given: trained.append(given[-1].name) or train(*given))
    first = rows("the recipe")
    assert list(first) == [("the recipe", 0)]
    both = rows(seeds=(0, 1))
    assert len(trained) == len(set(trained)) == 6
    assert set(both) == {(name, seed) for name in small for seed in (0, 1)}
    assert both["the recipe", 0] == first["the recipe", 0]
    lines = {line["model"]: line for line in json.loads(out.read_text())["table"]}
    values = [float(both["the recipe", seed]["Frechet distance"]) for seed in (0, 1)]
    assert lines["the recipe"]["Frechet distance"] == f"{mean(values):.2f} ± {stdev(values):.2f}"
    with pytest.raises(typer.BadParameter, match="row is 'reflow'; legal are the recipe, straight path"):
        rows("reflow")


def test_all_rows_of_the_straight_path_draw_at_the_same_noise_levels():
    times_of = script("benchmarks/straight_path.py").times_of
    assert times_of(linear()) == pytest.approx(linear().timesteps(12, "log_snr"))
    times = times_of(straight())
    assert (times[0], times[-1]) == (1000, 0)
    sigmas = [straight().sigma(t) for t in times[1:-1]]
    assert sigmas == pytest.approx([linear().sigma(t) for t in times_of(linear())[1:-1]])


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("samplers", "--calls", "0"),
        ("samplers", "--n", "64"),
        ("samplers", "--seed", "-1"),
        ("distillation", "--n", "64"),
        ("straight_path", "--steps", "0"),
        ("ablations", "--n", "3000"),
        ("ablations", "--steps", "0"),
        ("round_trip", "--n", "2001"),
        ("generative_models", "--n", "2001"),
        ("generative_models", "--n", "129"),
        ("time_to_quality", "--minutes", "0"),
        ("transformer", "--minutes", "0"),
        ("scaling", "--rounds", "0"),
        ("speed", "--rounds", "0"),
    ],
)
def test_a_number_that_makes_no_row_is_refused_before_any_work(name, option, value, tmp_path):
    app = typer.Typer(rich_markup_mode=None)
    app.command()(script(f"benchmarks/{name}.py").main)
    out = ["--out", str(tmp_path / "table.json")] if name != "speed" else []
    done = CliRunner().invoke(app, [*(["run"] if name == "distillation" else []), option, value, *out])
    assert done.exit_code == 2
    assert option in done.output
    assert "should be" in done.output
    assert not list(tmp_path.iterdir())


def test_a_committed_file_takes_more_rows_and_refuses_those_of_other_weights(tmp_path, monkeypatch):
    """On any machine, and before anything is drawn; a guide that the file does not name counts as its own."""
    samplers, results = script("benchmarks/samplers.py"), BENCHMARKS.parent / "book" / "results"
    out = tmp_path / "samplers.json"
    out.write_bytes((results / "samplers.json").read_bytes())
    monkeypatch.setattr(torch, "__version__", "2.99")
    monkeypatch.setattr(samplers.ddpm, "sample", lambda *given, **options: pytest.fail("it draws a row that is there"))
    samplers.main("fashion-mnist", 2000, ["DDIM"], [10], [0], out)
    monkeypatch.setattr(samplers.ddpm, "load", lambda *given: pytest.fail("it loads weights first"))
    before = out.read_bytes()
    with pytest.raises(
        typer.BadParameter, match=r"'samplers.json', whose rows have weights '1f61.*; asked for is 'c896"
    ):
        samplers.main("equal-diffusion", 2000, ["DDIM"], [10], [0], out)
    with pytest.raises(typer.BadParameter, match=r"rows have n 2000; asked for is 65: name another file by --out"):
        samplers.main("fashion-mnist", 65, ["DDIM"], [10], [0], out)
    named = json.loads(before)
    named["provenance"]["guide"] = "another"
    out.write_text(json.dumps(named), encoding="utf-8")
    with pytest.raises(typer.BadParameter, match=r"rows have guide 'another'; asked for is 'c896"):
        samplers.main("fashion-mnist", 2000, ["DDIM"], [10], [0], out)
    round_trip = script("benchmarks/round_trip.py")
    out.write_bytes((results / "round-trip.json").read_bytes())
    with pytest.raises(typer.BadParameter, match=r"rows have weights '1f61.*; asked for is 'c896"):
        round_trip.main("equal-diffusion", 500, [0], out)


@pytest.fixture(scope="module")
def guidance():
    return script("benchmarks/guidance.py")


def test_guidance_is_measured_on_the_classes_asked_for_and_goes_on_where_it_stopped(
    guidance, tmp_path, monkeypatch, capsys
):
    network = UNetConfig(base_channels=8, blocks_per_level=1, head_channels=8, classes=10)
    run, out, judged = tmp_path / "run", tmp_path / "guidance.json", []
    train(
        DiffusionConfig(network), load("fashion-mnist-embedded", "train", quiet=True),
        TrainingConfig(steps=3, batch_size=2, learning_rate=0.01, warmup=0, ema=0.0), run,
    )  # fmt: skip
    # In the first step the last layer is all zeros, so the embeddings of the classes count from the second on.

    garments = load("fashion-mnist-embedded", "train", quiet=True)
    real, real_labels = garments.images[:65], garments.labels[:65]

    def watched(images, labels):
        if not torch.equal(labels, real_labels):
            judged.append((images, labels))
        return accuracy(images, labels)

    monkeypatch.setattr(guidance.metrics, "accuracy", watched)

    def table(*names, steps=2):
        guidance.main(str(run), 65, list(names), [0], steps, out)
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
        return {row["guidance"]: row for row in rows}, capsys.readouterr().out.count("Frechet distance")

    untold, within = guidance.NO_CLASS, "classes, w = 4, sigma 0.5 to 2"
    few = ["none", "classes, w = 4", within, "a worse model, w = 2"]
    first, drawn = table(*few)
    assert drawn == 4
    rows, drawn = table(untold, *few, "none, twice the moves", "both")
    assert drawn == 3
    assert all(rows[name] == first[name] for name in few)
    assert list(rows) == [untold, "none", "none, twice the moves", "classes, w = 4", within, few[-1], "both"]
    assert [row["network calls"] for row in rows.values()] == [2, 2, 4, 4, 2, 4, 3]  # both: one move of three calls

    def plain(labels):
        told = ddpm.load(run).given(labels)
        return ddpm.sample(told, 65, "dpm_solver_pp", 2, spacing="karras", progress=False).clamp(-1, 1)

    labels = torch.arange(65) % 10
    images = plain(labels)
    assert torch.equal(judged[0][0], images)
    assert not torch.equal(judged[0][0], plain(labels.roll(1)))
    assert len(judged) == 6
    assert all(torch.equal(asked, labels) for _, asked in judged)
    assert rows["none"]["accuracy"] == f"{accuracy(images, labels):.3f}"
    assert rows[untold]["accuracy"] == ""
    distances = {name: row["Frechet distance"] for name, row in rows.items()}
    assert distances["none"] == distances[within] == f"{frechet_distance(images, weights='EMA').value:.2f}"
    assert len({*distances.values()}) == 6  # the other rows are all different

    written, drawn = table(guidance.NO_CLASSES)
    assert (len(written), drawn) == (8, 1)
    alone, network = written[guidance.NO_CLASSES], ddpm.load("fashion-mnist")
    images = ddpm.sample(network, 65, "dpm_solver_pp", 2, spacing="karras", progress=False).clamp(-1, 1)
    assert alone["Frechet distance"] == f"{frechet_distance(images, weights='EMA').value:.2f}"
    assert (alone["network calls"], alone["accuracy"]) == (2, "")

    of_real = json.loads(out.read_text(encoding="utf-8"))["real images"]
    assert of_real["accuracy"] == f"{accuracy(normalise(real), real_labels):.3f}"

    before = out.read_bytes()
    with pytest.raises(typer.BadParameter, match=r"'guidance.json', whose rows have steps 2; asked for is 1: .* --out"):
        table(untold, steps=1)  # rows in other moves are not of this table
    assert out.read_bytes() == before
    with pytest.raises(typer.BadParameter, match=r"^row is 'nothing'; legal are none, no class told, none, .*, both$"):
        table("nothing")
    with pytest.raises(typer.BadParameter, match="model is 'fashion-mnist'; it must be one that is told the classes"):
        guidance.main("fashion-mnist", 65, ["none"], [0], 2, out)


def test_the_best_guidance_is_chosen_on_one_seed_and_confirmed_on_others(guidance):
    """Seed 1 confirms the distance and not the recall, seed 2 lacks a row; no class is told in a row."""
    values = {
        ("none", 0): ("3.00", "0.700", "0.900"), ("classes, w = 2", 0): ("2.00", "0.600", "0.950"),
        ("none", 1): ("4.00", "0.600", "0.900"), ("classes, w = 2", 1): ("1.00", "0.650", "0.950"),
        ("none", 2): ("1.00", "0.700", "0.900"), (guidance.NO_CLASS, 0): ("2.50", "0.700", ""),
        (guidance.NO_CLASS, 1): ("2.50", "0.500", ""),
    }  # fmt: skip
    same = {"kernel distance x 1,000": "1.00", "precision": "0.500", "network calls": 20, "bootstrap sd": "0.10"}
    rows = [
        same | {"guidance": name, "seed": seed, "Frechet distance": distance, "recall": recall, "accuracy": share}
        for (name, seed), (distance, recall, share) in values.items()
    ]
    found = {line.pop("measure"): tuple(line.values()) for line in guidance.best(rows)}
    assert found["Frechet distance"] == ("classes, w = 2", [1], [])
    assert found["recall"] == ("none", [], [1])
    assert found["accuracy"] == ("classes, w = 2", [1], [])
    assert found["precision"] == ("none", [1], [])  # all are equal
    means = {line["guidance"]: line for line in over_seeds(rows, ("guidance",), ("Frechet distance", "accuracy"))}
    assert means["classes, w = 2"]["Frechet distance"] == "1.50 ± 0.71"
    assert (means[guidance.NO_CLASS]["accuracy"], means[guidance.NO_CLASS]["seeds"]) == ("", 2)


@pytest.fixture
def one_small_width(monkeypatch):
    for module in (comparison, search, whole_job):
        monkeypatch.setattr(module, "WIDTHS", (8,))


@pytest.fixture
def speed():
    return script("benchmarks/speed.py")


@pytest.fixture
def race_on_a_gpu(monkeypatch):
    """The modules of the race as a machine with a GPU reads them."""
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        for name in [name for name in sys.modules if name.partition(".")[0] == "race"]:
            patched.delitem(sys.modules, name)
        return SimpleNamespace(**{name: import_module(f"race.{name}") for name in ("alone", "clock", "loop", "report")})


@pytest.fixture(scope="module")
def ablations():
    return script("benchmarks/ablations.py")


def test_networks_without_a_part_lack_it_and_attention_is_matched(ablations):
    networks = {name: recipe("diffusion", **settings)[0].unet for name, settings in ablations.NETWORKS.items()}
    costs = {
        name: ablations.forward_cost(partial(UNet, network)) for name, network in networks.items()
    }  # of a pass through each
    without = networks["no attention, as many parameters"]
    for a, b, most in zip(costs["whole"], costs["no attention, as many parameters"], (0.02, 0.01), strict=True):
        assert abs(b / a - 1) < most
    modules = [type(module).__name__ for module in ablations.UNet(without).modules()]
    assert "SelfAttention" not in modules
    assert "SelfAttention" in [type(module).__name__ for module in ablations.UNet(networks["whole"]).modules()]
    x, early, late = torch.randn(1, 1, 32, 32), torch.tensor([3.0]), torch.tensor([900.0])
    told = {}
    for name in ("whole", "not told the time"):
        network = stirred(ablations.UNet(networks[name]), 0.05)
        told[name] = not torch.equal(network(x, early), network(x, late))
    assert told == {"whole": True, "not told the time": False}


def test_the_held_out_loss_is_of_the_network_and_of_nothing_drawn(ablations):
    model, _ = recipe("diffusion")
    trained, fresh = ddpm.load("fashion-mnist", "float32"), model.denoiser("float32", (1, 32, 32))
    torch.manual_seed(0)
    first = ablations.held_out_loss(trained, model, 100)
    torch.manual_seed(1)
    assert ablations.held_out_loss(trained, model, 100) == first
    assert first < 0.25 * ablations.held_out_loss(fresh, model, 100)


def test_the_ablations_conditions_name_the_images_and_the_floor_of_their_rows(ablations):
    measured = read_json(ROOT / "book" / "results" / "ablations.json")
    said = ablations.conditions(measured["rows"])["conditions"]
    assert measured["conditions"] == said
    for text in ("over 1,000 test images", "1,000 images against all 10,000", "floor 1.47, of 1,000 real"):
        assert text in said


def test_ablations_go_on_where_they_stopped(ablations, tmp_path, monkeypatch, capsys):
    """The row of a small network, which the command line then finds."""
    small = {"base_channels": 8, "head_channels": 8, "channel_multipliers": (1, 2, 2), "skips": False}
    monkeypatch.setitem(ablations.NETWORKS, "no skips", small)
    out, runs = tmp_path / "ablations.json", tmp_path / "runs"
    ablations.main(["no skips"], [0], 1, 65, "fashion-mnist-embedded", runs, out)
    assert "held-out loss" in capsys.readouterr().out
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert float(row["distance, ddim 20"]) > float(row["floor"])
    command = [
        sys.executable, BENCHMARKS / "ablations.py", "--network", "no skips", "--seed", "0", "--steps", "1",
        "--n", "65", "--data", "fashion-mnist-embedded", "--runs", runs, "--out", out,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "held-out loss" not in done.stdout
    assert json.loads(out.read_text(encoding="utf-8"))["rows"] == [row]


def test_round_trips_go_on_where_they_stopped(tmp_path, monkeypatch, capsys):
    module = script("benchmarks/round_trip.py")
    trips = [module.Trip("cycles", "ancestral", 100, 2, k) for k in (1, 2)]
    for name, value in (("STEPS", []), ("DEPTH", trips[:1]), ("CYCLES", trips)):
        monkeypatch.setattr(module, name, value)
    out, printed = tmp_path / "round-trip.json", []
    for seeds in ([0], [0, 1], [0, 1]):
        module.main("fashion-mnist", 20, seeds, out)
        printed.append(capsys.readouterr().out.count("'sweep'"))
    assert printed == [2, 2, 0]  # rows
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    error = {(row["cycles"], row["seed"]): row["back"]["squared error"] for row in rows}
    assert 0 < error[1, 0] < error[2, 0] < rows[0]["random pair"]["squared error"]
    assert error[1, 0] != error[1, 1]


def test_time_to_quality_goes_on_and_may_be_guided_by_its_own_past(tmp_path, monkeypatch, capsys):
    module = script("benchmarks/time_to_quality.py")
    small = module.changed(module.V, unet={"base_channels": 8, "head_channels": 8}, batch_size=2)
    monkeypatch.setattr(module, "RECIPES", {"small": small})
    monkeypatch.setattr(module, "seconds_a_step", lambda *_: 6.0)
    monkeypatch.setattr(module, "load", lambda *_, **__: load("fashion-mnist-embedded", "train", quiet=True))
    plain, guided = "DPM-Solver++ 20", "DPM-Solver++ 20, guided from 2/10, weight 2"
    out, measured = tmp_path / "time-to-quality.json", []
    for samplers in ([plain], [plain, guided], [plain, guided]):
        module.main([1.0], ["small"], [0], samplers, 65, tmp_path / "runs", out)
        measured.append(capsys.readouterr().out.count("Frechet distance"))
    assert measured == [1, 1, 0]
    run = tmp_path / "runs" / "small-1-0"
    early = ddpm.load(run / "checkpoints" / "step-00000002")  # a minute is ten steps here
    images = ddpm.sample(Guided(ddpm.load(run), early, 2), 65, "dpm_solver_pp", 20, spacing="karras", progress=False)
    rows = {row["sampler"]: row["Frechet distance"] for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert rows[guided] == f"{frechet_distance(images, weights='EMA').value:.2f}" != rows[plain]


def test_a_transformer_beside_the_unet_goes_on_where_it_stopped(tmp_path, monkeypatch):
    module = script("benchmarks/transformer.py")
    small = {"UNet": lambda: UNet(SMALL_UNET), "transformer": lambda: module.Transformer(8, 32, 1)}
    monkeypatch.setattr(module, "NETWORKS", small)
    monkeypatch.setattr(module, "TRAINING", replace(module.TRAINING, batch_size=2))
    monkeypatch.setattr(module, "ROUNDS", 1)
    timed, seconds_a_step = [], module.seconds_a_step
    monkeypatch.setattr(module, "seconds_a_step", lambda *given: timed.append(given) or seconds_a_step(*given))
    out = tmp_path / "transformer.json"

    def rows(*names):
        module.main(0.001, list(names), [1e-3, 2e-3], [0, 1], 65, "fashion-mnist-embedded", tmp_path / "runs", out)
        return {(row["network"], row["learning rate"], row["seed"]): row for row in read_json(out)["rows"]}

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ddpm, "load", stopped)
        with pytest.raises(KeyboardInterrupt):
            rows("transformer")
    first = rows("transformer")
    both = rows()
    assert len(timed) == 1
    assert all(both[key] == row for key, row in first.items())
    for name in small:
        tried = {rate: float(both[name, rate, 0]["Frechet distance"]) for rate in (1e-3, 2e-3)}
        best = min(tried, key=tried.get)
        assert {key for key in both if key[0] == name} == {(name, 1e-3, 0), (name, 2e-3, 0), (name, best, 1)}
    speeds = read_json(out)["seconds a step"]
    assert all(row["steps"] == max(1, round(0.06 / speeds[name])) for (name, *_), row in both.items())
    parameters, flops = module.forward_cost(small["transformer"])
    assert parameters == sum(weight.numel() for weight in small["transformer"]().parameters())
    # sixteen tokens: embedded, four matrices and the scores and their sum in attention, the perceptron, and read out
    tokens = 16 * (64 * 32 + 4 * 32 * 32 + 2 * 16 * 32 + 8 * 32 * 32 + 32 * 64)
    of_time = 256 * 32 + 32 * 32 + 32 * 6 * 32 + 32 * 2 * 32
    assert flops == 2 * (tokens + of_time)


def test_every_contestant_of_diffusers_computes_the_same_function():
    """Whatever its settings: or the race would not be over the same work."""
    unet = networks.unet_of(8)
    x, t = torch.randn(2, 1, 16, 16, device=networks.DEVICE), torch.tensor([3.0, 700.0], device=networks.DEVICE)
    with torch.no_grad():
        ours = networks.network_of(networks.OURS, unet)(x, t)
        assert ours.std() > 0.01
        for settings in choices("diffusers", "training"):
            theirs = networks.network_of(settings, unet)(x, t).sample
            assert torch.allclose(theirs, ours, atol=2e-5), settings
        for settings in choices("diffusers", "forward"):
            theirs = networks.answer_of(networks.network_of(settings, unet), settings, x, t).float()
            assert (theirs - ours).norm() < 0.03 * ours.norm(), settings


def test_bfloat16_weights_are_tried_in_sampling_alone_and_reach_every_layer():
    for library in PEERS:
        assert not any(settings.bfloat16_weights for settings in choices(library, "training"))
        tried = [settings for settings in choices(library, "forward") if settings.bfloat16_weights]
        for settings in tried:
            types = {weight.dtype for weight in networks.network_of(settings, networks.unet_of(8)).parameters()}
            assert types == {torch.bfloat16, *([torch.float32] if settings.float32_norm else [])}, settings
        assert Settings(library, channels_last=True, bfloat16=True, bfloat16_weights=True) in tried
    assert Settings("diffusers", channels_last=True, bfloat16_weights=True) in choices("diffusers", "forward")


def test_eps_of_diffusers_differs_by_its_settings_alone():
    """In float32 it is this package's; with bfloat16 weights it is not quite."""
    exact = ddpm.load("fashion-mnist", "float32")
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(networks.DEVICE)
    with torch.no_grad():
        eps = exact(x, 500).eps
        same = fidelity.eps_by_diffusers(exact, Settings("diffusers"))(x, 500)
        rounded = fidelity.eps_by_diffusers(exact, Settings("diffusers", bfloat16_weights=True))(x, 500)
    assert (same - eps).norm() < 1e-4 * eps.norm()
    assert 1e-4 * eps.norm() < (rounded - eps).norm() < 0.05 * eps.norm()


def test_the_race_finds_best_settings_and_reports_every_contestant(one_small_width, monkeypatch, capsys):
    patient, work_of = clock.seconds, networks.work_of

    def refuses_one(settings, *rest):
        def refused():
            raise RuntimeError("no kernel\nfor this")

        return refused if str(settings) == "diffusers, channels last" else work_of(settings, *rest)

    monkeypatch.setattr(search, "work_of", refuses_one)
    monkeypatch.setattr(clock, "seconds", lambda work: patient(work, at_least=0.0))
    cells = list(search.search(1, 1, []))
    assert len(cells) == 2 * len(PEERS)
    found = [row for rows in cells for row in rows]
    legal = [settings for mode in ("training", "forward") for name in PEERS for settings in choices(name, mode)]
    refused = [
        settings
        for settings in legal
        if settings.library == "denoising-diffusion-pytorch" and settings.bfloat16_weights and not settings.bfloat16
    ]  # its time embedding is always float32
    assert len(found) == len(legal) - 2 - len(refused)
    assert "diffusers, channels last does not run here: no kernel" in capsys.readouterr().out
    (again,) = search.search(1, 1, found[len(cells[0]) :])
    assert {(row["mode"], row["library"]) for row in again} == {("training", "diffusers")}
    rows = list(comparison.compare(found, (8,), (2,), 2))
    assert {row["contestant"] for row in rows} == set(search.contestants(found, "training", 8))
    for row in rows:
        assert 0 < row["ratio min"] <= row["ratio"] <= row["ratio max"]
        assert row["seconds"] > 0
        assert (row["contestant"] != "ddpm") or row["ratio"] == 1


def test_command_lines_draw_the_picture(one_small_width, tmp_path):
    """One of this package, and diffusers' with all that a search can find and its other sampler; in two steps."""
    best = Settings("diffusers", channels_last=True, bfloat16=True, other_attention=True, bfloat16_weights=True)
    found = [{**asdict(best), "mode": "forward", "C": 8, "seconds": 1.0}]
    export_diffusers(ddpm.load("fashion-mnist"), tmp_path / "pipeline")
    typed = whole_job.command_lines(found, tmp_path, n=2)
    assert {"--channels-last", "--bfloat16", "--other-attention", "--bfloat16-weights"} < set(
        typed[whole_job.BEST_SAMPLER]
    )
    for name, picture in (("ddpm", "ours.png"), (whole_job.BEST_SAMPLER, "theirs.png")):
        subprocess.run([*typed[name], "--steps", "2"], check=True, capture_output=True)
        with Image.open(tmp_path / picture) as grid:
            assert grid.size[0] >= 64
            assert len(grid.convert("L").getcolors()) > 100


def test_who_is_ahead_when_compiled_is_raced_and_said(one_small_width, monkeypatch):
    """diffusers at its best settings and this package take turns, each as it is and compiled."""
    patient, turns = comparison.interleave, []
    monkeypatch.setattr(networks, "compiled", lambda network: network)  # which takes minutes
    monkeypatch.setattr(
        comparison, "interleave", lambda works, rounds: turns.append([*works]) or patient(works, rounds)
    )
    best = Settings("diffusers", channels_last=True)
    found = [{**asdict(best), "mode": mode, "C": 8, "seconds": 1.0} for mode in ("training", "forward")]
    rows = comparison.compilation(found, 1)
    assert turns == [["ddpm", "ddpm, compiled", "diffusers", "diffusers, compiled"]] * 2
    ours, theirs = rows[2:]
    assert (theirs["mode"], theirs["library"], theirs["settings"]) == ("forward", "diffusers", "channels last")
    assert ours["compiled over ddpm, compiled"] == 1
    assert theirs["compiled over ddpm"] > 0
    same = {f"{name}{end}": 0.5 for name in ("gain", "compiled over ddpm") for end in (" min", "", " max")}
    rows = [theirs | same | {"pays after calls": 1829, "first call": 23.25}, ours | {"pays after calls": None}]
    text = "\n".join(report.compilation_in_words(rows))
    assert "| forward | diffusers | channels last | 23.2 | 0.50 (0.50 to 0.50) | 1,829 | 0.50 (0.50 to 0.50) |" in text
    assert "| never |" in text
    assert "Compiled, diffusers takes 0.50 of the time of this package as it is" in text


def test_the_picture_of_the_race_has_dots_beside_their_batch(tmp_path):
    """Those of a batch lie about its name, and a peer as shipped is hollow."""
    names = ("ddpm", "ddpm, float32", f"diffusers, {networks.SHIPPED}", "diffusers, best settings")
    rows = [
        {"contestant": name, "mode": "training", "C": 8, "batch": batch, "ratio min": 0.8, "ratio": 1.1, "ratio max": 2}
        for name in names
        for batch in (1, 16)
    ]
    report.draw(rows, tmp_path / "race.svg")
    (axes,) = plt.gcf().axes
    plt.close()
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [line.get_label() for line in dots] == list(names[1:])
    for place in (0, 1):
        assert sum(line.get_ydata()[place] for line in dots) / len(dots) == pytest.approx(place)
    assert [line.get_markerfacecolor() == "white" for line in dots] == [False, True, False]
    assert axes.get_xscale() == "log"
    assert "2 ×" in [tick.get_text() for tick in axes.get_xticklabels()]


def test_what_is_said_of_compilation_was_measured():
    """The README and the page on speed, of the run that is committed."""
    root = BENCHMARKS.parent
    measured = json.loads((root / "book" / "results" / "speed.json").read_text(encoding="utf-8"))
    rows = {(row["mode"], row["library"]): row for row in measured["compiled"]}
    assert all(rows["training", library]["gain"] < 1.02 for library in ("ddpm", "diffusers"))  # "neither gains"
    ours, theirs = (rows["forward", library] for library in ("ddpm", "diffusers"))
    readme, page = (" ".join((root / name).read_text(encoding="utf-8").split()) for name in SAID_OF_SPEED)
    assert f"gains more than this package, {theirs['gain']:.2f} times against {ours['gain']:.2f}," in page
    assert "pays after some hundreds of calls for diffusers, and after some thousands for this package." in page
    assert "Compiled, which pays after some hundreds of calls, it is ahead in a forward pass." in readme
    for row, low in ((theirs, 100), (ours, 1000)):  # also at the ends of what the rounds gained
        saved = {end: 1 - 1 / row[f"gain{end}"] for end in (" min", "", " max")}
        calls = [row["pays after calls"] * saved[""] / saved[end] for end in saved]
        assert low < min(calls) < max(calls) < 10 * low
    over, over_compiled = theirs["compiled over ddpm"], theirs["compiled over ddpm, compiled"]
    assert max(over, over_compiled) < 1
    assert f"It takes {over:.2f} of this package's time, and {over_compiled:.2f} of its time compiled." in page


def test_the_tables_of_the_race_are_written_alike():
    text = (BENCHMARKS.parent / "book" / "results" / "speed.md").read_text(encoding="utf-8")
    assert "None" not in text
    assert not re.search(r"\d%", text)
    assert not re.search(r"\(\d+\.\d to|\| \d\.\d \(", text)  # two digits
    assert "| mode | C | batch | contestant | times longer | settings |" in text
    assert "| ddpm | 1,000 | " in text
    assert report.percent(0.0634, 1) == "6.3 %"


@pytest.fixture
def raced(speed, monkeypatch, tmp_path):
    """The script's options -> a run in which every part answers at once, on a copy of the committed results."""
    results = BENCHMARKS.parent / "book" / "results" / "speed.json"
    monkeypatch.setattr(speed, "RESULTS", tmp_path / "speed.json")
    monkeypatch.setattr(speed, "FIGURE", tmp_path / "speed.svg")
    monkeypatch.setattr(speed, "UNFINISHED", tmp_path / "_build" / "unfinished.json")
    (tmp_path / "speed.json").write_bytes(results.read_bytes())
    old = json.loads(results.read_text(encoding="utf-8"))
    answers = {
        "compare": "rows", "fidelity": "fidelity", "loop_share": "loop", "growth": "growth",
        "alone": "memory and first call", "whole_job": "whole job", "command_line": "command line",
        "compilation": "compiled",
    }  # fmt: skip
    for function, part in answers.items():
        monkeypatch.setattr(speed, function, lambda *given, part=part: old[part])
    monkeypatch.setattr(speed, "search", lambda batch, rounds, found: [] if found else [old["search"]])
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: None)
    return lambda **options: speed.main(**{"quick": False, "rounds": 5, "images": 1000, "only": None} | options)


def test_every_part_of_the_race_names_its_own_run(speed, raced):
    """A part that is measured again on another day is named in the table beside the parts of the old run."""
    before = json.loads(speed.RESULTS.read_text(encoding="utf-8"))
    raced(only=["loop", "growth"])
    results = json.loads(speed.RESULTS.read_text(encoding="utf-8"))
    parts = results["provenance"]["parts"]
    assert set(parts) == set(results) - {"provenance"}
    assert parts["rows"] == before["provenance"]["parts"]["rows"]
    assert all(parts[name]["processor"] == speed.processor() for name in ("loop", "growth"))
    text = speed.RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("Measured in parts: ")
    assert re.search(r"\. loop, growth on .*, in 0 minutes; python", text)
    raced()
    text = speed.RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("Measured on ")


def test_a_race_that_is_stopped_leaves_the_results_and_the_tables_as_they_are(speed, raced, monkeypatch, tmp_path):
    before = speed.RESULTS.read_bytes()

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(speed, "growth", stopped)
        with pytest.raises(KeyboardInterrupt):
            raced()
    assert speed.RESULTS.read_bytes() == before
    assert "whole job" in json.loads(speed.UNFINISHED.read_text(encoding="utf-8"))
    raced(only=["loop"])  # of the results
    assert speed.UNFINISHED.exists()
    raced()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_build", "speed.json", "speed.md", "speed.svg"]
    assert not speed.UNFINISHED.exists()


def test_a_race_that_was_stopped_goes_on_where_it_stopped(speed, raced, monkeypatch):
    """First in the search, then in a part; elsewhere it begins anew, and so it does once it is finished."""
    done, searched = [], json.loads(speed.RESULTS.read_text(encoding="utf-8"))["search"]
    half = len(searched) // 2
    parts = {"compare": "rows", "fidelity": "fidelity", "loop_share": "loop", "whole_job": "whole job"}

    def search(batch, rounds, found):
        if not found:
            done.append("half the search")
            yield searched[:half]
            raise KeyboardInterrupt
        if len(found) == half:
            done.append("the other half")
            yield searched[half:]

    for function, part in parts.items():
        answer = getattr(speed, function)
        monkeypatch.setattr(
            speed, function, lambda *given, part=part, answer=answer: done.append(part) or answer(*given)
        )
    monkeypatch.setattr(speed, "search", search)
    speed.RESULTS.unlink()
    with pytest.raises(KeyboardInterrupt):
        raced()
    with monkeypatch.context() as patched:
        patched.setattr(speed, "loop_share", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            raced()
    assert done == ["half the search", "the other half", "rows", "fidelity"]
    raced(only=["whole job"])
    assert not speed.RESULTS.exists()
    left = speed.UNFINISHED.read_bytes()
    raced()
    assert done[4:] == ["whole job", "loop"]
    results = json.loads(speed.RESULTS.read_text(encoding="utf-8"))
    assert results["search"] == searched
    assert set(results["provenance"]["parts"]) == set(results) - {"provenance"}
    assert not speed.UNFINISHED.exists()
    with pytest.raises(KeyboardInterrupt):
        raced()
    assert done[6:] == ["half the search"]
    for is_elsewhere, options in ((True, {}), (False, {"rounds": 7})):
        speed.UNFINISHED.write_bytes(left)
        with monkeypatch.context() as patched:
            if is_elsewhere:
                patched.setattr("ddpm.companion.long_runs.processor", lambda: "another")
            with pytest.raises(KeyboardInterrupt):
                raced(**options)
    assert done[7:] == ["half the search"] * 2


def test_on_a_gpu_nothing_is_timed_before_the_kernels_are_recorded(race_on_a_gpu, monkeypatch, capsys):
    """In rounds, and in a process of its own; where nothing is recorded, one call comes before the rounds."""
    calls = []

    class Kernels:
        def __init__(self, network, *inputs):
            calls.append("recorded")
            self.network = network

        def __call__(self, *inputs):
            return self.network(*inputs)

    def work_of(*_):
        recorded = Recorded(lambda x: x)

        def work():
            calls.append("call")
            with torch.no_grad():
                recorded(torch.zeros(1))

        return work

    monkeypatch.setattr("ddpm.fast.Recording", Kernels)
    monkeypatch.setattr(race_on_a_gpu.clock, "seconds", lambda work: calls.append("timed") or work() or 1.0)
    race_on_a_gpu.clock.interleave({"ddpm": work_of()}, 2)
    assert calls == ["call", "call", "call", "recorded", "timed", "call", "timed", "call"]
    calls.clear()
    monkeypatch.setattr(race_on_a_gpu.alone, "work_of", work_of)
    monkeypatch.setattr(race_on_a_gpu.alone, "_megabytes", lambda: 0)
    task = {"settings": {"library": "ddpm"}, "mode": "forward", "width": 8, "batch": 1}
    race_on_a_gpu.alone.alone_in_this_process(json.dumps(task))
    assert "fourth call" in json.loads(capsys.readouterr().out)
    assert calls == ["call", "call", "call", "recorded", "call"]
    calls.clear()
    monkeypatch.setattr(clock, "seconds", lambda work: work() or 1.0)
    clock.interleave({"ddpm": work_of()}, 2)
    assert calls.count("call") == 3


def test_on_a_gpu_the_loop_is_timed_around_recorded_kernels(race_on_a_gpu, monkeypatch):
    """A wait inside a recording is an error, after which the network would be called as it is."""
    capturing = []

    class Captured:
        def __init__(self, network, *inputs):
            capturing.append(self)
            try:
                self.answer = network(*inputs)
            finally:
                capturing.clear()

        def __call__(self, *inputs):
            return self.answer

    def synchronize():
        if capturing:
            raise RuntimeError("operation not permitted when stream is capturing")

    network = stirred(UNet(SMALL_UNET)).requires_grad_(False)
    recorded = Recorded(network)
    monkeypatch.setattr("ddpm.fast.Recording", Captured)
    monkeypatch.setattr("ddpm.denoiser.network.in_walk", lambda *_: recorded)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(ddpm, "load", lambda *_: NetworkDenoiser(network, linear(), "v", "float32", (1, 8, 8)))
    monkeypatch.setattr(race_on_a_gpu.loop, "train", lambda *_, **__: None)
    assert 0 < race_on_a_gpu.loop.loop_share()["sampling"] < 1
    assert [type(made) for made in recorded._recordings.values()] == [Captured]


def test_on_a_gpu_the_tables_say_which_call_is_later_and_what_float32_is(race_on_a_gpu):
    results = read_json(BENCHMARKS.parent / "book" / "results" / "speed.json")
    for row in results["memory and first call"]:
        row["fourth call"] = row.pop("third call")
    text = race_on_a_gpu.report.report(results)
    assert "megabytes (of the GPU); by the fourth call the kernels are recorded:" in text
    assert "| contestant | first call | fourth call | peak MB |" in text
    assert "Convolutions in float32 round their factors to TF32 here, which is torch's default on a GPU." in text
    assert "**bfloat16 against float32 without TF32** on the same noise" in text


def test_eps_is_compared_with_float32_that_is_exact_on_a_gpu_too():
    """By default cuDNN rounds the factors of convolutions to TF32, which only what is measured may do here."""
    seen, model = [], ddpm.load("fashion-mnist", "float32")

    class Exact:
        schedule = model.schedule

        def __call__(self, x, t):
            seen.append(("exact", torch.backends.cudnn.allow_tf32))
            return Prediction(x, x)

    fidelity.errors_of_eps(Exact(), lambda x, t: seen.append(("measured", torch.backends.cudnn.allow_tf32)) or x)
    assert seen == [("measured", True), ("exact", False)] * 6


def test_freed_memory_is_kept_for_everybody_before_anything_is_measured(speed, raced, monkeypatch):
    order = []
    monkeypatch.setattr(speed, "ON_GPU", False)
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: order.append("kept"))
    monkeypatch.setattr(speed, "alone_in_this_process", lambda task: order.append(task))
    monkeypatch.setattr(speed, "compare", lambda *_: order.append("rows") or [])
    raced(alone_="a peer's task")
    raced(only=["rows"], quick=True)
    assert order == ["kept", "a peer's task", "kept", "rows"]


@pytest.fixture(scope="module")
def generative_models():
    return script("benchmarks/generative_models.py")


def test_the_models_stand_on_equal_terms(monkeypatch):
    checked = terms.check_terms(1500)
    for what in ("parameters", "FLOPs"):
        values = [setting[what] for settings in checked.values() for setting in settings]
        assert max(values) / min(values) <= 1.06
    assert checked["diffusion"][0]["steps"] == 1500
    gan = terms.KINDS["gan"]
    monkeypatch.setitem(terms.KINDS, "gan", replace(gan, tried=gan.tried[:5]))
    with pytest.raises(ValueError, match="settings tried are .*'gan': 5.*; legal is the same number for each kind"):
        terms.check_terms(1500)
    monkeypatch.setitem(terms.KINDS, "gan", replace(gan, fixed={"base_channels": 32}))
    with pytest.raises(ValueError, match=r"parameters are .*; legal is within 6%"):
        terms.check_terms(1500)


def test_a_table_gives_the_spread_over_seeds():
    own = {"kind": "gan", "trained on": "all"}
    rows = [
        {"model": "gan", "seed": i, "distance": f"{value}", "bits a dimension": "none", "seconds": 3} | own
        for i, value in enumerate(("1.00", "2.00", "6.00"))
    ]
    lines = equal_report.table_of([*rows, rows[0] | {"model": "data", "distance": "0.50"}])
    assert lines == [
        {"model": "gan", "distance": "3.00 ± 2.65", "bits a dimension": "none"},
        {"model": "data", "distance": "0.50", "bits a dimension": "none"},
    ]


def test_kinds_are_timed_in_turns_and_nothing_else_is_changed(generative_models, tmp_path, monkeypatch):
    """One network has one time: both kinds of diffusion and the control."""
    path = BENCHMARKS.parent / "book" / "results" / "generative-models.json"
    before, drawn = json.loads(path.read_text(encoding="utf-8")), []
    out = tmp_path / "table.json"
    out.write_bytes(path.read_bytes())
    monkeypatch.setattr(ddpm, "load", lambda name: name)
    monkeypatch.setattr(measures, "way", lambda model, steps: {})
    monkeypatch.setattr(generative_models, "check_terms", lambda steps: before["terms"]["models"])  # held elsewhere
    monkeypatch.setattr(ddpm, "sample", lambda model, n, **options: drawn.append(model) or torch.empty(0))
    generative_models.main(1500, [0], 2000, None, tmp_path / "runs", out, time_rounds=2)
    assert drawn == [f"equal-{name}" for name in terms.SHIPPED] * 3
    after = json.loads(out.read_text(encoding="utf-8"))
    assert after["provenance"] == before["provenance"]
    assert len({row["ms an image"] for row in after["rows"] if row["kind"].startswith("diffusion")}) == 1
    for own, old in zip(after["rows"], before["rows"], strict=True):
        assert own | {"ms an image": ""} == old | {"ms an image": ""}
    assert after["timing"]["rounds"] == 2
    assert after["conditions"].startswith(before["conditions"].partition(" Ms an image:")[0])
    assert f"with nothing beside them, once for all seeds; on {after['timing']['device']}" in after["conditions"]


def test_what_the_page_on_peers_says_of_heun_on_the_cosine_schedule():
    schedule, oracle = cosine(), GaussianMixture([1.0], [[0.0]], 0.7, cosine())
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # the walk is linear
    shares = []
    for coordinates in ("sigma", "angle"):
        mean_, one = final(heun(oracle, x, schedule.timesteps(10), coordinates=coordinates))
        shares.append(((one - mean_) / 0.7).square().item())
    page = " ".join((BENCHMARKS.parent / "book" / "peers.md").read_text(encoding="utf-8").split())
    assert (
        f"a standard deviation of 0.7 it draws {shares[0]:.0f} times the variance, in ten steps on the trailing" in page
    )
    assert f"in an angle, where it draws {shares[1]:.2f} of it." in page


def test_histograms_of_pixels_are_a_likelihood():
    """Of three pixels: always black, black or white, and seen at a level that no training image has."""
    images = torch.tensor([[0, 0, 7], [0, 255, 7]], dtype=torch.uint8)[:, None, None]
    others = torch.tensor([[0, 255, 9]], dtype=torch.uint8)[:, None, None]
    expected = -(math.log2(3 / 258) + math.log2(2 / 258) + math.log2(1 / 258)) / 3
    assert measures.bits_of_histograms(images, others) == f"{expected:.2f}"


def test_fitted_codes_lie_where_the_codes_of_images_do():
    """Of an autoencoder whose code is the mean of the image, and whose images are dark or bright."""

    class Mean(Autoencoder):
        def encode(self, x):
            return x.flatten(1).mean(1, keepdim=True).expand(-1, 2) + torch.linspace(-0.01, 0.01, len(x))[:, None]

        def decode(self, z):
            return z[:, :1, None, None].expand(-1, 1, 32, 32)

    model = Mean(AutoencoderConfig(base_channels=8, latent_dim=2))
    images = torch.cat([torch.full((100, 1, 32, 32), -0.8), torch.full((300, 1, 32, 32), 0.6)])
    drawn = measures.decoded_from_fitted_codes(model, images, 1000)[:, 0, 0, 0]
    bright = drawn > 0
    assert bright.double().mean().item() == pytest.approx(0.75, abs=0.05)
    assert drawn[bright].mean().item() == pytest.approx(0.6, abs=0.02)
    assert drawn[~bright].mean().item() == pytest.approx(-0.8, abs=0.02)
    assert len(drawn) == 1000
    assert bright[:500].double().mean().item() == pytest.approx(0.75, abs=0.08)  # in no order


def test_flops_are_those_of_the_products():
    weight = torch.randn(7, 5, requires_grad=True)
    with terms.Flops() as flops:
        (torch.randn(3, 7) @ weight).sum().backward()
    assert flops.total == 2 * (2 * 3 * 7 * 5)  # forward, and backward to the weight


def test_the_models_are_measured_and_go_on_where_they_stopped(generative_models, tmp_path, monkeypatch):
    """By two processes that know of each other by the file alone, and on few images."""
    few = {
        split: replace(full, images=full.images[:600], labels=full.labels[:600])
        for split in ("train", "test")
        for full in [load("fashion-mnist-embedded", split, quiet=True)]
    }
    monkeypatch.setattr(trainings, "embedded", few.get)
    monkeypatch.setattr(measures, "embedded", few.get)
    monkeypatch.setattr(trainings, "HELD_OUT", 150)
    every = {"all": slice(None), "without the held out": slice(-150), "a hundredth": slice(None, None, 50)}
    monkeypatch.setattr(trainings, "SETS", every)
    for name, kind in terms.KINDS.items():
        monkeypatch.setitem(terms.KINDS, name, replace(kind, tried=kind.tried[:1]))
    monkeypatch.setattr(generative_models, "BETAS", (1.0, 10.0))
    bound, sample = measures.variational_bound, ddpm.sample
    monkeypatch.setattr(
        measures,
        "variational_bound",
        lambda model, x, **options: bound(model, x[:2], [1000, 1, 0], **options),
    )
    short = {"steps": 1}  # of what has steps
    monkeypatch.setattr(
        ddpm, "sample", lambda m, n, **options: sample(m, n, **options | ({} if hasattr(m, "decode") else short))
    )
    out, runs, kinds = tmp_path / "table.json", tmp_path / "runs", list(terms.KINDS)
    for own in (kinds[:2], kinds[2:]):
        generative_models.main(8, [0], 130, own, runs, out)
    results = json.loads(out.read_text(encoding="utf-8"))
    assert len(results["trials"]) == len(kinds) == 6
    # Three kinds of autoencoder draw in two ways; the control, the data and the histograms draw in one.
    assert len(results["rows"]) == len(results["table"]) == 3 + 2 * 3 + 3
    assert [line["beta"] for line in results["rate and distortion"]] == ["1", "10"]
    lost = results["rows"].pop(1)  # as if it had been stopped before
    out.write_text(json.dumps(results), encoding="utf-8")
    generative_models.main(8, [0], 130, kinds, runs, out)
    results = json.loads(out.read_text(encoding="utf-8"))
    again = results["rows"][-1]
    assert len(results["rows"]) == 12
    timed = ("seconds", "ms an image")
    assert {k: v for k, v in again.items() if k not in timed} == {k: v for k, v in lost.items() if k not in timed}
    by_model = {row["model"]: row for row in results["rows"]}
    for name in (
        kinds[0],
        kinds[1],
        f"{kinds[3]}, fitted codes",
        f"{kinds[4]}, fitted codes",
        measures.HISTOGRAMS,
    ):
        assert float(by_model[name]["bits a dimension"]) > 0
    assert by_model["gan"]["bits a dimension"] == "none"
    assert float(by_model["the training images themselves"]["copying"]) > 0.99
    generative_models.main(8, [0], 130, kinds, runs, out, ship=True, models=tmp_path / "models")
    for kind in terms.SHIPPED:
        shipped, run = tmp_path / "models" / f"equal-{kind}", table.full_run(results, kind, 0)
        text = (shipped / "card.md").read_text(encoding="utf-8")
        rows = [row for row in results["rows"] if row.get("kind") == kind and row["trained on"] == "all"]
        assert rows
        figures = [row["Frechet distance"] for row in rows]
        assert all(word in text for word in ("10,000", "batch 64", "EMA", "floor", *figures))
        ours, theirs = (load_tensors(folder / "model.safetensors") for folder in (shipped, run.folder(runs)))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        ddpm.load(shipped)
    with pytest.raises(typer.BadParameter, match=r"whose rows have terms\.n 130; asked for is 132: .* --out"):
        generative_models.main(8, [0], 132, kinds, runs, out)
    with pytest.raises(typer.BadParameter, match="kind is 'flow'; legal are diffusion"):
        generative_models.main(8, [0], 130, ["flow"], runs, out)


def test_the_arithmetic_of_many_gpus_counts_the_real_network():
    """The gradient's bytes by the parameters, the work by the FLOPs of a real forward and backward pass."""
    scaling = script("benchmarks/scaling.py")
    model, _ = recipe("diffusion", base_channels=32)
    network = model.network()
    row = scaling.forecast(8, 32)
    parameters = sum(weight.numel() for weight in network.parameters())
    assert float(row["MB sent a step"]) == pytest.approx(2 * 7 / 8 * 4 * parameters / 1e6, abs=0.5)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 1, 32, 32), torch.ones(2)).sum().backward()
    # The first convolution's input and the time embedding's need no gradient.
    assert float(row["GFLOP an image"]) == pytest.approx(counter.get_total_flops() / 2e9, rel=0.03)
    alike = [float(scaling.forecast(64, width)["images a GPU that take as long"]) for width in (32, 64, 128)]
    assert max(alike) == pytest.approx(min(alike), rel=0.05)  # both grow with the square of the width


@pytest.mark.slow
def test_scaling_is_measured_and_reported(tmp_path):
    out = tmp_path / "scaling.json"
    options = ["--base-channels", "8", "--steps", "2", "--rounds", "1", "--out", out]
    done = subprocess.run([sys.executable, BENCHMARKS / "scaling.py", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["ways"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["1 process, 1 thread"]["times as fast"] == "1.00 (1.00 to 1.00)"
    assert [row["ms to average the gradient"] == "none" for row in rows.values()] == [True, True, False]
    assert out.with_suffix(".md").read_text() == script("benchmarks/scaling.py").report(json.loads(out.read_text()))
