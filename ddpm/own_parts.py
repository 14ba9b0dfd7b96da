"""What of a model is the user's own and not this package's: what records say of it, and what `ddpm.load` is given.

A record of a training has "own_network", the class of a network in the UNet's place; "own_schedule", a schedule's class
and its table of alpha_bar or, where it is code, what it answers at some times; and "own_task", the class of a task,
whose loss may be another. A schedule that is nothing but its table is made of the record again. Networks and other
schedules are code, which a record cannot hold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ddpm.arguments import instance
from ddpm.schedule import NoiseSchedule

__all__ = ["check_own_network", "own_parts", "own_schedule", "schedule_entry"]

#: Into how many parts the times are cut at whose ends a schedule that is code is asked.
TIMES = 64


def own_parts(task: Any, is_given: bool = False) -> dict[str, Any]:
    """What a record says of the parts of a training task that are the user's own: nothing where all are the package's.

    It has the entries of this module's first lines.

    Args:
        task: the task.
        is_given: whether the user made it, and not the model's configuration.
    """
    schedule = getattr(task, "own_schedule", None)
    is_own = is_given and type(task).__module__.partition(".")[0] != "ddpm"
    entries = {
        "own_network": getattr(task, "own_network", None),
        "own_schedule": schedule and schedule_entry(schedule),
        "own_task": type(task).__name__ if is_own else None,
    }
    return {name: value for name, value in entries.items() if value is not None}


def schedule_entry(schedule: NoiseSchedule) -> dict[str, Any]:
    """What a record says of a schedule. Answers are rounded, as the last digits may be another processor's."""
    entry: dict[str, Any] = {"class": type(schedule).__name__}
    if type(schedule) is NoiseSchedule:
        return entry | {"alpha_bar": schedule.alpha_bar.tolist()}
    answers = [schedule.signal_and_noise(schedule.T * k / TIMES) for k in range(TIMES + 1)]
    signal, noise = ([float(f"{value:.10g}") for value in values] for values in zip(*answers, strict=True))
    return entry | {"signal": signal, "noise": noise}


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
            raise ValueError(f"schedule is given; {path} is of a model without a schedule of its own")
        return None
    damaged = f"{path} is damaged: its own_schedule is no table of alpha_bar"
    if not isinstance(own, dict):
        raise ValueError(damaged)
    if schedule is None and "alpha_bar" in own:
        try:
            return NoiseSchedule(own["alpha_bar"])
        except (TypeError, ValueError) as error:
            raise ValueError(damaged) from error
    if schedule is None:
        raise ValueError(
            f"schedule is not given; {path} is of a run on a schedule that is code, {own.get('class')}: ddpm.load "
            "takes it as schedule=, and commands have none to give"
        )
    if schedule_entry(schedule) != own:
        raise ValueError(f"schedule is {schedule}; {path} is of a run on another, {own.get('class')}")
    return schedule
