"""Peak memory and the first call, of each contestant in a process of its own."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from race.clock import LATER
from race.networks import ON_GPU, Settings, unet_of, work_of
from race.search import contestants

SCRIPT = Path(__file__).parents[1] / "speed.py"  # which has the option --alone


def alone(found: Sequence[dict[str, Any]], width: int, batch: int) -> list[dict[str, Any]]:
    """Peak memory and the cost of the first call, with each contestant in a process of its own."""
    rows = []
    for mode in ("training", "forward"):
        for name, settings in contestants(found, mode, width).items():
            task = json.dumps({"settings": asdict(settings), "mode": mode, "width": width, "batch": batch})
            done = subprocess.run(
                [sys.executable, str(SCRIPT), "--alone", task], capture_output=True, text=True, check=True
            )
            rows.append({"mode": mode, "C": width, "batch": batch, "contestant": name, **json.loads(done.stdout)})
    return rows


def alone_in_this_process(task: str) -> None:
    """Print what one contestant's first call costs, and one for which nothing is left to prepare, as JSON."""
    asked = json.loads(task)
    settings = Settings(**asked["settings"])
    start = time.perf_counter()
    work = work_of(settings, asked["mode"], unet_of(asked["width"]), asked["batch"])
    before = _megabytes()
    built = time.perf_counter()
    spent = []
    for _ in range(4 if ON_GPU else 3):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    print(json.dumps({
        "build": round(built - start, 2), "first call": round(spent[0], 3), LATER: round(spent[-1], 3),
        "MB before": before, "peak MB": _megabytes(),
    }))  # fmt: skip


def _megabytes() -> int:
    if ON_GPU:
        return torch.cuda.max_memory_allocated() // 2**20
    if Path("/proc/self/status").exists():  # ru_maxrss counts the parent's memory, too
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024  # type: ignore[index]
    import resource  # which Windows has not

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
