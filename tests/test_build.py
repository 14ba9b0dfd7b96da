"""How the files that ship with the package are written again; none of them is touched here."""

import hashlib

import numpy as np
import pytest
import torch

from ddpm import data
from ddpm.assets import build
from ddpm.metrics import features

IMAGES = torch.arange(20 * 32 * 32).reshape(20, 1, 32, 32).remainder(251).to(torch.uint8)
LABELS = torch.arange(20) % 10


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """The folder that files are written to; a full set of two images a class."""
    features.feature_network()  # read where it ships
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    monkeypatch.setattr(data, "load", lambda name, split: data.Dataset(name, split, IMAGES, LABELS, "here"))
    return tmp_path


@pytest.mark.parametrize("names", [[], ["all"], ["subset", "moments"]])
def test_it_says_what_it_can_make(names, assets):
    with pytest.raises(SystemExit) as stopped:
        build.main(names)
    assert stopped.value.code == "usage: python -m ddpm.assets.build subset | features | moments | judge"
    assert not list(assets.iterdir())


def test_the_moments_hash_is_printed(assets, capsys):
    build.main(["moments"])
    written = (assets / "moments.safetensors").read_bytes()
    assert capsys.readouterr().out.split() == [hashlib.sha256(written).hexdigest()]


def test_the_subset_is_what_was_asked_for_and_its_hashes_are_printed(assets, capsys):
    build.main(["subset"])
    pixels = IMAGES[:, 0, 2:-2, 2:-2].numpy()
    with np.load(assets / "fashion-mnist-embedded.npz") as file:
        assert np.array_equal(file["train_images"], pixels)
        assert np.array_equal(file["test_labels"], LABELS.numpy())
    sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert capsys.readouterr().out.splitlines() == [f"train {sha256}", f"test {sha256}"]


def test_a_subset_that_is_not_finished_leaves_the_one_that_ships(assets, monkeypatch):
    (assets / "fashion-mnist-embedded.npz").write_bytes(b"as it shipped")

    def stopped(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", stopped)
    with pytest.raises(KeyboardInterrupt):
        build.main(["subset"])
    assert [path.read_bytes() for path in assets.iterdir()] == [b"as it shipped"]
