"""One training loop for every model, on accelerate. What one step is, the model's `Task` says.

Every draw but dropout's is a function of (seed, step, row of the global batch): resumed or spread, a run sees the same
numbers.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from ddpm import files
from ddpm.averages import Averages, copy_weights
from ddpm.batches import batches
from ddpm.data import Dataset, normalise
from ddpm.fast import has_fast_bfloat16, keep_freed_memory
from ddpm.noise import Draws, mix
from ddpm.optimisers import flatten_optimiser, optimiser_of, restore_optimiser
from ddpm.pictures import Pictures
from ddpm.run import Run
from ddpm.signals import Stopped, StopSignals
from ddpm.training_config import TrainingConfig


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

    SIGTERM or Ctrl-C is heard at the end of a step: the run saves itself and raises `Stopped`.

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
        ValueError: `out` holds another run, or another process trains in it; the images or `init` do not fit the model.
            Nothing is written.
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
    training = asdict(config) | {"keep": TrainingConfig.keep}  # which changes no result
    record: dict[str, Any] = {"kind": model.kind, "model": asdict(model), "training": training, "data": data}
    start_weights = None
    if init is not None:
        start_weights = files.load_tensors(Path(init))
        record["init"] = hashlib.sha256(Path(init).read_bytes()).hexdigest()
    defaults = {"kind": "diffusion", "model": asdict(type(model)()), "training": asdict(TrainingConfig())}
    run = Run(out, record, defaults, config.keep)
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
    start = run.found.step if run.found else 0
    starts = accelerator.gather(torch.tensor([start], device=accelerator.device)).tolist()
    if len(set(starts)) > 1:
        raise ValueError(f"out is {str(out)!r}; the processes find steps {starts} there: all must see one folder")

    optimisers = {}
    for name, part in task.parts.items():
        task.parts[name], optimisers[name] = accelerator.prepare(
            part, optimiser_of(config.optimiser, part.parameters(), config.momentum, config.weight_decay)
        )
    parameters = {name: list(part.parameters()) for name, part in task.parts.items()}
    weights = _weights(task)
    if start_weights is not None:
        copy_weights(start_weights, weights)
    averages = Averages(weights, config.emas)
    if run.found is not None:
        copy_weights(run.found.tensors, weights, "weights.")
        averages.restore(run.found.tensors)
        for name, optimiser in optimisers.items():
            restore_optimiser(f"optimiser-{name}", optimiser.optimizer, run.found.tensors)
        run.found = None  # the memory is wanted
    only_loss = f"loss_{next(iter(task.parts))}" if len(task.parts) == 1 else ""  # those of two players say little
    recent: deque[dict[str, Any]] = deque(maxlen=config.checkpoint_every)  # lines of the log

    def save(step: int, regular: bool) -> None:
        state = {f"weights.{name}": value for name, value in weights.items()} | averages.state()
        for name, optimiser in optimisers.items():
            state |= flatten_optimiser(f"optimiser-{name}", optimiser.optimizer)
        loss = fmean(past[only_loss] for past in recent) if regular and only_loss else None
        run.save(step, state, averages.of, loss)
        if regular and picture is not None:
            run.show(picture(out), step, accelerator.trackers)

    main = accelerator.is_main_process
    part = slice(rank * (local := config.batch_size // processes), (rank + 1) * local)
    steps = range(start, config.steps)
    feed = batches(dataset, config.seed, steps, config.batch_size, part, accelerator.device, workers)
    bar = tqdm(steps, initial=start, total=config.steps, unit="step", disable=not (progress and main))
    with (
        run.locked() if main else nullcontext(),
        StopSignals() as signals,
        run.tracked(accelerator, trackers, start),
        bar,
        closing(feed),
    ):
        if main:
            if progress:
                number = f"{processes} processes" if processes > 1 else "one process"
                kind = "bfloat16" if fast else "float32"
                tqdm.write(f"training on {accelerator.device.type} in {kind}, {number}")
            recent.extend(run.shorten_log(start))
            if start > 0:
                tqdm.write(f"resumed from step {start} of {config.steps} in {out}")
                run.publish(start, averages.of)  # a kill may have come between the checkpoint and this
        for step, images in zip(bar, feed, strict=True):
            torch.manual_seed(mix(3, config.seed, step, rank))  # dropout's
            line: dict[str, Any] = {"step": step + 1, "rate": config.rate(step)}
            told = 0.0
            losses = task.losses(normalise(images), Draws(config.seed, step, config.batch_size, part.start, local))
            while (item := _next(losses, accelerator.device, fast)) is not None:
                name, loss = item
                for optimiser in optimisers.values():
                    optimiser.zero_grad()
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(parameters[name], config.clip)
                # Where a step waits for its device, and where all processes come to one verdict.
                here = torch.stack([loss.detach(), norm.detach(), loss.new_tensor(signals.name is not None)])
                mean, length, told = accelerator.reduce(here, "mean").tolist()
                if not (math.isfinite(mean) and math.isfinite(length)):
                    raise FloatingPointError(
                        f"{name} has loss {mean} and gradient {length} at step {step + 1}; "
                        "its weights are not touched, the last checkpoint stands"
                    )
                line |= {f"loss_{name}": mean, f"gradient_{name}": length}
                for group in optimisers[name].param_groups:
                    group["lr"] = config.rate(step)
                optimisers[name].step()
            averages.update(weights, step)
            done = step + 1 == config.steps
            regular = done or (step + 1) % config.checkpoint_every == 0
            if main:
                run.log(line)
                recent.append(line)
                shown = {key: f"{value:.4f}" for key, value in line.items() if key.startswith("loss")}
                pace = (bar.format_dict["rate"] or 0) * config.batch_size
                bar.set_postfix(shown | {"images/s": f"{pace:.0f}"}, refresh=False)
                if regular or told:
                    save(step + 1, regular)
            accelerator.log({key: value for key, value in line.items() if key != "step"}, step + 1)
            if told or (done and signals.name is not None):
                who = signals.name or "a signal to another process"
                raise Stopped(f"stopped by {who} after step {step + 1} of {config.steps}, and saved in {out}")
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
