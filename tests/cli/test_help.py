"""What the command line says of itself, and how it ends."""

import errno
import os
import re
import subprocess
import sys
import threading

import pytest
import torch
import typer
from typer.testing import CliRunner

import ddpm
from ddpm import cli
from tests.checkout import ROOT
from tests.cli.commands import alone, help_of, refusal
from tests.forked import ended, fork

COMMANDS = ("train", "distill", "sample", "evaluate", "round-trip", "export", "chapters")


def test_the_help_names_every_command():
    said = help_of()
    assert all(f"\n  {command} " in said for command in COMMANDS)


def test_without_a_command_it_shows_its_help():
    assert alone().stdout == help_of()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert f"ddpm {command} [OPTIONS]" in help_of(command).replace("python -m ", "")


def test_options_that_the_pages_name_exist():
    """Those in running text, of any command; accelerate's have an underscore."""
    pages = [ROOT / "book" / f"{p}.md" for p in ("training", "start", "instructors", "how_to_run")]
    spans = re.findall(r"`(--[a-z][^`]*)`", " ".join(page.read_text(encoding="utf-8") for page in pages))
    named = {option for span in spans for option in re.findall(r"--[\w-]+", span) if "_" not in option}
    helps = " ".join(map(help_of, COMMANDS))
    assert {"--log-sigma-mean", "--student"} < named <= set(re.findall(r"--[\w-]+", helps))


def test_the_help_of_train_teaches():
    said = " ".join(help_of("train").split())
    assert "resumes it" in said
    assert "[default: (5000)]" in said


COMPUTING = ("train", "distill", "sample", "evaluate", "round-trip", "chapters")


@pytest.mark.parametrize("command", COMPUTING)
def test_what_computes_takes_its_threads(command, tmp_path):
    assert "--threads" in help_of(command)
    place = {"train": ["--out", "RUN"], "distill": ["fashion-mnist", "--out", "RUN"]}.get(command, [])
    assert "threads is 0; it must be an integer from 1 up" in refusal([command, "--threads", 0, *place], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sample", "-n", 1, "--steps", 1, "--threads", 2, "--out", "samples.png"), r"sampling on \w+, 2 threads"),
        (("evaluate", "-n", 65, "--steps", 1, "--threads", 1), r"sampling on \w+, 1 thread"),
        (
            ("round-trip", "--depth", 1, "--steps", 1, "--threads", 1, "--out", "trip.png"),
            r"round trip on \w+, 1 thread",
        ),
    ],
)
def test_the_first_line_says_the_threads(command, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(words, alone(*command).stderr.splitlines()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["--verbose"], "No such option"),
        (["sample", "--colour", 3], "No such option"),
        (["sample", "--steps", "many"], "Invalid value for '--steps'"),
        (["evaluate", "--n"], "requires an argument"),
        (["sample", "--out", ""], "--out is empty"),
        (["sample", "--out="], "--out is empty"),
        (["chapters", "--hand-in", ""], "--hand-in is empty"),
        (["export", ""], "an argument is empty"),
        (["chapters", "-p", ""], "-p is empty"),
    ],
)
def test_a_command_line_that_cannot_be_read_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(arguments, tmp_path)


NEEDS_LESS = (
    "where the command has it, a smaller --batch-size, --micro-batch-size, --chunk or --base-channels needs less\n"
)
CPU_MEMORY = "[enforce fail at alloc_cpu.cpp:127] can't allocate memory: 9 bytes"
GPU_MEMORY = "CUDA out of memory. Tried to allocate 9 bytes"


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
        (ModuleNotFoundError("IPython is not installed", name="ddpm.companion"), 2, "ddpm: IPython is not installed\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "ddpm: [Errno 28] No space left on device\n"),
        (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)), 2, "ddpm: [Errno 36] File name too long\n"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), 2, "ddpm: [Errno 13] Permission denied\n"),
        (RuntimeError("std::bad_alloc"), 1, f"ddpm: out of memory: std::bad_alloc; {NEEDS_LESS}"),
        (MemoryError(), 1, f"ddpm: out of memory: of this machine; {NEEDS_LESS}"),
        (RuntimeError(f"{CPU_MEMORY}\nof 8"), 1, f"ddpm: out of memory: {CPU_MEMORY}; {NEEDS_LESS}"),
        (torch.OutOfMemoryError(GPU_MEMORY), 1, f"ddpm: out of memory: {GPU_MEMORY}; {NEEDS_LESS}"),
        (FloatingPointError("loss is nan"), 1, "ddpm: loss is nan\n"),
        (TimeoutError(), 1, "ddpm: TimeoutError\n"),
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


