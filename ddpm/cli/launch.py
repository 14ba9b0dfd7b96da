"""How a command was started: alone, or as one of a launcher's processes, which wait for one another."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import NamedTuple

import typer

__all__ = ["Launch", "launched", "leave", "may_be_stopped", "one_process_first"]


class Launch(NamedTuple):
    """How this process was started.

    Attributes:
        distributed: whether a launcher started several processes.
        is_main: whether this is the main one.
    """

    distributed: bool
    is_main: bool


def launched() -> Launch:
    """How this process was started; of several, each is given its device."""
    if int(os.environ.get("WORLD_SIZE") or "1") == 1:
        return Launch(distributed=False, is_main=True)
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    patience = timedelta(hours=6)  # while one process reads a folder, the others wait
    state = PartialState(cpu=cpu, timeout=patience)  # gives each its device
    return Launch(distributed=True, is_main=state.is_main_process)


def one_process_first() -> AbstractContextManager[None]:
    """A context that one process of each machine enters and leaves before the others enter it."""
    if not launched().distributed:
        return nullcontext()
    from accelerate import PartialState

    context: AbstractContextManager[None] = PartialState().local_main_process_first()
    return context


@contextmanager
def may_be_stopped() -> Iterator[None]:
    """A context whose training a signal may stop: it has saved itself, so that is said, and the command ends well."""
    from ddpm.training.signals import Stopped

    try:
        yield
    except Stopped as stopped:
        if launched().is_main:
            typer.echo(f"{stopped}; the same command goes on from there")


def leave() -> None:
    """End the group of processes, if there is one."""
    if launched().distributed:
        from accelerate import PartialState

        PartialState().destroy_process_group()
