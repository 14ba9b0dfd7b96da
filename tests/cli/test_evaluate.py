import json
import shutil

import pytest
import torch

import ddpm
from ddpm.data import sets
from ddpm.metrics import accuracy
from tests.cli.commands import alone, coloured, done, refusal

pytestmark = pytest.mark.long


def test_a_distance_comes_with_how_it_was_measured(trained):
    said = alone("evaluate", "--model", trained, "--n", 65, "--steps", 1).stdout
    assert "dpm_solver_pp, 1 step (1 network call), log_snr grid, seed 0: Frechet distance" in said


def test_a_distance_says_which_model_guided(trained):
    said = done("evaluate", "--model", trained, "--n", 65, "--steps", 1, "--guide", "equal-diffusion").stdout
    how = "1 step (2 network calls), log_snr grid, guided by equal-diffusion with weight 1.6"
    assert f"{how}, seed 0: Frechet distance" in said


def test_a_distance_says_the_network_calls_of_heun_and_of_two_guides(conditional):
    guides = ("--guidance", 2, "--guide", "equal-diffusion")
    said = done("evaluate", "--model", conditional, "--n", 65, "--sampler", "heun", "--steps", 2, *guides).stdout
    assert "heun, 2 steps (9 network calls), trailing grid, told the classes with guidance 2, guided by" in said


def test_an_early_checkpoint_of_the_run_can_guide_it(trained):
    early = trained / "checkpoints" / "step-00000002"
    said = done("evaluate", "--model", trained, "--n", 65, "--steps", 1, "--guide", early, "--weight", 2).stdout
    assert f"log_snr grid, guided by {early} with weight 2, seed 0: Frechet distance" in said


def test_a_model_that_draws_in_one_call_has_a_distance(vae):
    assert "1 network call, seed 0: Frechet distance" in done("evaluate", "--model", vae, "--n", 65).stdout


def test_a_model_of_other_data_is_measured_aloud(trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    record = json.loads((other / "config.json").read_text())
    record["data"]["name"] = "mnist"
    (other / "config.json").write_text(json.dumps(record))
    command = ["evaluate", "--n", 65, "--steps", 1, "--model"]
    aloud = "other learnt mnist; it is measured with garments of Fashion-MNIST all the same"
    assert aloud in done(*command, other).stderr
    assert "it is measured with" not in done(*command, trained).stderr


def draws_for_hours(*_, **__):
    raise AssertionError("the images were drawn")


def test_real_images_that_cannot_be_had_are_missed_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm, "sample", draws_for_hours)
    monkeypatch.setattr(sets, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert "FashionMNIST is not in" in refusal(["evaluate", "--n", 10_001], tmp_path)


def test_distances_are_to_garments_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm, "load", coloured)
    said = refusal(["evaluate", "--n", 65], tmp_path)
    assert "which draws (3, 16, 16); distances are to garments, (1, 32, 32): in Python, ddpm.metrics" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", 64], "n, the number of images, is 64; legal are 65 to 60,000"),
        (["--n", 60_001], "n, the number of images, is 60001; legal are 65 to 60,000"),
        (["--n", 10**30], "legal are 65 to 60,000"),
        (["--steps", 2000], "steps is 2000; legal are integers from 1 to T = 1000"),
        (["--spacing", "even"], "spacing is 'even'"),
        (["--eta", 2], "eta is 2.0; it must be in [0, 1]"),
        (["--seed", -1], "seed is -1; it must be an integer from 0 up"),
        (["--model", "equal-gan", "--steps", 4], "steps is 4; this model draws an image in one call"),
        (["--model", "nowhere"], "model is 'nowhere'; legal are equal-autoencoder"),
        (["--sampler", "ddpm"], "did you mean ancestral?"),
        (["--guide", "equal-gan"], "only diffusion models guide and are guided"),
        (["--weight", 2], "weight is 2; it needs a --guide"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2_before_anything_is_drawn(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm, "sample", draws_for_hours)
    assert message in refusal(["evaluate", *arguments], tmp_path)


def test_a_conditional_model_is_told_every_class_in_turn_and_guided(conditional):
    command = ("evaluate", "--model", conditional, "-n", 65, "--steps", 1)
    untold, told, guided = (
        done(*command, *more).stdout
        for more in ((), ("--guidance", 1), ("--guidance", 3, "--guidance-interval", 0.5, 200))
    )
    assert all("1 step (1 network call)" in said for said in (untold, told))
    assert "1 step (2 network calls)" in guided
    assert "told" not in untold
    assert "told the classes with guidance" not in told
    assert "told the classes with guidance 3 for sigma from 0.5 to 200, seed 0" in guided
    assert "second frozen classifier" not in untold


def test_what_a_second_classifier_sees_is_said_of_garments_that_were_asked_for():
    model, n = ddpm.load("fashion-mnist-classes"), 70
    command = ("--guidance", 1, "-n", n, "--steps", 4, "--seed", 3)
    said = done("evaluate", "--model", "fashion-mnist-classes", *command).stdout
    labels = [i % 10 for i in range(n)]
    images = ddpm.sample(model.given(labels), n, steps=4, seed=3, progress=False).clamp(-1, 1)  # 55; with seed 0, 51
    assert f"in {accuracy(images, torch.tensor(labels)):.1%} of them a second frozen classifier sees" in said
    assert accuracy(images, torch.tensor(labels)) > 0.4
    assert accuracy(images, torch.tensor(labels).roll(1)) < 0.2  # the rival: other classes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guidance", 1, "--n", 10**30], "n, the number of images, is 1000000000000000000000000000000; legal are"),
        (["--guidance", 0.5], "guidance is 0.5; it must be finite and at least 1, which is none"),
        (["--guidance", "nan"], "guidance is nan; it must be finite and at least 1, which is none"),
    ],
)
def test_wrong_guidance_is_refused_before_anything_is_drawn(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm, "sample", draws_for_hours)
    assert message in refusal(["evaluate", "--model", "fashion-mnist-classes", *arguments], tmp_path)


def test_a_model_without_classes_is_not_guided_by_them(trained, tmp_path):
    said = refusal(["evaluate", "--model", trained, "--guidance", 2], tmp_path)
    assert "guidance is 2; model" in said
    assert "was trained without classes" in said
