"""How many threads of the CPU torch computes with: as many as there are cores that nothing else keeps busy.

Threads that share a core wait for each other at the end of every operation. On two cores, a training step with two
threads takes two to three times as long as with one where another process is busy, and eight to sixteen times where two
are.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from ddpm.settings import threads_number

__all__ = ["choose_threads", "computing_with", "free_cores"]

SECONDS = 0.3  # for which the cores are watched
ROOT = Path("/")

_choice: int | None = None


def choose_threads(asked: int | None = None) -> int:
    """Set the number of threads that torch computes with, and return it.

    The first choice of a process stays, so that it computes the same bits whenever it is asked again.

    Args:
        asked: the number, where a person or the record of a run says it; it replaces an earlier choice. Without it the
            number is `free_cores()`, shared among the processes that a launcher has started on this machine, but never
            more than torch has. Where somebody has set OMP_NUM_THREADS it is torch's own number.

    Raises:
        ValueError: `asked` is no integer from 1 to 4,096.
    """
    global _choice
    own = torch.get_num_threads()
    if asked is not None:
        own = _choice = threads_number("threads", asked)
    elif _choice is None:
        watch = own > 1 and not os.environ.get("OMP_NUM_THREADS")
        _choice = max(1, free_cores() // int(os.environ.get("LOCAL_WORLD_SIZE") or "1")) if watch else own
    threads = min(own, _choice)
    torch.set_num_threads(threads)
    return threads


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """A context in which torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_cores() -> int:
    """How many cores this process may use that nothing is using just now, at least 1.

    It may use those of its affinity and, in a container, as many as the container's CPU quota grants.
    """
    quotas = {group: quota for group in _control_groups() if (quota := _quota(group)) is not None}
    used, start = {group: _seconds_used(group) for group in quotas}, time.monotonic()
    percent, cores = _busy_percent(), _own_cores()
    seconds = time.monotonic() - start
    free = [len(cores) - _rounded(sum(percent[core] for core in cores if core < len(percent)) / 100)]
    for group, quota in quotas.items():
        free.append(int(quota) - _rounded((_seconds_used(group) - used[group]) / seconds))
    return max(1, min(free))


def _rounded(cores: float) -> int:
    return int(cores + 0.5)


def _own_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):  # macOS
        return list(range(psutil.cpu_count() or 1))
    own: list[int] = process.cpu_affinity()
    return own


def _busy_percent() -> list[float]:
    """How busy each core of the machine is, watched for a moment; nothing where the system does not say it."""
    try:
        percent: list[float] = psutil.cpu_percent(SECONDS, percpu=True)
    except OSError:
        return []
    return percent


def _control_groups() -> Iterator[Path]:
    """Folders of the Linux control groups in which this process's CPU time counts, of versions 1 and 2."""
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            top = ROOT / "sys/fs/cgroup" / ("cpu" if controllers else "")
            own = top / group.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _quota(group: Path) -> float | None:
    """Cores that a control group grants; None where it sets no limit, or where this container does not see it."""
    try:
        if (group / "cpu.max").exists():  # version 2
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(limit) / int(period) if limit not in ("max", "-1") else None
    except (OSError, ValueError):
        return None


def _seconds_used(group: Path) -> float:
    """Seconds of CPU time that a control group has used; 0 where it does not say so."""
    try:
        if (group / "cpu.max").exists():
            return int(dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())["usage_usec"]) / 1e6
        return int((group / "cpuacct.usage").read_text()) / 1e9
    except (OSError, ValueError, KeyError):
        return 0.0
