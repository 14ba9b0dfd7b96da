"""The command line: `ddpm train | sample | evaluate | round-trip | export | chapters`, a file for each command.

No command imports torch before it runs, so that `--help` and a wrong option are answered at once.
"""

import sys
from typing import Any

import typer

from ddpm.cli.chapters import chapters
from ddpm.cli.export import export
from ddpm.cli.options import leave
from ddpm.cli.round_trip import round_trip
from ddpm.cli.sample import evaluate, sample
from ddpm.cli.train import train

__all__ = ["app", "chapters", "evaluate", "export", "main", "round_trip", "sample", "train"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Diffusion models, small and exact: train, sample, measure, export, run the book's chapters.",
)
for command in (train, sample, evaluate, round_trip, export, chapters):
    app.command(command.__name__.replace("_", "-"))(command)

#: The extra that installs each optional package.
EXTRAS = {
    "accelerate": "train", "filelock": "train", "tensorboard": "train", "timm": "train",
    "torchdiffeq": "evaluate", "torchmetrics": "evaluate",
    "IPython": "book", "matplotlib": "book", "nbformat": "book", "papermill": "book", "yaml": "book",
}  # fmt: skip
UsageError: Any = typer.BadParameter.__base__  # typer has a click of its own, whose names it does not export


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (one line on stderr), 1 anything else."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        leave()
        sys.exit(code)
    except UsageError as error:
        _stop(error, 2)
    except typer.Abort:
        sys.exit(1)
    except (ValueError, TypeError, FileNotFoundError) as error:
        _stop(error, 2)
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get((error.name or "").partition(".")[0])) is None:
            raise
        _stop(ValueError(f"{error.name} is not installed; this command needs: pip install 'ddpm[{extra}]'"), 2)
    except (OSError, FloatingPointError) as error:
        _stop(error, 1)


def _stop(error: Exception, code: int) -> None:
    text = error.format_message() if isinstance(error, UsageError) else str(error)
    print("ddpm: " + (text or type(error).__name__).splitlines()[0], file=sys.stderr)
    sys.exit(code)
