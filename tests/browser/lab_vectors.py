"""Walks by the package, in the plane and of garments, for the lab's own samplers to repeat.

Written by `python -m tests.browser.lab_vectors`.
"""

from pathlib import Path

import torch

import ddpm
from ddpm.denoiser import Denoiser, Guided
from ddpm.files import read_json, write_json
from ddpm.langevin import langevin
from ddpm.noise import PerSampleNoise
from ddpm.oracles import GaussianMixture
from ddpm.samplers import invert
from ddpm.schedule import linear, straight
from ddpm.walks import SAMPLERS

FILE = Path(__file__).with_suffix(".json")
BUMPS = [[0.2, -1.5, -0.8, 0.25], [0.3, 1.5, -0.8, 0.25], [0.5, 0, 1.5, 0.4]]  # weight, mean, std
SCHEDULES = {"linear": linear(), "straight": straight()}
#: What the package calls a knob of the lab.
OPTIONS = {"eta": "eta", "lambda": "weight", "stepSize": "step_size"}
POINTS, STEPS, SEED = 4, 5, 3
NETWORK, WITH_CLASSES, PIXELS = "equal-diffusion", "fashion-mnist-classes", 41
GARMENTS = [
    {"network": network, "sampler": sampler, "spacing": spacing, "steps": 3, "seed": SEED, **told}
    for network, sampler, spacing, told in (
        (NETWORK, "ddim", "trailing", {}),
        (NETWORK, "ancestral", "trailing", {}),
        (NETWORK, "heun", "trailing", {}),
        (NETWORK, "dpm_solver_pp", "karras", {}),
        (WITH_CLASSES, "ddim", "trailing", {}),
        (WITH_CLASSES, "ddim", "trailing", {"labels": [9, 8], "weight": 1}),
        (WITH_CLASSES, "dpm_solver_pp", "karras", {"labels": [1], "weight": 3}),
    )
] + [{"network": NETWORK, "up": True, "spacing": "trailing", "steps": 3, "seed": SEED}]
GRIDS = (("linear", "trailing"), ("linear", "karras"), ("straight", "trailing"), ("straight", "log_snr"))

#: Setups of the lab, without what all of them share.
CASES = [
    {"sampler": sampler, "schedule": schedule, "spacing": spacing, **knobs}
    for schedule, spacing in GRIDS
    for sampler, knobs in (
        ("ddim", {"eta": 0}),
        ("ddim", {"eta": 0.7}),
        ("ancestral", {}),
        ("heun", {}),
        ("dpm_solver_pp", {}),
        ("flow_and_langevin", {"lambda": 0.5}),
        ("annealed_langevin", {"stepSize": 0.5}),
        ("ddim", {"told": "1", "weight": 3}),
        ("ddim", {"told": "2", "weight": 1}),
    )
] + [
    {"sampler": "langevin", "schedule": "linear", "spacing": "trailing", "delta": 0.05},
    # so many levels that several of them are noise alone
    {"sampler": "annealed_langevin", "schedule": "straight", "spacing": "trailing", "stepSize": 0.5, "steps": 200},
]
#: States of a walk that are kept.
MOST = 30


def numbers(x):
    """The coordinates of points, one behind the other."""
    return [round(value, 10) for value in x.flatten().tolist()]


def states_of(case):
    """Every state of a case's walk after the first, float64."""
    weights, *means, stds = zip(*BUMPS, strict=True)
    schedule = SCHEDULES[case["schedule"]]
    mixture = GaussianMixture(weights, list(zip(*means, strict=True)), stds, schedule)
    model: Denoiser = mixture
    if case.get("told"):
        model = mixture.given(int(case["told"]))
        model = Guided(model, mixture, case["weight"]) if case["weight"] > 1 else model
    randn_like = PerSampleNoise(SEED)
    grid = schedule.timesteps(case.get("steps", STEPS), case["spacing"])
    x = schedule.scale(grid[0]) * randn_like(torch.empty(POINTS, 2, dtype=torch.float64))
    if case["sampler"] == "langevin":
        step_size = case["delta"]
        walk = langevin(lambda x: mixture.score(x, 0), x, step_size=step_size, steps=STEPS, randn_like=randn_like)
        return [numbers(state) for state in walk]
    options = {OPTIONS[name]: value for name, value in case.items() if name in OPTIONS}
    walk = SAMPLERS[case["sampler"]](model, x, grid, randn_like=randn_like, **options)
    return [numbers(step.x) for step in walk]


def garments_of(case):
    """Some pixels of every state of two garments, or of two noises that are taken up, float32."""
    model = ddpm.load(case["network"], "float32", device="cpu")
    denoise = Guided(model.given(case["labels"]), model, case["weight"]) if "labels" in case else model
    states: list[torch.Tensor] = []
    if case.get("up"):
        x = PerSampleNoise(case["seed"])(torch.empty(2, *model.image_shape))
        with torch.no_grad():
            states += [step.x for step in invert(model, x, model.schedule.timesteps(case["steps"]))]
    else:
        walk = {name: case[name] for name in ("sampler", "spacing", "steps", "seed")}
        ddpm.sample(denoise, 2, chunk=2, progress=False, watch=lambda step: states.append(step.x), **walk)
    return [numbers(state.flatten()[::PIXELS]) for state in states]


def computed(bench):
    """What the file holds of a bench."""
    if bench == "garments":
        return [{"setup": case, "states": garments_of(case)} for case in GARMENTS]
    bumps = [{"weight": weight, "mean": [x, y], "std": std} for weight, x, y, std in BUMPS]
    shared = {"bumps": bumps, "points": POINTS, "steps": STEPS, "seed": SEED}
    walks = [states_of(case) for case in CASES]
    return [
        {"setup": shared | case, "length": len(walk), "states": walk[:MOST]}
        for case, walk in zip(CASES, walks, strict=True)
    ]


def kept(bench):
    """What the file held of a bench, "plane" or "garments", when it was written."""
    return read_json(FILE)[bench]


if __name__ == "__main__":
    write_json(FILE, {bench: computed(bench) for bench in ("plane", "garments")})
