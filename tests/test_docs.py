"""The examples in the docstrings, and the page that shows all of them."""

import doctest
import importlib
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDPMScheduler, UNet2DConditionModel
from PIL import Image

import ddpm
from ddpm import metrics
from ddpm.cli.config_file import settings_of
from ddpm.cli.distill import distill
from ddpm.denoiser import Denoiser
from tests.checkout import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ddpm").rglob("*.py")
    if not path.stem.startswith("_") and not {"cli", "assets", "companion"} & set(path.parts)
)
EXAMPLES = [
    "ddpm.arguments", "ddpm.data.scaling", "ddpm.grids", "ddpm.noise", "ddpm.oracles", "ddpm.schedule.named",
    "ddpm.settings", "ddpm.unet.sizes",
]  # fmt: skip


def test_every_script_that_promises_checked_types_is_checked():
    scripts = ROOT / "book" / "_static"
    promised = {path for path in scripts.rglob("*.js") if path.read_text(encoding="utf-8").startswith("// @ts-check")}
    included = json.loads((scripts / "lab" / "jsconfig.json").read_text(encoding="utf-8"))["include"]
    checked = {path.resolve() for pattern in included for path in (scripts / "lab").glob(pattern)}
    assert promised == checked


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert (attempted > 0) == (name in EXAMPLES)


def test_the_reference_names_every_module_once():
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"automodule:: (\S+)", page)) == MODULES


def test_the_reference_names_what_import_alone_gives():
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    named = re.search(r"`import ddpm` alone gives ([^;]+);", page)[1]
    offered = {name for name in ddpm.__all__ if inspect.isfunction(getattr(ddpm, name))}
    assert set(re.findall(r"`ddpm\.(\w+)`", named)) == offered


def test_the_reference_shows_how_a_denoiser_is_called():
    """Sphinx leaves methods out whose names have underscores, unless they are named."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["sphinx"]["config"]["autodoc_default_options"]["special-members"] == Denoiser.__call__.__name__
    assert "x_t (batch, ...) at time t" in Denoiser.__call__.__doc__


INSTALLS = re.compile(r"pip install (.*)-e \"?\.\[book\]")


@pytest.mark.parametrize("page", ["README.md", "book/how_to_run.md", "book/instructors.md"])
def test_without_make_the_book_is_installed_in_the_locks_versions(page):
    """By the lock as constraints: it names what only tests need, too."""
    options = INSTALLS.findall((ROOT / page).read_text(encoding="utf-8"))
    assert set(options) == {"-c requirements.txt "}
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(pins) > 200
    with_extras = [line for line in pins if not re.match(r"[\w.-]+==\S+( ;|$)", line)]
    assert not with_extras  # which pip does not take as constraints


def test_a_network_is_saved_as_the_page_on_training_does(tmp_path, monkeypatch):
    page = (ROOT / "book" / "training.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.+?)```", page, re.DOTALL) if "ddpm.save(" in block]
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert ddpm.load("runs/by-hand").image_shape == (1, 32, 32)
    with pytest.raises(ValueError, match="config is '.*', a saved network's; it says nothing of a training"):
        settings_of(Path("runs/by-hand/config.json"))
    with pytest.raises(ValueError, match="data is not given; the record of teacher 'runs/by-hand' names none: name it"):
        distill("runs/by-hand", Path("runs/student"), calls=4)


@pytest.mark.long
def test_the_trainings_that_a_page_writes_in_python_run(tmp_path, monkeypatch):
    """With two steps in place of many."""
    page = (ROOT / "book" / "training.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.+?)```", page, re.DOTALL) if "train(" in block]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday-pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "holiday-pictures" / f"{i}.png")
    np.save(tmp_path / "mine.npy", pixels)
    for block, run in zip(blocks, ("runs/python", "runs/mine"), strict=True):
        assert block.count("steps=20_000") == 1
        exec(block.replace("steps=20_000", "steps=2"), {})
        assert ddpm.load(run).image_shape == (3, 32, 32)


#: How the runs are trained whose learning is looked at; all others make two steps.
LONGER = {
    "runs/codes": "steps=120",
    "runs/consistent": "steps=40, batch_size=16, base_channels=16, channel_multipliers=(1, 2), attention_levels=()",
}


def covariance_error(drawn, real):
    """How far the covariance of samples (n, d, 1, 1) is from that of others, summed over its squared entries."""
    return (torch.cov(drawn.flatten(1).T) - torch.cov(real.flatten(1).T)).square().sum()


@pytest.mark.long
def test_the_page_on_parts_of_ones_own_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """With few steps in place of many, and fewer images."""
    page = (ROOT / "book" / "own_parts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    assert len(blocks) == page.count("```") / 2 > 6
    monkeypatch.chdir(tmp_path)
    network = {"sample_size": 8, "block_out_channels": (4, 8), "norm_num_groups": 2, "cross_attention_dim": 8}
    blocks_of_it = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    names = {
        "unet": UNet2DConditionModel(**network, **blocks_of_it),
        "scheduler": DDPMScheduler(),
        "prompt": torch.randn(1, 3, 8),
        "nothing": torch.zeros(1, 3, 8),
    }
    for block in blocks:
        assert block.count("steps=20_000") == block.count("recipe(")
        settings = next((longer for run, longer in LONGER.items() if run in block), "steps=2, batch_size=8")
        block = block.replace('load("fashion-mnist-embedded", "train")', 'load("fashion-mnist-embedded", "test")')
        exec(block.replace("steps=20_000", settings), names)
    assert len(names["lines"]) == 2
    assert names["latents"].shape == (4, 4, 8, 8)
    assert names["green"].schedule == ddpm.load("runs/middle").schedule
    assert names["bags"].shape == names["decoded"].shape == (16, 1, 32, 32)

    real, noise = names["coded"].images, torch.randn(500, 24, 1, 1, generator=torch.Generator().manual_seed(0))
    drawn = ddpm.sample(ddpm.load("runs/codes", "float32", "cpu"), 500, progress=False)
    assert covariance_error(drawn, real) < covariance_error(noise, real) / 2
    assert drawn.std() == pytest.approx(1, abs=0.2)

    told = ddpm.load("runs/told", "float32", "cpu", network=names["Told"]())
    x, t = torch.randn(2, 1, 32, 32), torch.full((2,), 500.0)
    assert torch.equal(told.network(x, t), told.network(x, t, torch.tensor([10, 10])))
    assert not torch.equal(told.given("bag")(x, 501).x0, told.given("shirt")(x, 501).x0)

    one_call = ddpm.sample(ddpm.load("runs/consistent"), 100, progress=False)
    assert metrics.frechet_distance(one_call, weights="EMA").value < 300  # 830 where the loss is Diffusion's own
