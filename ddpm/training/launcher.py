"""What accelerate brings into a training: the device, the processes, and what its launcher wants.

The environment that a launcher sets may change what is computed. Each part of it is treated in one of three ways:

- compilation by torch.compile is done, and recorded;
- gradient accumulation and mixed precision change nothing, since a training has settings of its own for both,
  `micro_batch_size` and `precision`; a line says so;
- what spreads one network over several devices is refused, and so is an `Accelerator` that the program made before and
  that would change the gradients.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ddpm.extras import needed
from ddpm.fast import keep_freed_memory
from ddpm.messages import say

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["compilation", "make_accelerator", "rows_of_this_process"]

#: Variables of accelerate's launcher that spread a network over devices; here each process has all of it.
SPREADING = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
#: Variables that ask for what a training decides by a setting of its own: what they say when they ask for nothing.
OWN_SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "micro_batch_size says how a batch is divided"),
    "ACCELERATE_MIXED_PRECISION": ("no", "precision says what a training computes in"),
}


def make_accelerator(out: Path, trackers: Sequence[str]) -> "Accelerator":
    """accelerate's view of the devices and processes; on a CPU it also makes memory ready for training.

    Raises:
        ValueError: the launcher's environment, or an `Accelerator` that was made before, wants what is not done here.
        ModuleNotFoundError: accelerate is not installed.
    """
    with needed("accelerate"):
        from accelerate import Accelerator  # imported here, because it is slow to import
        from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration

    _refuse_spreading()
    _refuse_earlier_accelerator()
    with _tf32_as_it_is():
        accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # else several processes on CPUs would not find each other
            mixed_precision="no",  # `train_step` has its own autocast, the one that `NetworkDenoiser` has
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            log_with=list(trackers) or None,
            project_config=ProjectConfiguration(str(out), str(out / "tensorboard")),
        )
    if accelerator.is_main_process:
        _say_what_is_not_used()
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def compilation(accelerator: "Accelerator", networks: int) -> dict[str, Any]:
    """How torch.compile compiles the networks of a training, as its record has it; nothing where it does not.

    Raises:
        ValueError: this torch has no such compiler; or there are two networks, whose R1 penalty is a gradient of a
            gradient, which compiled networks do not have.
    """
    from accelerate.utils import DynamoBackend

    plugin = accelerator.state.dynamo_plugin
    if plugin.backend == DynamoBackend.NO:
        return {}
    backend = plugin.backend.value.lower()
    if backend not in torch.compiler.list_backends(exclude_tags=()):
        legal = ["no", "eager", "aot_eager", *torch.compiler.list_backends()]
        raise ValueError(f"ACCELERATE_DYNAMO_BACKEND is {backend!r}; legal are {', '.join(legal)}")
    if networks > 1:
        raise ValueError(f"ACCELERATE_DYNAMO_BACKEND is {backend!r}; for a model of {networks} networks it must be no")
    return {name: value for name, value in plugin.to_dict().items() if value not in (None, False)}


def rows_of_this_process(batch_size: int, accelerator: "Accelerator") -> slice:
    """The rows of a global batch that this process takes; `ValueError` unless all processes take equally many."""
    processes, rank = accelerator.num_processes, accelerator.process_index
    if batch_size % processes:
        raise ValueError(f"batch_size is {batch_size}; it must be a multiple of the {processes} processes")
    local = batch_size // processes
    return slice(rank * local, (rank + 1) * local)


def _refuse_spreading() -> None:
    for name, what in SPREADING.items():
        value = os.environ.get(name, "")
        if value.lower() not in ("", "0", "false", "no", "off"):
            raise ValueError(f"{name} is {value!r}; it must be false, since a training here knows no {what}")


def _refuse_earlier_accelerator() -> None:
    """Raise `ValueError` if an `Accelerator` of this program, whose state all share, would change the gradients."""
    from accelerate.state import AcceleratorState, GradientState

    gradients, state = GradientState(), AcceleratorState._shared_state
    for name, value, legal in (
        ("gradient_accumulation_steps", gradients.num_steps, 1),
        ("sync_gradients", gradients.sync_gradients, True),
        ("mixed_precision", state.get("_mixed_precision", "no"), "no"),
        ("parallelism_config", state.get("parallelism_config"), None),
    ):
        if value != legal:
            raise ValueError(
                f"{name} is {value!r} in an Accelerator that this program has made before; for a training it must be "
                f"{legal!r}, as all of a program's share it"
            )


@contextmanager
def _tf32_as_it_is() -> Iterator[None]:
    """A context after which float32 products on a GPU are as exact as before: accelerate makes compiled ones TF32."""
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() == "no":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _say_what_is_not_used() -> None:
    for name, (nothing, why) in OWN_SETTINGS.items():
        if (value := os.environ.get(name, nothing)).lower() != nothing:
            say(f"{name} is {value!r} and is not used: {why}", file=sys.stderr)
