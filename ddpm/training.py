"""One training loop for every model, on accelerate. What one step is, the model's `Task` says.

Every draw is a function of (seed, step, row of the global batch): resumed or spread, a run sees the same numbers.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import checkpoint, files
from ddpm.data import Dataset, normalise
from ddpm.fast import has_fast_bfloat16, keep_freed_memory
from ddpm.noise import Draws, mix
from ddpm.optimisers import OPTIMISERS, optimiser_of


class Task(Protocol):
    """A model in training."""

    parts: dict[str, nn.Module]  # each has an optimiser of its own

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the model takes images of this shape."""
        ...

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """Of one batch in [-1, 1], yield (part, loss) in the order in which the parts are stepped."""
        ...


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step, over all processes.
        learning_rate: peak rate, reached after `warmup` steps; from there a cosine to 0.
        optimiser: "adamw", "adam", "sgd", "rmsprop" or "muon"; what each does with the next two, `optimiser_of` says.
        momentum: of gradients; 0 or more and below 1.
        weight_decay: decoupled, per step and rate.
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
    optimiser: Literal["adamw", "adam", "sgd", "rmsprop", "muon"] = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_every: int = 500
    precision: Literal["auto", "float32"] = "auto"

    def __post_init__(self) -> None:
        for names, legal, holds in (
            (("steps", "batch_size", "checkpoint_every"), "at least 1", lambda value: value >= 1),
            (("warmup", "seed"), "at least 0", lambda value: value >= 0),
            (("learning_rate", "clip"), "above 0", lambda value: value > 0),
            (("ema", "momentum"), "at least 0 and below 1", lambda value: 0 <= value < 1),
            (("optimiser",), ", ".join(OPTIMISERS), lambda value: value in OPTIMISERS),
            (("precision",), "auto or float32", lambda value: value in ("auto", "float32")),
        ):
            for name in names:
                if not holds(getattr(self, name)):
                    raise ValueError(f"{name} is {getattr(self, name)!r}; legal is {legal}")

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * share)) / 2

    def average_decay(self, step: int) -> float:
        """Decay of the averaged weights at step 0, 1, ...: short at first, so that it forgets the random start."""
        return min(self.ema, (1 + step) / (10 + step))


