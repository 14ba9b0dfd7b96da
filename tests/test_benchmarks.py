import json
import subprocess
import sys
from pathlib import Path

from ddpm.data import load
from ddpm.diffusion import DiffusionConfig
from ddpm.training import TrainingConfig, train
from ddpm.unet import UNetConfig

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_quality_against_calls_goes_on_where_it_stopped(tmp_path):
    network = UNetConfig(base_channels=8, blocks_per_level=1, head_channels=8)
    train(
        DiffusionConfig(network), load("fashion-mnist-embedded", "train", quiet=True),
        TrainingConfig(steps=1, batch_size=2), tmp_path / "run",
    )  # fmt: skip
    out = tmp_path / "samplers.json"

    def table(*calls, seed=0):
        options = [option for k in calls for option in ("--calls", str(k))]
        command = [sys.executable, BENCHMARKS / "samplers.py", "--model", tmp_path / "run", "--n", "65", "--out", out]
        done = subprocess.run([*command, "--seed", str(seed), *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {(row["sampler"], row["network calls"]): row for row in json.loads(out.read_text())["rows"]}

    first = table(3)
    assert ("Heun", 1) in first  # three calls are one move of two, less one
    assert len(first) == 5
    second = table(3, 4)
    assert len(second) == 10
    assert all(second[key] == row for key, row in first.items())
    other = table(4, seed=1)
    assert len(other) == 5
    assert all(row["Frechet distance"] != second[key]["Frechet distance"] for key, row in other.items())
