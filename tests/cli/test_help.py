"""What the command line says of itself, and how it ends."""

import errno
import os

import pytest
import typer

from ddpm import cli
from tests.cli.commands import done, refusal

COMMANDS = ("train", "sample", "evaluate", "round-trip", "export", "chapters")


def test_the_help_names_every_command():
    said = done("--help").stdout
    assert all(f"\n  {command} " in said for command in COMMANDS)


def test_without_a_command_it_shows_its_help():
    assert done().stdout == done("--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert f"ddpm {command} [OPTIONS]" in done(command, "--help").stdout.replace("python -m ", "")


def test_the_help_of_train_teaches():
    said = done("train", "--help").stdout
    assert "resumes it" in said
    assert "[default: (5000)]" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["--verbose"], "No such option"),
        (["sample", "--colour", 3], "No such option"),
        (["sample", "--steps", "many"], "Invalid value for '--steps'"),
        (["evaluate", "--n"], "requires an argument"),
    ],
)
def test_a_command_line_that_cannot_be_read_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(arguments, tmp_path)


def raising(error):
    def app(*_, **__):
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("steps is 0\nand more"), 2, "ddpm: steps is 0\n"),
        (TypeError("x is int"), 2, "ddpm: x is int\n"),
        (FileNotFoundError("there is no picture"), 2, "ddpm: there is no picture\n"),
        (ValueError(), 2, "ddpm: ValueError\n"),
        (ModuleNotFoundError("No module named 'timm'", name="timm.optim"), 2, "pip install 'ddpm[train]'\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "ddpm: [Errno 28] No space left on device\n"),
        (FloatingPointError("loss is nan"), 1, "ddpm: loss is nan\n"),
        (typer.Abort(), 1, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error, code, line, monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", raising(error))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    said = capsys.readouterr().err
    assert said.endswith(line)
    assert said.count("\n") <= 1


@pytest.mark.parametrize("error", [KeyError("a fault"), ModuleNotFoundError("No module named 'x'", name="x")])
def test_a_fault_of_the_program_is_not_hidden(error, monkeypatch):
    monkeypatch.setattr(cli, "app", raising(error))
    with pytest.raises(type(error)):
        cli.main()
