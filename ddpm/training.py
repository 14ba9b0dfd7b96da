"""One training loop for every model, on accelerate. What one step is, the model's `Task` says.

Every draw is a function of (seed, step, row of the global batch): resumed or spread, a run sees the same numbers.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import files
from ddpm.batches import batches
from ddpm.data import Dataset, normalise
from ddpm.fast import has_fast_bfloat16, keep_freed_memory
from ddpm.noise import Draws, mix
from ddpm.optimisers import flatten_optimiser, optimiser_of, restore_optimiser
from ddpm.pictures import Pictures
from ddpm.run import Run
from ddpm.signals import Stopped, StopSignals
from ddpm.training_config import TrainingConfig, average_decay


class Task(Protocol):
    """A model in training."""

    parts: dict[str, nn.Module]  # each has an optimiser of its own

    def check_images(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` unless the model takes images of this shape."""
        ...

    def losses(self, images: Tensor, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """Of one batch in [-1, 1], yield (part, loss) in the order in which the parts are stepped."""
        ...


def train(
    model: Any,
    dataset: Dataset | Pictures,
    config: TrainingConfig,
    out: str | Path,
    *,
    init: str | Path | None = None,
    progress: bool = True,
    workers: int = 0,
    trackers: Sequence[str] = (),
    picture: Callable[[Path], Image.Image] | None = None,
) -> None:
    """Train to the end of `config.steps`, or go on where a run of the same configuration in `out` stopped.

    SIGTERM or Ctrl-C is heard after the step at hand: the run saves itself and raises `Stopped`.

    Args:
        model: what to train: a `DiffusionConfig`, `AutoencoderConfig` or `GANConfig`, or another dataclass that has a
            `kind` and makes a `Task` with random weights by `task()`.
        dataset: on what.
        config: how.
        out: the run's folder, see `ddpm.run`.
        init: a file like model.safetensors with the weights to start from, instead of random ones.
        progress: show a bar with an estimate of the time left.
        workers: processes that read `Pictures` while the device computes.
        trackers: "tensorboard" (into out/tensorboard) and "wandb", of accelerate's; the log is written in any case.
        picture: called with `out` after every checkpoint; what it draws goes to out/samples and the trackers.

    Raises:
        ValueError: `out` holds another run, or the images or `init` do not fit the model. Nothing is written.
        FloatingPointError: the loss is no longer finite; the last checkpoint stands.
        OSError: a checkpoint or the log cannot be written; the last checkpoint stands.
        Stopped: a signal came; the same call goes on from there.
    """
    from accelerate import Accelerator  # here, because it is slow to import and a loaded model does not need it
    from accelerate.utils import ProjectConfiguration

    for tracker in trackers:
        if tracker not in ("tensorboard", "wandb"):
            raise ValueError(f"tracker is {tracker!r}; legal are tensorboard, wandb")
        if find_spec(tracker) is None:
            raise ValueError(f"tracker is {tracker!r}, which is not installed: pip install {tracker}")

    out = Path(out)
    torch.manual_seed(config.seed)
    task = model.task()
    task.check_images(dataset.shape)
    data = {"name": dataset.name, "images": len(dataset), "image_shape": dataset.shape}
    record: dict[str, Any] = {"kind": model.kind, "model": asdict(model), "training": asdict(config), "data": data}
    start_weights = None
    if init is not None:
        start_weights = files.load_tensors(Path(init))
        record["init"] = hashlib.sha256(Path(init).read_bytes()).hexdigest()
    defaults = {"kind": "diffusion", "model": asdict(type(model)()), "training": asdict(TrainingConfig())}
    run = Run(out, record, defaults)
    # Without `cpu` several processes on CPUs would not find each other. Autocast stands below, as in `NetworkDenoiser`.
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(str(out), str(out / "tensorboard")),
    )
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
    if start_weights is not None:
        _copy(start_weights, weights)
    averages = {decay: {name: value.clone() for name, value in weights.items()} for decay in config.emas}
    start = 0
    if run.found is not None:
        start, tensors, _ = run.found
        _copy(tensors, weights, "weights.")
        for decay, average in averages.items():
            _copy(tensors, average, f"average-{decay:g}.")
        for name, optimiser in optimisers.items():
            restore_optimiser(f"optimiser-{name}", optimiser.optimizer, tensors)
        if accelerator.is_main_process:
            tqdm.write(f"resumed from step {start} of {config.steps} in {out}")
    floating = [name for name, value in weights.items() if value.is_floating_point()]
    only_loss = f"loss_{next(iter(task.parts))}" if len(task.parts) == 1 else ""  # those of two players say little
    losses_so_far: deque[float] = deque(maxlen=config.checkpoint_every)

    def save(step: int, regular: bool) -> None:
        state = {f"weights.{name}": value for name, value in weights.items()}
        for decay, average in averages.items():
            state |= {f"average-{decay:g}.{name}": value for name, value in average.items()}
        for name, optimiser in optimisers.items():
            state |= flatten_optimiser(f"optimiser-{name}", optimiser.optimizer)
        loss = sum(losses_so_far) / len(losses_so_far) if regular and only_loss else None
        run.save(step, state, averages, loss, config.keep)
        if regular and picture is not None:
            run.show(picture(out), step, accelerator.trackers)

    main = accelerator.is_main_process
    if main:
        losses_so_far.extend(line.get(only_loss, 0.0) for line in run.shorten_log())
        if run.found is not None:
            run.publish(start, averages, config.keep)  # a kill may have come between the checkpoint and this
    if trackers:
        same = {
            "name": out.name,
            "id": hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12],
            "resume": "allow",
            "dir": out,
        }
        ways = {"tensorboard": {"purge_step": start + 1}, "wandb": same}
        accelerator.init_trackers("ddpm", record if "wandb" in trackers else None, {key: ways[key] for key in trackers})
    part = slice(rank * (local := config.batch_size // processes), (rank + 1) * local)
    steps = range(start, config.steps)
    feed = batches(dataset, config.seed, steps, config.batch_size, part, accelerator.device, workers)
    bar = tqdm(steps, initial=start, total=config.steps, unit="step", disable=not (progress and main))
    with bar, StopSignals() as signals:
        for step, images in zip(bar, feed, strict=True):
            torch.manual_seed(mix(3, config.seed, step, rank))  # dropout's
            line: dict[str, Any] = {"step": step + 1, "rate": config.rate(step)}
            losses = task.losses(normalise(images), Draws(config.seed, step, config.batch_size, part.start, local))
            while (item := _next(losses, accelerator.device, fast)) is not None:
                name, loss = item
                for optimiser in optimisers.values():
                    optimiser.zero_grad()
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(parameters[name], config.clip)
                # The one moment of a step at which the device is waited for; every process comes to the same verdict.
                values = torch.stack([accelerator.reduce(loss.detach(), "mean"), norm.detach()]).tolist()
                if not all(map(math.isfinite, values)):
                    raise FloatingPointError(
                        f"{name} has loss {values[0]} and gradient {values[1]} at step {step + 1}; "
                        "its weights are not touched, the last checkpoint stands"
                    )
                line[f"loss_{name}"], line[f"gradient_{name}"] = values
                for group in optimisers[name].param_groups:
                    group["lr"] = config.rate(step)
                optimisers[name].step()
            for decay, average in averages.items():
                torch._foreach_lerp_(
                    [average[name] for name in floating],
                    [weights[name] for name in floating],
                    1 - average_decay(decay, step),
                )
            stopped = signals.heard(accelerator)
            regular = (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps
            if main:
                run.log(line)
                losses_so_far.append(line.get(only_loss, 0.0))
                shown = {key: f"{value:.4f}" for key, value in line.items() if key.startswith("loss")}
                pace = (bar.format_dict["rate"] or 0) * config.batch_size
                bar.set_postfix(shown | {"images/s": f"{pace:.0f}"}, refresh=False)
                if regular or stopped:
                    save(step + 1, regular)
            accelerator.log({key: value for key, value in line.items() if key != "step"}, step + 1)
            if stopped and step + 1 < config.steps:
                raise Stopped(f"stopped by {signals.name} after step {step + 1} of {config.steps}, and saved in {out}")
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.wait_for_everyone()  # and not `end_training`, after which these processes could not train again


def _next(losses: Iterator[tuple[str, Tensor]], device: torch.device, fast: bool) -> tuple[str, Tensor] | None:
    with torch.autocast(device.type, torch.bfloat16, enabled=fast):
        return next(losses, None)


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