def train(
    model: Any,
    dataset: Dataset,
    config: TrainingConfig,
    out: str | Path,
    *,
    init: str | Path | None = None,
    progress: bool = True,
) -> None:
    """Train to the end of `config.steps`, or go on where a run of the same configuration in `out` stopped.

    Args:
        model: what to train: a `DiffusionConfig`, `AutoencoderConfig` or `GANConfig`, or another dataclass that has a
            `kind` and makes a `Task` with random weights by `task()`.
        dataset: on what; its uint8 images are held on the device.
        config: how.
        out: the run's folder: model.safetensors (averaged weights), config.json, log.jsonl, checkpoints/.
        init: a file like model.safetensors with the weights to start from, instead of random ones.
        progress: show a bar with an estimate of the time left.

    Raises:
        ValueError: `out` holds another run, or the images or `init` do not fit the model. Nothing is written.
        FloatingPointError: the loss is no longer finite; the last checkpoint stands.
    """
    from accelerate import Accelerator  # here, because it is slow to import and a loaded model does not need it

    out = Path(out)
    torch.manual_seed(config.seed)
    task = model.task()
    task.check_images(dataset.images.shape[1:])
    data = {"name": dataset.name, "images": len(dataset), "image_shape": dataset.images.shape[1:]}
    start_weights = files.load_tensors(Path(init)) if init is not None else None
    record: dict[str, Any] = {"kind": model.kind, "model": asdict(model), "training": asdict(config), "data": data}
    if init is not None:
        record["init"] = hashlib.sha256(Path(init).read_bytes()).hexdigest()
    record = json.loads(json.dumps(record))  # tuples become lists, as they are when read back
    found = checkpoint.load_checkpoint(out / "checkpoints")
    if found is not None:
        defaults = {"kind": "diffusion", "model": asdict(type(model)()), "training": asdict(TrainingConfig())}
        found[2].update(_filled(found[2], json.loads(json.dumps(defaults))))
    if found is not None and found[2] != record:
        raise ValueError(f"{out} holds another run ({_difference(found[2], record)}); name a new folder or its options")
    if found is None and (out / "model.safetensors").exists():
        raise ValueError(f"{out} holds a trained model and no checkpoint to go on from; name a new folder")
    # Without `cpu` several processes on CPUs would not find each other. Autocast stands below, as in `NetworkDenoiser`.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    fast = config.precision == "auto" and has_fast_bfloat16(accelerator.device)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    processes, rank = accelerator.num_processes, accelerator.process_index
    if config.batch_size % processes:
        raise ValueError(f"batch_size is {config.batch_size}; it must be a multiple of the {processes} processes")

    optimisers = {}
    for name, part in task.parts.items():
        task.parts[name], optimisers[name] = accelerator.prepare(
            part, optimiser_of(config.optimiser, part.parameters(), config.momentum, config.weight_decay)
        )
    parameters = {name: list(part.parameters()) for name, part in task.parts.items()}
    weights = _weights(task)
    averages = {name: torch.empty_like(value) for name, value in weights.items()}
    _copy(weights if start_weights is None else start_weights, weights)
    _copy(weights, averages)
    start = 0
    if found is not None:
        start, tensors, _ = found
        _copy(tensors, weights, "weights.")
        _copy(tensors, averages, "average.")
        for name, optimiser in optimisers.items():
            checkpoint.restore_optimiser(f"optimiser-{name}", optimiser.optimizer, tensors)
        tqdm.write(f"resumed from step {start} of {config.steps} in {out}")
    floating = [name for name, value in weights.items() if value.is_floating_point()]

    def publish(step: int) -> None:
        """Write model.safetensors and config.json with its hash."""
        sha256 = files.save_tensors(out / "model.safetensors", averages)
        files.write_json(out / "config.json", record | {"step": step, "sha256": sha256})

    if accelerator.is_main_process:
        if found is not None:
            publish(start)  # a kill may have come between the checkpoint and this
        # A killed run may have logged steps beyond its checkpoint.
        logged = (out / "log.jsonl").read_bytes().splitlines(keepends=True) if start else []
        files.write_atomically(out / "log.jsonl", b"".join(logged[:start]))

    images = dataset.images.to(accelerator.device)
    local = config.batch_size // processes
    quiet = not (progress and accelerator.is_main_process)
    bar = tqdm(range(start, config.steps), total=config.steps, initial=start, unit="step", disable=quiet)
    log: list[dict[str, Any]] = []
    for step in bar:
        torch.manual_seed(mix(3, config.seed, step, rank))  # dropout's
        rows = image_rows(config.seed, step, config.batch_size, len(dataset))[rank * local : (rank + 1) * local]
        batch = normalise(images[rows.to(images.device)])
        line: dict[str, Any] = {"step": step + 1, "rate": config.rate(step)}
        losses = task.losses(batch, Draws(config.seed, step, config.batch_size, rank * local, local))
        while (item := _next(losses, accelerator.device, fast)) is not None:
            name, loss = item
            for optimiser in optimisers.values():
                optimiser.zero_grad()
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(parameters[name], config.clip)
            if not torch.isfinite(loss + norm):
                raise FloatingPointError(
                    f"{name} has loss {loss.item()} and gradient {float(norm)} at step {step + 1}; "
                    "its weights are not touched, the last checkpoint stands"
                )
            for group in optimisers[name].param_groups:
                group["lr"] = config.rate(step)
            optimisers[name].step()
            line |= {f"loss_{name}": accelerator.reduce(loss.detach(), "mean"), f"gradient_{name}": norm.detach()}
        torch._foreach_lerp_(
            [averages[name] for name in floating], [weights[name] for name in floating], 1 - config.average_decay(step)
        )
        log.append(line)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            if accelerator.is_main_process:
                log = [
                    {key: float(value) if isinstance(value, Tensor) else value for key, value in row.items()}
                    for row in log
                ]
                bar.set_postfix({key: f"{value:.4f}" for key, value in log[-1].items() if key.startswith("loss")})
                with open(out / "log.jsonl", "a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in log)
                state = {f"weights.{name}": value for name, value in weights.items()}
                state |= {f"average.{name}": value for name, value in averages.items()}
                for name, optimiser in optimisers.items():
                    state |= checkpoint.flatten_optimiser(f"optimiser-{name}", optimiser.optimizer)
                checkpoint.save_checkpoint(out / "checkpoints", step + 1, state, record)
                publish(step + 1)
            log = []
    accelerator.wait_for_everyone()


def _next(losses: Iterator[tuple[str, Tensor]], device: torch.device, fast: bool) -> tuple[str, Tensor] | None:
    with torch.autocast(device.type, torch.bfloat16, enabled=fast):
        return next(losses, None)


def image_rows(seed: int, step: int, batch_size: int, n: int) -> Tensor:
    """Indices (batch_size,) of the images of a step: every image once an epoch, in an order of the epoch's own."""
    return torch.stack([_order(seed, i // n, n)[i % n] for i in range(step * batch_size, (step + 1) * batch_size)])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(2, seed, epoch)))


def _weights(task: Task) -> dict[str, Tensor]:
    """Every weight as part.name, without the names of accelerate's wrappers; the tensors are the model's own."""
    return {
        f"{name}.{key.removeprefix('module.')}": value
        for name, part in task.parts.items()
        for key, value in part.state_dict().items()
    }


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor], prefix: str = "") -> None:
    for name, value in target.items():
        if prefix + name not in source or source[prefix + name].shape != value.shape:
            raise ValueError(f"these weights do not fit this model: {name} should have shape {tuple(value.shape)}")
        value.copy_(source[prefix + name])


def _filled(old: Any, defaults: Any) -> Any:
    """A record with the defaults of the settings that it is too old to have."""
    return old if not isinstance(defaults, dict) else old | {k: _filled(old.get(k, v), v) for k, v in defaults.items()}


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first setting in which two records differ."""
    for key, value in new.items():
        if old.get(key) != value:
            nested = isinstance(value, dict) and isinstance(old.get(key), dict)
            return _difference(old[key], value) if nested else f"{key} is {old.get(key)} there and {value} here"
    return "it has settings that are gone"