def test_a_command_runs_in_another_thread_than_the_main_one_which_alone_hears_ctrl_c(tmp_path):
    said = []
    arguments = ["sample", "--out", str(tmp_path / "x.jpg")]
    thread = threading.Thread(target=lambda: said.append(CliRunner().invoke(cli.app, arguments).exception))
    thread.start()
    thread.join()
    assert "its name must end in .png" in str(said[0])


def ends(app, out, **streams):
    """The exit code of the command line when its `app` is this one, in a process of its own with these streams."""

    def program():
        for name, stream in streams.items():
            setattr(sys, name, stream)
        sys.argv = ["ddpm", "--help"]
        cli.app = app
        try:
            cli.main()
        finally:  # what comes after the program may print
            sys.stdout, sys.stderr = sys.stdout or sys.__stdout__, sys.stderr or sys.__stderr__

    return ended(fork(program, out=out, err=out.parent / "err"))


ODD = "b\xfccher-\u8863\udcff"  # a letter that cp1252 has, one that it has not, and a byte that is no letter


@pytest.mark.parametrize(
    ("encoding", "line"),
    [("ascii", r"b\xfccher-\u8863\udcff"), ("cp1252", "b\xfccher-\\u8863\\udcff"), ("utf-8", "b\xfccher-衣\\udcff")],
)
def test_a_name_that_the_console_cannot_print_is_printed_with_escapes(encoding, line, tmp_path):
    console = open(tmp_path / "out", "w", encoding=encoding)  # noqa: SIM115
    assert ends(lambda *_, **__: print(ODD), tmp_path / "out", stdout=console) == 0
    assert (tmp_path / "out").read_text(encoding=encoding) == line + "\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_name_that_the_console_cannot_print_ends_no_command(encoding, tmp_path):
    console = open(tmp_path / "out", "w", encoding=encoding)  # noqa: SIM115
    assert ends(lambda *_, **__: typer.echo(ODD), tmp_path / "out", stdout=console) == 0


def test_an_error_with_such_a_name_is_one_line(tmp_path):
    console = open(tmp_path / "err", "w", encoding="ascii", errors="strict")  # noqa: SIM115
    assert ends(raising(ValueError("model is 'b\xfccher'")), tmp_path / "out", stderr=console) == 2
    assert (tmp_path / "err").read_text() == "ddpm: model is 'b\\xfccher'\n"


def test_closed_streams_take_everything(tmp_path):
    def app(*_, **__):
        print("done")
        print("a warning", file=sys.stderr)
        sys.stderr.flush()

    assert ends(app, tmp_path / "out", stdout=None, stderr=None) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_output_that_cannot_be_written_is_one_line_and_no_success(tmp_path):
    program = "from ddpm import cli; cli.app = lambda *_, **__: print('done'); cli.main()"
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (process.returncode, process.stderr) == (1, "ddpm: [Errno 28] No space left on device\n")


INTERRUPTED = """
import signal, sys

module = sys.argv.pop(1)

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background are deaf to Ctrl-C
from ddpm.cli import main
sys.meta_path.insert(0, CtrlC())
main()
"""


@pytest.mark.parametrize("module", ["numpy", "numpy.exceptions", "numpy._core.getlimits", "torch", "torch.nn", "PIL"])
def test_ctrl_c_while_a_module_is_imported_ends_the_command(module, tmp_path):
    """torch takes one in its own import of numpy for numpy's absence: it would be lost, or break numpy."""
    command = [sys.executable, "-c", INTERRUPTED, module, "sample", "-n", "1", "--steps", "1", "--out", "one.png"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 130, process.stderr
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_left_ends_the_command_without_a_traceback():
    program = "from ddpm import cli; cli.app = lambda *_, **__: print('done'); cli.main()"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""


@pytest.mark.parametrize(
    "error", [KeyError("a fault"), RuntimeError("a fault"), ModuleNotFoundError("No module named 'x'", name="x")]
)
def test_a_fault_of_the_program_is_not_hidden(error, monkeypatch):
    monkeypatch.setattr(cli, "app", raising(error))
    with pytest.raises(type(error)):
        cli.main()


def test_it_says_its_version():
    assert alone("--version").stdout == f"ddpm {ddpm.__version__}\n"
    assert "--version" in help_of()
