"""Break one constant of the package, and the gate must fail at a number.

These mutants are the chapters'. Those of the tests, which are many more, are in `tests/mutants.py`.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.checkout import ROOT
from tests.mutants import mutated

pytestmark = pytest.mark.long

NUMERIC = re.compile(r"AssertionError: .+: measured \S+.*[,:] claimed|Tensor-likes are not close|signal \d\.\d+, noise")

DIRECTION = ("samplers.py", "math.sqrt(max(0.0, schedule.noise(s) ** 2 - std**2))", "schedule.noise(s) ** 2")
TENTH = ("Prediction(signal * x - noise * output,", "Prediction(0.9 * (signal * x - noise * output),")
FIRST_ORDER = (
    "x + _heun_correction(schedule, prediction, predict(denoise, x, t), s, t)",
    "x + 0 * predict(denoise, x, t).x0",
)
NOISE = "x = x + step_size / 2 * slope + math.sqrt(step_size)"
MUTANTS = {  # name: chapter, file, what stands there, what is put in its place
    "the reach of a blob": (0, "companion/exercises/from_nothing.py", "< 2.5 * std", "< 0.25 * std"),
    "the last beta, from nothing": (0, "schedule/named.py", "0.02 * 1000 /", "0.019 * 1000 /"),
    "the variance of a step, from nothing": (0, "samplers.py", "large = math.sqrt(beta) *", "large = beta *"),
    "the sign of a cross-entropy": (1, "gan.py", "F.softplus(-real) + ", "F.softplus(real) + "),
    "a divergence left out": (1, "autoencoder.py", "reconstruction + self.config.beta * kl", "reconstruction"),
    "the generator detached": (1, "gan.py", "discriminate(fakes), self", "discriminate(fakes.detach()), self"),
    "codes drawn from the wrong density": (1, "sampling.py", "decode(PerSampleNoise", "decode(3 * PerSampleNoise"),
    "diffusion that says a tenth too little": (1, "targets.py", *TENTH),
    "the penalty left out": (1, "gan.py", "self.config.r1 / 2 * gradient", "0 * gradient"),
    "the width of a level": (2, "unet/config.py", "self.base_channels * m for m", "self.base_channels * m // 2 for m"),
    "a dropped skip": (2, "unet/network.py", "[h, skips.pop()], dim=1)", "[h, 0 * skips.pop()], dim=1)"),
    "attention that looks at all pixels alike": (2, "unet/blocks.py", "_attention(q,", "_attention(0 * q,"),
    "a time that is always the same": (2, "unet/network.py", "self.time(t, of", "self.time(0 * t, of"),
    "attention without its scale": (2, "unet/blocks.py", " / math.sqrt(q.shape[-1])", ""),
    "the last beta": (3, "schedule/named.py", "0.02 * 1000 /", "0.019 * 1000 /"),
    "the direction of DDIM": (3, *DIRECTION),
    "the posterior variance": (
        3, "schedule/table.py", "self.noise(s) / self.noise(t)", "2 * self.noise(s) / self.noise(t)",
    ),
    "the depth of the trip": (3, "round_trip.py", "(x0, timesteps[0], eps)", "(x0, max(timesteps[0] - 50, 0), eps)"),
    "the skip connections": (3, "unet/network.py", "[h, skips.pop()], dim=1)", "[h, 0 * skips.pop()], dim=1)"),
    "the clean image read from eps": (3, "targets.py", "(x - noise * output) / signal", "(x - noise * output)"),
    "the time told to the network": (3, "denoiser/network.py", "x.to(dtype), times - 1,", "x.to(dtype), times + 30,"),
    "a network that says a tenth too little": (3, "targets.py", *TENTH),
    "an inversion of the first order only": (3, "samplers.py", *FIRST_ORDER),
    "a perfect denoiser that answers grey": (3, "oracles.py", "(1) @ self.images", "(1) * 0 @ self.images"),
    "the root in Langevin's noise": (4, "langevin.py", NOISE, NOISE.replace("math.sqrt(step_size)", "step_size")),
    "the direction of DDIM, in the dial": (4, *DIRECTION),
    "the time of Heun's second slope": (4, "samplers.py", "predict(denoise, euler, s)", "predict(denoise, euler, t)"),
    "the time told by DDIM": (4, "samplers.py", "x, t)\n        std = eta", "x, t - 1)\n        std = eta"),
    "annealing by a tenth of its step": (4, "langevin.py", "delta = step_size *", "delta = 0.1 * step_size *"),
    "a Metropolis test that takes everything": (4, "langevin.py", "uniform < log_ratio", "uniform <= 0 * log_ratio"),
    "a flow without Langevin": (4, "langevin.py", "if s > 0 and weight > 0:", "if s > 0 and weight < 0:"),
    "the first-order term of DPM-Solver++": (4, "samplers.py", "math.expm1(-h) * x0", "math.expm1(-1.01 * h) * x0"),
    "class 0 as the null label": (5, "diffusion.py", "labels.device), self.classes)", "labels.device), 0)"),
    "a weight of guidance counted from 0": (5, "denoiser/wrappers.py", "float(self.weight - 1)", "float(self.weight)"),
    "the sign of the flow": (6, "targets.py", "return eps - x0 if", "return x0 - eps if"),
    "a grid in time where log SNR was meant": (
        6, "schedule/table.py", "return self.sigma_to_t(sigma)", "return (self.T - 1) / (1 + 1 / sigma)",
    ),
    "a velocity read with the signal": (
        6, "targets.py", "Prediction(x - noise * output", "Prediction(x - signal * output",
    ),
    "a student told the teacher's times": (
        6, "denoiser/network.py", "x.to(dtype), times - 1,", "x.to(dtype), times - (126 if self.distilled_for else 1),",
    ),
    "guidance outside its interval": (
        5, "denoiser/wrappers.py", "if low <= self.schedule.sigma(t) <= high else 0.0", "",
    ),
}  # fmt: skip
FAST = {
    "the reach of a blob", "the sign of a cross-entropy", "the width of a level", "the last beta",
    "the root in Langevin's noise", "a weight of guidance counted from 0", "a velocity read with the signal",
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutants_line_is_there(name):
    _, file, right, _ = MUTANTS[name]
    assert (ROOT / "ddpm" / file).read_text(encoding="utf-8").count(right) == 1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in MUTANTS]
)
def test_the_gate_fails_at_a_number(name, tmp_path):
    chapter, file, right, wrong = MUTANTS[name]
    (notebook,) = (ROOT / "notebooks").glob(f"{chapter:02}_*.ipynb")
    for part in ("ddpm", "book", "notebooks", "conftest.py", "pyproject.toml", "tests/notebooks/sanitize.cfg"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / part, tmp_path / part)
    mutated(tmp_path, file, right, wrong)
    gate = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-x", "-q", f"notebooks/{notebook.name}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    output = re.sub(r"\x1b\[[0-9;]*m", "", gate.stdout)
    assert gate.returncode == 1, output
    raised = re.findall(r"(\w+(?:Error|Exception))\s+Traceback \(most recent call last\)", output)
    assert set(raised) <= {"AssertionError"}, output
    number = NUMERIC.search(output)
    assert number, output
    print(name, "->", number.group())
