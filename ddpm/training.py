"""One training loop for every model, on accelerate. What one step is, the model's `Task` says.

Every random draw is a function of (seed, step, index in the global batch), so a run that is resumed, or spread over
several processes, sees the same numbers, and a checkpoint holds no generator's state.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import checkpoint
from ddpm.data import Dataset, normalise
from ddpm.denoiser import TARGETS, NetworkDenoiser, Target, has_fast_bfloat16, target_of
from ddpm.noise import mix
from ddpm.schedule import SCHEDULES
from ddpm.unet import UNet, UNetConfig


_DRAWS, _ORDER, _DROPOUT = 1, 2, 3  # what a random number is for: part of its seed


class Draws:
    """Random numbers of one training step for rows `first` to `first + count` of a global batch of `total`."""

    def __init__(self, seed: int, step: int, total: int, first: int = 0, count: int | None = None) -> None:
        self.total = total
        self.rows = slice(first, total if count is None else first + count)
        self._generator = torch.Generator().manual_seed(mix(_DRAWS, seed, step))

    def stratified(self) -> Tensor:
        """(count,) uniform in [0, 1), one in each of `total` equal strata over the whole batch."""
        u = torch.rand(self.total, generator=self._generator)
        return ((torch.arange(self.total) + u) / self.total)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """(count, *shape) standard normal."""
        return torch.randn(self.total, *shape, generator=self._generator)[self.rows]


class Task(Protocol):
    """A model as the loop sees it."""

    parts: dict[str, nn.Module]  # each with an optimiser of its own; prepared by the loop before use

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """Of one batch in [-1, 1], yield (part, loss) in the order in which the parts are to be stepped."""
        ...


@dataclass(frozen=True)
class DiffusionConfig:
    """A UNet, the schedule it denoises and what it is trained to say."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: str = "linear"
    T: int = 1000
    target: Target = "eps"

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; legal are {', '.join(SCHEDULES)}")
        if self.target not in TARGETS:
            raise ValueError(f"target is {self.target!r}; legal are {', '.join(TARGETS)}")
        SCHEDULES[self.schedule](self.T)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DiffusionConfig":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**values, "unet": UNetConfig(**values["unet"])})

    def denoiser(self, precision: Literal["auto", "float32"] = "float32") -> NetworkDenoiser:
        """An untrained denoiser of this configuration."""
        network = UNet(self.unet).to(memory_format=torch.channels_last)
        return NetworkDenoiser(network, SCHEDULES[self.schedule](self.T), self.target, precision)


class Diffusion:
    """Denoising diffusion, Ho et al. (2020), algorithm 1: one time, one noise and one network call an image."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.schedule = SCHEDULES[config.schedule](config.T)
        self.target = config.target
        self.parts: dict[str, nn.Module] = {"unet": UNet(config.unet).to(memory_format=torch.channels_last)}

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        t = 1 + (draws.stratified() * self.schedule.T).long()  # integers 1..T
        eps = draws.normal(*images.shape[1:]).to(images.device)
        signal, noise = (c.to(images.device) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        output = self.parts["unet"](signal * images + noise * eps, (t - 1).to(images.device))
        yield "unet", F.mse_loss(output.float(), target_of(self.target, images, eps, signal, noise))


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step, over all processes.
        learning_rate: AdamW's peak rate, reached after `warmup` steps; from there a cosine to 0.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights; it starts at (1 + step) / (10 + step).
        seed: of the initial weights, the order of the images and every draw.
        checkpoint_every: steps between checkpoints.
        precision: "auto" (bfloat16 where the device computes it in hardware) or "float32".
    """

    steps: int = 5000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_every: int = 500
    precision: Literal["auto", "float32"] = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.learning_rate > 0 or not self.clip > 0:
            raise ValueError(f"learning_rate is {self.learning_rate} and clip {self.clip}; both must be above 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be in [0, 1)")
        if self.seed < 0 or self.warmup < 0:
            raise ValueError(f"seed is {self.seed} and warmup {self.warmup}; neither may be negative")
        if self.precision not in ("auto", "float32"):
            raise ValueError(f"precision is {self.precision!r}; legal are auto, float32")

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        return self.learning_rate * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup))) / 2

    def average_decay(self, step: int) -> float:
        """Decay of the averaged weights at step 0, 1, ...: short at first, so that it forgets the random start."""
        return min(self.ema, (1 + step) / (10 + step))


