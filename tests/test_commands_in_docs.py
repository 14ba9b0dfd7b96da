"""Every command line that a page, a card or a benchmark prints is one that the program takes; none is executed."""

import ast
import importlib.util
import re
import shlex

import pytest
import typer

from ddpm.cli import app
from tests.cells import cells_of
from tests.checkout import ROOT, script

USAGE_ERROR = typer.BadParameter.__base__
COMMANDS = typer.main.get_command(app).commands
#: ddpm at the beginning, in a folder or not, or behind Python's -m or a colon: its command, and what follows.
COMMAND = re.compile(r"^\s*(?:.*(?:\s-m|:) +)?(?:\S*[/\\])?ddpm +([a-z][\w-]*)(?![\w.:])(.*)")
BENCHMARK = re.compile(r"\bpython benchmarks/(?!diffusers_sample)(\w+)\.py(.*)")  # that one has argparse's options
MODULE = re.compile(r"\bpython[\d.]* -m\s+((?:ddpm|tests)[\w.]*)")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "book").glob("*.md")]
PAGES += (ROOT / "ddpm" / "assets").rglob("*.md")
NOTEBOOKS = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.ipynb")]
SCRIPTS = [*(ROOT / "benchmarks").glob("*.py"), ROOT / "ddpm" / "assets" / "build.py"]


def printed(text):
    """The code of a Markdown text: the lines of blocks, those that go on joined, and the code spans of all else.

    The fences of a directive, such as a note, hold prose.
    """
    code, prose, fences = [], [], []
    for line in text.splitlines():
        fence = re.match(r"\s*`{3,}(.*)", line)
        if fence and (fence[1] or not fences):
            fences.append("prose" if fence[1].startswith("{") else "code")
        elif fence:
            fences.pop()
        else:
            (code if fences and fences[-1] == "code" else prose).append(line)
    lines = re.sub(r"\\\n\s*", "", "\n".join(code)).splitlines()
    return lines, [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", "\n".join(prose))]


def sources():
    """Each text with its path: a page, a notebook's Markdown, or a script's docstring, where code is indented."""
    for path in PAGES:
        yield path, path.read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        yield path, "\n\n".join(cell["source"] for cell in cells_of(path, "markdown"))
    for path in SCRIPTS:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
        yield path, re.sub(r"((?:^    .+\n)+)", r"```\n\1```\n", docstring, flags=re.MULTILINE)


def words_of(rest):
    """The arguments in what follows a command's name, up to a comment."""
    return [word for word in shlex.split(rest, comments=True) if word != "--help"]


def found(pattern):
    """(path, whether it is a line of its own, name, arguments) of each command, once."""
    seen = {}
    for path, text in sources():
        for is_line, pieces in zip((True, False), printed(text), strict=True):
            for match in filter(None, map(pattern.search, pieces)):
                if "..." not in match[2]:
                    seen[path.relative_to(ROOT).as_posix(), is_line, match[1], tuple(words_of(match[2]))] = None
    return list(seen)


def cases(pattern):
    return [pytest.param(*case, id=f"{case[0]}: {' '.join([case[2], *case[3]])}") for case in found(pattern)]


def refusal(command, arguments, is_line=True):
    """Why a command does not take these arguments; None if it does. Amid words what it must have may be left out."""
    try:
        command.make_context("ddpm", list(arguments))
    except USAGE_ERROR as error:
        why = error.format_message()
        return None if why.startswith("Missing") and not is_line else why
    return None


@pytest.mark.parametrize(("path", "is_line", "name", "arguments"), cases(COMMAND))
def test_a_command_is_one_that_the_program_takes(path, is_line, name, arguments):
    assert name in COMMANDS, path
    assert refusal(COMMANDS[name], arguments, is_line) is None, path


@pytest.mark.parametrize(("path", "is_line", "name", "arguments"), cases(BENCHMARK))
def test_a_benchmark_takes_the_options_that_are_named(path, is_line, name, arguments):
    program = typer.Typer()
    program.command()(script(f"benchmarks/{name}.py").main)
    assert refusal(typer.main.get_command(program), arguments, is_line) is None, path


def test_a_module_that_is_run_is_there():
    named = {name for _, text in sources() for name in MODULE.findall(text)}
    assert {"ddpm.companion.book", "ddpm.companion.ledger", "ddpm.assets.build", "tests.mutants"} <= named
    for name in named:
        assert importlib.util.find_spec(name.rstrip(".")), name


def test_all_kinds_of_text_are_read():
    commands = found(COMMAND)
    of_page = {path for path, _, _, arguments in commands if arguments}
    for one in (
        "README.md", "book/training.md", "notebooks/00_from_nothing.ipynb", "benchmarks/distillation.py",
        "ddpm/assets/models/fashion-mnist/card.md",
    ):  # fmt: skip
        assert one in of_page
    assert ("book/training.md", True, "train", ("--batch-size", "512", "--out", "runs/eight")) in commands
    assert ("book/training.md", True, "train", ("--config", "small.toml", "--out", "runs/small")) in commands
    marked = ("--mark", "zips/*.zip", "--only", "3", "--only", "5", "--out", "marks.csv")
    assert ("book/instructors.md", True, "chapters", marked) in commands


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sample run", "unexpected"),
        ("distill --calls four runs/mine --out x", "valid integer"),
        ("train --out", "requires an argument"),
        ("train --steps 4", "Missing"),
        ("export --two diffusers x", "No such option"),
    ],
)
def test_a_command_that_is_wrong_is_noticed(line, why):
    name, *arguments = line.split()
    assert why in (refusal(COMMANDS[name], arguments) or "")
