"""Four generative models on equal terms: the table in chapter 1, from the weights that ship."""

import json
from pathlib import Path

import numpy as np
import pytest

import ddpm
from ddpm import metrics
from ddpm.data import load, normalise

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "book" / "results" / "generative-models.json").read_text(encoding="utf-8"))
KINDS, SEEDS = list(RESULTS["terms"]["models"]), (0, 1, 2)


def row(model, seed=0):
    (found,) = [row for row in RESULTS["rows"] if (row["model"], row["seed"]) == (model, seed)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_reproduced_from_the_shipped_weights(kind):
    """Within two standard deviations of what another draw of as many images would give."""
    images = ddpm.sample(ddpm.load(f"equal-{kind}"), RESULTS["terms"]["n"], progress=False)
    known = normalise(load("fashion-mnist-embedded", "train").images)
    precision, recall = metrics.precision_and_recall(images, weights="EMA")
    for figure, measured in (
        ("Frechet distance", metrics.frechet_distance(images, weights="EMA")),
        ("precision", precision),
        ("recall", recall),
        ("copying", metrics.copying(images, known, weights="EMA")),
    ):
        assert abs(measured.value - float(row(kind)[figure])) <= 2 * measured.spread, figure


@pytest.mark.parametrize("seed", SEEDS)
def test_what_chapter_1_says_of_the_table(seed):
    """Of every seed, so that no sentence hangs on one training."""
    distance, precision, recall = (
        {kind: float(row(kind, seed)[figure]) for kind in KINDS}
        for figure in ("Frechet distance", "precision", "recall")
    )
    assert min(distance, key=distance.get) == max(recall, key=recall.get) == "diffusion"
    assert recall["gan"] < recall["diffusion"] / 2
    assert 0 < precision["gan"] - precision["diffusion"] < 0.1
    assert max(precision["vae"], precision["autoencoder"]) < 0.2
    for kind in ("gan", "vae", "autoencoder"):
        assert float(row("diffusion", seed)["ms an image"]) > 50 * float(row(kind, seed)["ms an image"])
        assert float(row(kind, seed)["copying"]) < 0.5
    control = row("diffusion, 100 images")
    assert float(control["copying"]) > 0.8
    assert float(control["recall"]) < 0.1
    assert distance["gan"] < float(control["Frechet distance"]) < distance["vae"]
    bits = {kind: float(row(kind, seed)["bits a dimension"]) for kind in ("diffusion", "vae")}
    assert bits["diffusion"] < bits["vae"]
    assert float(control["bits a dimension"]) > max(4 * bits["diffusion"], 3 * bits["vae"])


def test_the_table_gives_mean_and_standard_deviation_over_the_seeds():
    for line in RESULTS["table"]:
        if line["model"] in KINDS:
            for figure, digits in (("Frechet distance", 2), ("precision", 3), ("recall", 3), ("copying", 3)):
                values = [float(row(line["model"], seed)[figure]) for seed in SEEDS]
                assert line[figure] == f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_settings_are_those_that_did_best(kind):
    tried = [trial for trial in RESULTS["trials"] if trial["model"] == kind]
    best = min(tried, key=lambda trial: trial["Frechet distance"])["settings"]
    record = json.loads((ddpm.pretrained.MODELS / f"equal-{kind}" / "config.json").read_text(encoding="utf-8"))
    shipped = record["model"] | record["training"]
    assert {name: shipped[name] for name in best} == best
    assert (shipped["steps"], shipped["seed"]) == (RESULTS["terms"]["models"][kind]["steps"], 0)


def test_the_terms_are_equal():
    for what in ("parameters", "FLOPs"):
        values = [terms[what] for terms in RESULTS["terms"]["models"].values()]
        assert max(values) <= 1.05 * min(values)
    assert len({len(tried) for tried in RESULTS["terms"]["settings tried"].values()}) == 1
    assert len(RESULTS["trials"]) == 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_says_what_its_weights_are(kind):
    card = ddpm.pretrained.card(f"equal-{kind}")
    model = ddpm.load(f"equal-{kind}")
    weights = sum(weight.numel() for weight in getattr(model, "network", model).parameters())
    assert f"{weights:,} parameters" in card
    for figure in ("Frechet distance", "precision", "recall"):
        assert row(kind)[figure] in card