def train(
    model: DiffusionConfig,
    dataset: Dataset,
    config: TrainingConfig,
    out: str | Path,
    *,
    init: dict[str, Tensor] | None = None,
    progress: bool = True,
) -> Path:
    """Train to the end of `config.steps`, or go on where a run of the same configuration in `out` stopped.

    Args:
        model: what to train.
        dataset: on what; its uint8 images are held on the device.
        config: how.
        out: the run's folder: model.safetensors (averaged weights), config.json, log.jsonl, checkpoints/.
        init: weights of the network to start from, instead of random ones.
        progress: show a bar.

    Returns:
        `out`.

    Raises:
        ValueError: `out` holds another run, or the images do not fit the network.
        FloatingPointError: the loss is no longer finite; the last checkpoint stands.
    """
    out = Path(out)
    model.unet.check_image(*dataset.images.shape[2:])
    if dataset.images.shape[1] != model.unet.channels:
        raise ValueError(f"channels is {model.unet.channels}; the images of {dataset.name} have {dataset.images.shape[1]}")
    data = {"name": dataset.name, "images": len(dataset), "image_shape": list(dataset.images.shape[1:])}
    record = {"model": asdict(model), "training": asdict(config), "data": data}
    record = json.loads(json.dumps(record))  # tuples become lists, as they will when read back
    found = checkpoint.load_checkpoint(out / "checkpoints")
    if found is not None and found[2] != record:
        raise ValueError(f"{out} holds another run ({_difference(found[2], record)}); give a new folder or the same options")

    from accelerate import Accelerator  # here, because it is slow to import and a loaded model does not need it

    accelerator = Accelerator(mixed_precision=_mixed_precision(config.precision))
    processes, rank = accelerator.num_processes, accelerator.process_index
    if config.batch_size % processes:
        raise ValueError(f"batch_size is {config.batch_size}; it must be a multiple of the {processes} processes")
    torch.manual_seed(config.seed)
    task = Diffusion(model)
    if init is not None:
        task.parts["unet"].load_state_dict(init)
    averages = {f"{name}.{key}": value.detach().clone() for name, key, value in _weights(task)}
    optimisers = {}
    for name, part in task.parts.items():
        optimiser = torch.optim.AdamW(part.parameters(), weight_decay=config.weight_decay, fused=True)
        task.parts[name], optimisers[name] = accelerator.prepare(part, optimiser)
    averages = {label: value.to(accelerator.device) for label, value in averages.items()}

    start = 0
    if found is not None:
        start, tensors, _ = found
        for name, key, value in _weights(task):
            value.copy_(tensors[f"weights.{name}.{key}"])
            averages[f"{name}.{key}"].copy_(tensors[f"average.{name}.{key}"])
        for name, optimiser in optimisers.items():
            checkpoint.restore_optimiser(f"optimiser-{name}", optimiser.optimizer, tensors)
        tqdm.write(f"resumed from step {start} of {config.steps} in {out}")
    if accelerator.is_main_process:
        if found is None:
            checkpoint.write_json(out / "config.json", record)
        _truncate_log(out / "log.jsonl", start)

    images = dataset.images.to(accelerator.device)
    local = config.batch_size // processes
    bar = tqdm(total=config.steps, initial=start, unit="step", disable=not (progress and accelerator.is_main_process))
    pending: list[dict[str, Any]] = []
    for step in range(start, config.steps):
        torch.manual_seed(mix(_DROPOUT, config.seed, step, rank))
        rows = _rows(config.seed, step, config.batch_size, len(dataset))[rank * local : (rank + 1) * local]
        batch = normalise(images[rows.to(images.device)])
        draws = Draws(config.seed, step, config.batch_size, rank * local, local)
        line: dict[str, Any] = {"step": step + 1, "rate": config.rate(step)}
        for name, loss in task.losses(batch, draws):
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss of {name} is {loss.item()} at step {step + 1}; the last checkpoint stands")
            optimiser = optimisers[name]
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(task.parts[name].parameters(), config.clip)
            for group in optimiser.param_groups:
                group["lr"] = config.rate(step)
            optimiser.step()
            optimiser.zero_grad()
            line |= {f"loss_{name}": loss.detach(), f"gradient_{name}": norm.detach()}
        keys, weights = zip(*((f"{name}.{key}", value) for name, key, value in _weights(task)), strict=True)
        torch._foreach_lerp_([averages[key] for key in keys], list(weights), 1 - config.average_decay(step))
        pending.append(line)
        bar.update()
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            if accelerator.is_main_process:
                pending = [{k: v.item() if isinstance(v, Tensor) else v for k, v in entry.items()} for entry in pending]
                bar.set_postfix(loss=f"{np.mean([entry['loss_' + name] for entry in pending]):.4f}")
                _append_log(out / "log.jsonl", pending)
                _save(out, step + 1, task, averages, optimisers, record)
            pending = []
    bar.close()
    accelerator.wait_for_everyone()
    return out


def _weights(task: Task) -> Iterator[tuple[str, str, Tensor]]:
    """(part, key, tensor) of every weight, under the names it has outside any wrapper of accelerate's."""
    for name, part in task.parts.items():
        for key, value in part.state_dict().items():
            yield name, key.removeprefix("module."), value


def _save(out: Path, step: int, task: Task, averages: dict[str, Tensor], optimisers: dict, record: dict) -> None:
    tensors = {f"weights.{name}.{key}": value for name, key, value in _weights(task)}
    tensors |= {f"average.{label}": value for label, value in averages.items()}
    for name, optimiser in optimisers.items():
        tensors |= checkpoint.flatten_optimiser(f"optimiser-{name}", optimiser.optimizer)
    checkpoint.save_checkpoint(out / "checkpoints", step, tensors, record)
    sha256 = checkpoint.save_tensors(out / "model.safetensors", averages)
    checkpoint.write_json(out / "config.json", record | {"step": step, "sha256": sha256})


def _append_log(path: Path, lines: list[dict[str, Any]]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _truncate_log(path: Path, step: int) -> None:
    """Drop what a killed run logged beyond the checkpoint it resumes from."""
    if path.is_file():
        checkpoint.write_atomically(path, b"".join(path.read_bytes().splitlines(keepends=True)[:step]))


def _rows(seed: int, step: int, batch_size: int, n: int) -> Tensor:
    """Indices (batch_size,) of the images of a step: every image once an epoch, in an order of the epoch's own."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    return torch.stack([_order(seed, p // n, n)[p % n] for p in positions])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(_ORDER, seed, epoch)))


def _mixed_precision(precision: str) -> str:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16" if precision == "auto" and has_fast_bfloat16(device) else "no"


def _difference(old: dict, new: dict) -> str:
    """The first setting in which two records differ."""
    for key in new:
        if isinstance(new[key], dict) and isinstance(old.get(key), dict) and old[key] != new[key]:
            return _difference(old[key], new[key])
        if old.get(key) != new[key]:
            return f"{key} is {old.get(key)} there and {new[key]} here"
    return "it has settings that are gone"
