"""What the long runs of `benchmarks/` share: rows that are kept, what they were measured with, tables over seeds."""

import json
import platform
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path, PurePosixPath, PureWindowsPath
from statistics import mean, stdev
from typing import Any

import torch
import typer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm.fast import has_fast_bfloat16
from ddpm.files import read_json
from ddpm.messages import counted
from ddpm.model_files import model_folder
from ddpm.settings import one_of

__all__ = [
    "chosen", "command_line", "forward_cost", "kept_rows", "last_loss", "machine", "mean_and_deviation",
    "measured_with", "over_seeds", "processor", "refuse_other", "run_folder", "weights_hash",
]  # fmt: skip


def mean_and_deviation(texts: Sequence[str]) -> str:
    """Mean ± standard deviation of numbers, with as many digits as these are written with; one number as it is."""
    if len(texts) == 1:
        return texts[0]
    digits, values = len(texts[0].partition(".")[2]), [float(text) for text in texts]
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def over_seeds(
    rows: Sequence[dict[str, Any]], by: Sequence[str], measures: Sequence[str] = ("Frechet distance",)
) -> list[dict[str, Any]]:
    """A line for all rows that differ in nothing but their seed: mean ± standard deviation, or the one value there is.

    Args:
        rows: of a file of results, in the order of the lines; each has a "seed" and a "bootstrap sd".
        by: the columns in which such rows are equal.
        measures: the columns to take the mean of; "" where a row was not measured so.
    """
    lines = []
    for key in dict.fromkeys(tuple(row[column] for column in by) for row in rows):
        own = [row for row in rows if tuple(row[column] for column in by) == key]
        line = dict(zip(by, key, strict=True))
        line |= {name: mean_and_deviation([row[name] for row in own]) if own[0][name] else "" for name in measures}
        lines.append(line | {"seeds": len(own), "bootstrap sd": own[0]["bootstrap sd"]})
    return lines


def weights_hash(model: str | Path) -> str:
    """The SHA-256 of the weights of a model that ships, or of a run, as its record says."""
    return str(read_json(model_folder(model) / "config.json")["sha256"])


def machine() -> str:
    """What this process computes on: a GPU, or some number of a CPU's threads."""
    return "a GPU" if torch.cuda.is_available() else f"{counted(torch.get_num_threads(), 'thread')} of a CPU"


def processor() -> str:
    """The model of the GPU, or of the CPU with what torch uses of it, such as "AMD EPYC, AVX512, fast bfloat16"."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    if (cpu := Path("/proc/cpuinfo")).exists():
        named = [line for line in cpu.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    bfloat16 = "fast" if has_fast_bfloat16(torch.device("cpu")) else "no fast"
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, {bfloat16} bfloat16"


def command_line() -> str:
    """The command line of the script that runs, which names no folder of this machine.

    Of an absolute path its last part is left.
    """
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    for word in sys.argv[1:]:
        option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute():
            value = PureWindowsPath(value).name
        words.append(option + equals + value)
    return shlex.join(["python", *words])


def measured_with(seconds: float, seed: Any, device: str | None = None) -> dict[str, Any]:
    """The provenance that every file of results holds; its command is the one that runs (`command_line`).

    Args:
        seconds: how long it took.
        seed: the seed, or the seeds.
        device: what it ran on; None for this machine.
    """
    return {
        "device": device or machine(),
        "processor": processor(),
        "date": date.today().isoformat(),
        "seed": seed,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seconds": round(seconds),
        "command": command_line(),
    }


def chosen(name: str, given: Sequence[str] | None, legal: Sequence[str] | dict[str, Any]) -> list[str]:
    """The names that an option gives, or all that are legal where it gives none.

    Raises:
        BadParameter: one of them is not legal.
    """
    try:
        return [one_of(name, value, list(legal)) for value in given or legal]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def run_folder(runs: Path, *words: Any) -> Path:
    """The folder of a run, named by these words: the same for the same training."""
    return runs / re.sub(r"[^A-Za-z0-9._]+", "-", " ".join(map(str, words)))


def last_loss(run: Path) -> float:
    """Mean loss over the last tenth of the steps of a diffusion model's run."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    losses: list[float] = [json.loads(line)["loss_unet"] for line in lines[-max(1, len(lines) // 10) :]]
    return mean(losses)


def forward_cost(make: Callable[[], nn.Module]) -> tuple[int, int]:
    """(number of parameters, FLOPs of a forward pass of one grey image of 32 x 32) of the network that this makes."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = make()
        network(torch.empty(1, 1, 32, 32), torch.empty(1))
    return sum(weight.numel() for weight in network.parameters()), counter.get_total_flops()


def refuse_other(out: Path, what: dict[str, Any]) -> None:
    """Refuse to add to a file of results that was measured with other weights or conditions.

    What stands in `what` is compared: what changes the numbers. Threads, versions and the processor change a distance
    by less than it scatters; the file names those of the last run. A condition that the file does not name, because it
    is older, counts as equal.

    Args:
        out: the file; it need not exist.
        what: conditions, as the file names them, in its provenance or beside it.

    Raises:
        BadParameter: the file names another value of one of them.
    """
    if not out.exists():
        return
    written = read_json(out)
    named = written | written.get("provenance", {})
    for key, asked in what.items():
        if key in named and (other := _difference(key, named[key], asked)):
            where, before, now = other
            raise typer.BadParameter(
                f"out is {out.name!r}, whose rows have {where} {before!r}; asked for is {now!r}: name another file by "
                "--out"
            )


def _difference(where: str, before: Any, now: Any) -> tuple[str, Any, Any] | None:
    """The first difference between two values of a JSON file, and where it is; None if they are equal."""
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(key, before.get(key), now.get(key)) for key in dict.fromkeys([*before, *now])]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = list(zip(range(len(now)), before, now, strict=True))
    elif before != now:
        return where, before, now
    return next((found for key, a, b in pairs if (found := _difference(f"{where}.{key}", a, b))), None)


def kept_rows(out: Path, what: dict[str, Any], by: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rows that a file of results holds already, by the columns that tell them apart.

    Args:
        out: the file; where there is none, there are no rows.
        what: the conditions that all its rows must share; see `refuse_other`.
        by: the columns.

    Raises:
        BadParameter: the file was measured with other weights or conditions.
    """
    refuse_other(out, what)
    rows = read_json(out)["rows"] if out.exists() else []
    return {tuple(row[column] for column in by): row for row in rows}
