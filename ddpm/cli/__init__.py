"""The command line: `ddpm train | distill | sample | evaluate | round-trip | export | chapters`, each in its own file.

No command imports torch before it runs, so that `--help` and a wrong option are answered at once.
"""

import errno
import io
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from typing import Annotated, Any, NoReturn

import typer

import ddpm
from ddpm.cli.chapters import chapters
from ddpm.cli.distill import distill
from ddpm.cli.evaluate import evaluate
from ddpm.cli.export import export
from ddpm.cli.launch import leave
from ddpm.cli.round_trip import round_trip
from ddpm.cli.sample import sample
from ddpm.cli.train import train
from ddpm.extras import EXTRAS, missing
from ddpm.messages import first_line

__all__ = ["app", "chapters", "distill", "evaluate", "export", "main", "round_trip", "sample", "train"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Diffusion models, small and exact: train, sample, measure, export, run the book's chapters.",
)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A context in which Ctrl-C is only noted, and acts when the context ends."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears it
        yield
        return
    noted = []
    before = signal.signal(signal.SIGINT, lambda *_: noted.append("Ctrl-C"))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        signal.raise_signal(signal.SIGINT)


def _numpy_first(command: Callable[..., None]) -> Callable[..., None]:
    """A command that imports numpy before anything else.

    torch imports numpy, too, and takes a Ctrl-C meanwhile for numpy's absence: the command would go on, or break later.
    """

    @wraps(command)
    def run(**options: Any) -> None:
        with _interrupts_wait():
            import numpy  # noqa: F401
        command(**options)

    return run


for command in (train, distill, sample, evaluate, round_trip, export, chapters):
    app.command(command.__name__.replace("_", "-"))(_numpy_first(command))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ddpm {ddpm.__version__}")
        raise typer.Exit


@app.callback()
def _of_no_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command; the help is the app's own."""


#: What the system says of a path that a person has named wrongly.
WRONG_PATH = (
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip
#: What torch says, in lower case, where memory is too small: of a CPU (twice), of a CPU on Windows, of a GPU.
NO_MEMORY = ("can't allocate memory", "bad_alloc", "not enough memory", "out of memory")
UsageError: Any = typer.BadParameter.__base__  # typer has a click of its own, whose names it does not export


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (one line on stderr), 1 anything else."""
    _mend_streams()
    warnings.showwarning = lambda message, *_, **__: print(f"ddpm: {message}", file=sys.stderr)
    try:
        _refuse_empty(sys.argv[1:])
        code = app(None if sys.argv[1:] else ["--help"], standalone_mode=False)  # None: on Windows *.zip is expanded
        leave()
        sys.stdout.flush()  # an error is still told here
        sys.exit(code)
    except UsageError as error:
        _stop(error.format_message(), 2)
    except typer.Abort:
        sys.exit(1)
    except (ValueError, TypeError, FileNotFoundError) as error:
        _stop(first_line(error), 2)
    except ModuleNotFoundError as error:
        if (needed := _needed(error)) is None:
            raise
        _stop(needed, 2)
    except BrokenPipeError:  # whoever read the output has left
        _silence_stdout()
        sys.exit(1)
    except OSError as error:
        _silence_stdout()
        _stop(first_line(error), 2 if error.errno in WRONG_PATH else 1)
    except FloatingPointError as error:
        _stop(first_line(error), 1)
    except (MemoryError, RuntimeError) as error:
        _stop(_needs_less(error), 1)


def _mend_streams() -> None:
    """Print what a console has no character for with escapes, and what goes to a closed stream nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise `ValueError` if an argument or the value of an option is empty: as a path it would be this folder."""
    for before, argument in pairwise(["", *arguments]):
        if not argument or re.fullmatch("--[a-z-]+=", argument):
            name = argument.rstrip("=") or (before if before.startswith("-") else "an argument")
            raise ValueError(f"{name} is empty; a variable of the shell that is not set looks like this")


def _needed(error: ModuleNotFoundError) -> str | None:
    """How to install what is missing, if it is one of the extras."""
    if error.name == "ddpm.companion":
        return str(error)
    package = (error.name or "").partition(".")[0]
    return str(missing(package)) if package in EXTRAS else None


def _needs_less(error: MemoryError | RuntimeError) -> str:
    """What to do where the memory is too small; an error for another reason is raised again."""
    if isinstance(error, RuntimeError) and not any(words in str(error).lower() for words in NO_MEMORY):
        raise error
    said = str(error).partition("\n")[0] or "of this machine"
    return (
        f"out of memory: {said}; where the command has it, a smaller --batch-size, --micro-batch-size, --chunk or "
        "--base-channels needs less"
    )


def _silence_stdout() -> None:
    """Drop what could not be printed, which Python would otherwise try again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = io.StringIO()


def _stop(text: str, code: int) -> NoReturn:
    print("ddpm: " + text.splitlines()[0], file=sys.stderr)
    sys.exit(code)
