"""Strips of pictures for the chapters' explorers: what the models draw at every setting of one knob.

`python -m ddpm.companion.explorers` writes a strip for each explorer to `book/explorers/`, and what it shows to
`explorers.json` there. A strip shows the settings line by line. In the built book a slider shows one at a time.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
import torch
import typer
from einops import rearrange
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import ddpm
from ddpm.autoencoder import Autoencoder
from ddpm.companion.checkout import beside_package, run
from ddpm.data import load, normalise
from ddpm.denoiser import Conditional, Denoiser, Guided
from ddpm.files import read_json, write_atomically, write_json
from ddpm.noise import PerSampleNoise
from ddpm.round_trip import ends, inverted_round_trip, round_trip
from ddpm.samplers import Step, ancestral, ddim, dpm_solver_pp, final, heun, predict
from ddpm.settings import one_of

__all__ = ["EXPLORERS", "Explorer", "main", "strip"]

FOLDER = "book/explorers"
COLUMNS = 4  # garments side by side
LINE = 4  # settings in a line of a strip
GAP = 4  # white pixels between two settings
SEED = 0
MODELS = ("autoencoder", "vae", "gan", "diffusion")  # those of chapter 1
ASKED = ("T-shirt", "sandal", "bag", "ankle boot")


class Explorer(NamedTuple):
    """A knob, and what is seen at each of its settings."""

    knob: str
    settings: Sequence[float]
    unit: str  # how a setting is written, with {} for its number
    rows: tuple[str, ...]
    draw: Callable[[Sequence[float]], Tensor]  # images (settings, rows, COLUMNS, 1, 32, 32) in [-1, 1]

    def facts(self) -> dict[str, Any]:
        """What the page needs to know, for JSON."""
        return {
            "knob": self.knob,
            "settings": [self.unit.format(f"{setting:g}") for setting in self.settings],
            "rows": list(self.rows),
            "line": LINE,
            "gap": GAP,
            "block": [32 * COLUMNS, 32 * len(self.rows)],  # its width and height in pixels
        }


def _model(name: str) -> Denoiser:
    return cast(Denoiser, ddpm.load(name, "float32", "cpu"))


def _garments() -> Tensor:
    """The first test image of an ankle boot, a pullover, a pair of trousers and a bag, (COLUMNS, 1, 32, 32)."""
    known = load("fashion-mnist-embedded", "test")
    return normalise(torch.stack([known.images[known.labels == kind][0] for kind in (9, 2, 1, 8)]))


def _noise(seed: int = SEED, shape: Sequence[int] = (1, 32, 32)) -> Tensor:
    return PerSampleNoise(seed)(torch.empty(COLUMNS, *shape, dtype=torch.float32, device="cpu"))


def _walk(settings: Sequence[float]) -> Tensor:
    """States of ancestral sampling at these times, and what the network sees in each."""
    model, x = _model("fashion-mnist"), _noise()
    grid = model.schedule.timesteps(100)
    states = [Step(x, grid[0], predict(model, x, grid[0]))]
    states += ancestral(model, x, grid, randn_like=PerSampleNoise(SEED + 1))
    shown = []
    for state, after in zip(states, [*states[1:], None], strict=True):
        if state.t in settings:
            guess = state.x if after is None else after.prediction.x0
            shown.append(torch.stack([state.x, guess]))
    return torch.stack(shown)


def _between(settings: Sequence[float]) -> Tensor:
    """Garments between two of each kind of model: at 0 the one, at 100 the other."""
    kinds = {kind: ddpm.load(f"equal-{kind}", "float32", "cpu") for kind in MODELS}
    return torch.stack([torch.stack([_mixed(kinds[kind], place / 100) for kind in MODELS]) for place in settings])


def _mixed(model: Any, share: float) -> Tensor:
    """On the line between codes of two images; where there are none, on the sphere between two draws of N(0, I)."""
    if isinstance(model, Autoencoder):
        images = _garments()
        return model.decode(torch.lerp(model.encode(images), model.encode(images.roll(1, 0)), share))
    if isinstance(model, Denoiser):
        return final(ddim(model, _mixed_noise((1, 32, 32), share), model.schedule.timesteps(20)))
    return cast(Tensor, model.decode(_mixed_noise((model.latent_dim,), share)))


def _mixed_noise(shape: Sequence[int], share: float) -> Tensor:
    """Between two draws of N(0, I), with their variance: their cosine and sine for a share of a quarter turn."""
    angle = share * math.pi / 2
    return math.cos(angle) * _noise(SEED, shape) + math.sin(angle) * _noise(SEED + 1, shape)


def _told(settings: Sequence[float]) -> Tensor:
    """Garments at t = 300, and what the network sees in them when it is told these times."""
    model = _model("fashion-mnist")
    x = model.schedule.add_noise(_garments(), 300, _noise())
    return torch.stack([torch.stack([x, predict(model, x, told).x0]) for told in settings])


def _depths(settings: Sequence[float]) -> Tensor:
    """Garments, the same at these depths, and what comes back with their own noise and with fresh noise."""
    model, x0 = _model("fashion-mnist"), _garments()
    shown = []
    for depth in settings:
        grid = model.schedule.timesteps(20, start=int(depth))
        own = ends(inverted_round_trip(model, x0, grid))
        fresh = ends(round_trip(model, x0, grid, randn_like=PerSampleNoise(SEED)))
        shown.append(torch.stack([x0, fresh.noised, fresh.back, own.back]))
    return torch.stack(shown)


def _calls(settings: Sequence[float]) -> Tensor:
    """What four samplers draw from the same noise in equally many calls."""
    model, x = _model("fashion-mnist"), _noise()
    shown = []
    for calls in settings:
        rows = []
        for sampler in (ancestral, ddim, heun, dpm_solver_pp):
            steps = (int(calls) + 1) // 2 if sampler is heun else int(calls)  # Heun's last step takes one call
            grid = model.schedule.timesteps(steps)
            rows.append(final(sampler(model, x, grid, randn_like=PerSampleNoise(SEED + 1))))
        shown.append(torch.stack(rows))
    return torch.stack(shown)


def _weights(settings: Sequence[float]) -> Tensor:
    """What autoguidance draws from two lots of noise with these weights."""
    better, worse = _model("fashion-mnist"), _model("equal-diffusion")
    grid = better.schedule.timesteps(20, "karras")
    shown = []
    for weight in settings:
        guided = Guided(better, worse, weight)
        shown.append(torch.stack([final(dpm_solver_pp(guided, _noise(seed), grid)) for seed in (SEED, SEED + 1)]))
    return torch.stack(shown)


def _asked(settings: Sequence[float]) -> Tensor:
    """What a network draws from the same noise that is told these classes, guided with these weights."""
    model, x = cast(Conditional, _model("fashion-mnist-classes")), _noise()
    grid = model.schedule.timesteps(20, "karras")
    shown = []
    for weight in settings:
        rows = [Guided(model.given(name), model.given(None), weight) for name in ASKED]
        shown.append(torch.stack([final(dpm_solver_pp(row, x, grid)) for row in rows]))
    return torch.stack(shown)


def _few(settings: Sequence[float]) -> Tensor:
    """What the teacher and its student of four calls draw from the same noise."""
    models, x = [_model("fashion-mnist"), _model("fashion-mnist-4-calls")], _noise()
    grids = [models[0].schedule.timesteps(int(calls)) for calls in settings]
    return torch.stack([torch.stack([final(ddim(model, x, grid)) for model in models]) for grid in grids])


EXPLORERS = {
    "walk": Explorer("Time", range(1000, -1, -50), "t = {}", ("the state", "what the network sees"), _walk),
    "between": Explorer("Place", range(0, 101, 10), "{} %", ("autoencoder", "VAE", "GAN", "diffusion"), _between),
    "told-time": Explorer(
        "Told time", (1, 50, 100, 200, 250, 300, 350, 400, 500, 700, 1000), "t = {}",
        ("noised to t = 300", "what the network sees"), _told,
    ),
    "depth": Explorer(
        "Depth", (50, *range(100, 1001, 100)), "t = {}",
        ("before", "at the depth", "back, fresh noise", "back, own noise"), _depths,
    ),
    "calls": Explorer(
        "Network calls", (1, 3, 5, 7, 9, 15, 25, 49, 99), "{}", ("ancestral", "DDIM", "Heun", "DPM-Solver++"), _calls,
    ),
    "weight": Explorer("Weight", (1, 1.3, 1.6, 2, 2.5, 3, 4, 6, 8), "w = {}", ("four", "and four"), _weights),
    "class": Explorer("Weight", (1, 1.5, 2, 3, 4, 6, 8), "w = {}", ASKED, _asked),
    "few-calls": Explorer("Network calls", (1, 2, 3, 4, 6, 8, 16, 32), "{}", ("teacher", "student"), _few),
}  # fmt: skip


def strip(images: Tensor) -> Image.Image:
    """Settings line by line, with white between them: images (settings, rows, columns, 1, h, w) in [-1, 1], clipped."""
    grey = ((images + 1) * 127.5).round().clamp(0, 255).byte()
    blocks = rearrange(grey, "settings rows columns 1 h w -> settings (rows h) (columns w)")
    down, right = (side + GAP for side in blocks.shape[1:])
    lines = math.ceil(len(blocks) / LINE)
    picture = np.full((lines * down - GAP, LINE * right - GAP), 255, dtype=np.uint8)
    for i, block in enumerate(blocks.numpy()):
        top, left = i // LINE * down, i % LINE * right
        picture[top : top + len(block), left : left + block.shape[1]] = block
    return Image.fromarray(picture)


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Explorers: {', '.join(EXPLORERS)}; default all.")] = None,
) -> None:
    """Draw the strips; all of them take about two minutes on two CPU cores."""
    for name in names or []:
        one_of("name", name, list(EXPLORERS))
    folder = beside_package(FOLDER)
    facts = folder / "explorers.json"
    known = read_json(facts) if facts.exists() else {}
    for name in tqdm(names or EXPLORERS, unit="strip"):
        explorer = EXPLORERS[name]
        with torch.no_grad():
            picture = strip(explorer.draw(explorer.settings))
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        write_atomically(folder / f"{name}.png", file.getvalue())
        write_json(facts, known := known | {name: explorer.facts()})


if __name__ == "__main__":
    run(main)
