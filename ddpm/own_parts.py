"""What of a model is the user's own and not this package's: what records say of it, and what `ddpm.load` is given.

A record of a training has "own_network", the class of a network in the UNet's place; "own_schedule", a schedule's class
and its table of alpha_bar; and "own_task", the class of a task, whose loss may be another. A schedule that is nothing
but its table is made of the record again; networks and other schedules are code, which a record cannot hold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddpm.arguments import instance
from ddpm.schedule import NoiseSchedule

__all__ = ["check_own_network", "own_parts", "own_schedule"]


def own_parts(task: Any) -> dict[str, Any]:
    """What a record says of the parts of a training task that are the user's own: nothing where all are the package's.

    It has the entries of this module's first lines.
    """
    schedule = getattr(task, "own_schedule", None)
    is_own = type(task).__module__.partition(".")[0] != "ddpm"
    entries = {
        "own_network": getattr(task, "own_network", None),
        "own_schedule": schedule and {"class": type(schedule).__name__, "alpha_bar": schedule.alpha_bar.tolist()},
        "own_task": type(task).__name__ if is_own else None,
    }
    return {name: value for name, value in entries.items() if value is not None}


def check_own_network(path: Path, record: Mapping[str, Any], network: nn.Module | None) -> None:
    """Raise `ValueError` or `TypeError` unless a network is given where, and only where, the record says so.

    `path` is the record's file, for the message.
    """
    own = record.get("own_network")
    if own is not None and network is None:
        raise ValueError(
            f"network is not given; {path} is of a run that trained a network of its own, {own}: "
            "ddpm.load takes one like it as network="
        )
    if network is not None and own is None:
        raise ValueError(f"network is given; {path} is of a model without a network of its own")
    if network is not None:
        instance("network", network, nn.Module)


def own_schedule(path: Path, record: Mapping[str, Any], schedule: NoiseSchedule | None) -> NoiseSchedule | None:
    """The schedule that the record does not name: what is given, or made of its table; None where it names one.

    Raises:
        TypeError: `schedule` is no schedule.
        ValueError: `schedule` is given where the record names one, is not given where it is code, or is not the
            record's; or the record is damaged. `path` is its file, for the message.
    """
    if schedule is not None:
        instance("schedule", schedule, NoiseSchedule)
    own = record.get("own_schedule")
    if own is None:
        if schedule is not None:
            raise ValueError(f"schedule is given; {path} is of a model on a schedule that it names")
        return None
    try:
        name, recorded = own["class"], NoiseSchedule(own["alpha_bar"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its own_schedule has no class or no table of alpha_bar") from error
    if schedule is None and name != NoiseSchedule.__name__:
        raise ValueError(
            f"schedule is not given; {path} is of a run on a schedule of its own, {name}: "
            "ddpm.load takes it as schedule="
        )
    if schedule is None:
        return recorded
    if type(schedule).__name__ != name or not torch.equal(schedule.alpha_bar, recorded.alpha_bar):
        raise ValueError(f"schedule is {schedule}; {path} is of a run on another, {name}")
    return schedule
