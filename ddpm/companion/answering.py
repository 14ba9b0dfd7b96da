"""The program that `ddpm.companion.sandbox` starts: it runs what a student wrote, and says what that answers.

It reads a request from its standard input, as JSON, and writes a line of JSON for each exercise to its standard output.
Whatever is run here is not to be trusted, and neither is what it answers.

Of a notebook only what the asked functions need is run (`needed`). A chapter's own experiments, minutes long, are not.
It imports nothing of the package for exercises that are a function of numbers: the right functions stand there.
"""

import ast
import io
import json
import math
import os
import signal
import symtable
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, NamedTuple

__all__ = ["TRAINED", "answer_of", "answers", "main", "needed"]

#: Exercises that train a model, by the functions they are given.
TRAINED = {"grade_ddpm": ("noised", "loss", "step_back"), "grade_model": ("diffusion_model",)}


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out, open(os.devnull, "w", encoding="utf-8") as nothing:
        sys.stdout, sys.stderr = nothing, nothing  # what a student prints is of no interest here
        os.dup2(nothing.fileno(), 1)
        limit_resources(request["memory"], request["file size"])
        for line in answers(request["cells"], request["calls"], request["seed"], request["seconds"]):
            out.write(json.dumps(line) + "\n")
            out.flush()
    os._exit(0)  # no thread of a student's holds this up


def limit_resources(memory: int, file_size: int) -> None:
    """Limit what this process may take, in bytes. Windows knows no such limits."""
    with suppress(ImportError):
        import resource

        for what, most in (("RLIMIT_AS", memory), ("RLIMIT_FSIZE", file_size), ("RLIMIT_CORE", 0)):
            resource.setrlimit(getattr(resource, what), (most, most))


def answers(
    cells: Sequence[str], calls: dict[str, list[list[float]] | None], seed: int, seconds: int
) -> Iterator[tuple[str, Any]]:
    """For each exercise its name, and what its function answers to each call (`answer_of`), or what went wrong.

    Args:
        cells: the code of a notebook's cells, in order.
        calls: the arguments of each call, by the function's name; None for an exercise of `TRAINED`.
        seed: of the exercises of `TRAINED`.
        seconds: that one exercise may take.
    """
    statements = list(_statements(cells))
    for name, own in calls.items():
        asked = TRAINED.get(name, (name,))
        try:
            with _at_most(seconds):
                functions = _functions(needed(statements, asked), asked)
                yield name, _said(name, functions, seed) if own is None else [answer_of(functions[0], c) for c in own]
        except OutOfTime:
            yield name, f"takes longer than {seconds} seconds"
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
            yield name, f"raises {type(error).__name__}: {error}"


def answer_of(function: Callable[..., Any], call: Sequence[float]) -> float | str | None:
    """What a student's function answers: a finite number, None where nothing is written yet, or what went wrong."""
    try:
        answer = function(*call)
        if answer is None:
            return None
        number = math.nan if isinstance(answer, complex) else float(answer)
    except Exception as error:  # whatever a student's code runs into
        return f"raises {type(error).__name__}: {error}"
    return number if math.isfinite(number) else f"is {answer}, and should be a finite number."


class OutOfTime(BaseException):
    """An exercise took longer than it may. A student's `except Exception` does not catch it."""


class Statement(NamedTuple):
    """A statement of a notebook: the number of its cell, the names that it binds, and those that it needs."""

    cell: int
    code: ast.stmt
    binds: set[str]
    needs: set[str]


def _statements(cells: Sequence[str]) -> Iterator[Statement]:
    """The statements of all cells that can be read. A line that is for IPython alone is left out."""
    for i, cell in enumerate(cells):
        lines = (line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            for code in ast.parse("\n".join(lines)).body:
                yield Statement(i, code, *_names(code))


def _names(code: ast.stmt) -> tuple[set[str], set[str]]:
    """The names that a statement binds, and the global ones that it or a function in it needs."""
    module = symtable.symtable(ast.unparse(code), "<notebook>", "exec")
    binds = {each.get_name() for each in module.get_symbols() if each.is_assigned() or each.is_imported()}
    needs = {each.get_name() for each in module.get_symbols() if each.is_referenced()}
    inner = list(module.get_children())
    while inner:
        scope = inner.pop()
        needs |= {each.get_name() for each in scope.get_symbols() if each.is_global()}
        inner += scope.get_children()
    return binds, needs | (binds if isinstance(code, ast.AugAssign) else set())


def needed(statements: Sequence[Statement], names: Sequence[str]) -> list[ast.stmt]:
    """What must run before functions of these names can be called, in order.

    That is all of the cells that define them, but for the grading there, what these statements need, and so on.
    """

    def that_binds(name: str, before: int) -> list[int]:
        return [i for i in range(before) if name in statements[i].binds][-1:]

    everything = len(statements)
    cells = {statements[i].cell for name in names for i in that_binds(name, everything)}
    due = [i for i, (cell, code, *_) in enumerate(statements) if cell in cells and not _is_grading(code)]
    due += [i for i, each in enumerate(statements) if _imports_all(each.code)]
    chosen: set[int] = set()
    while due:
        i = due.pop()
        if i not in chosen:
            chosen.add(i)
            is_called_later = isinstance(statements[i].code, ast.FunctionDef | ast.ClassDef)
            for name in statements[i].needs:
                due += that_binds(name, everything if is_called_later else i)
    return [statements[i].code for i in sorted(chosen)]


def _imports_all(code: ast.stmt) -> bool:
    return isinstance(code, ast.ImportFrom) and code.names[0].name == "*"


def _is_grading(code: ast.stmt) -> bool:
    called = code.value.func if isinstance(code, ast.Expr) and isinstance(code.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id.startswith("grade")


def _functions(statements: Sequence[ast.stmt], names: Sequence[str]) -> list[Callable[..., Any]]:
    """The functions of these names, once the statements have run. One that fails is passed over."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    for statement in statements:
        with suppress(Exception):
            exec(compile(ast.Module([statement], []), "<notebook>", "exec"), scope)
    for name in names:
        if not callable(scope.get(name)):
            raise NameError(f"{name} is no function of this notebook")
    return [scope[name] for name in names]


def _said(name: str, functions: Sequence[Any], seed: int) -> str:
    """What an exercise that trains a model says of the functions."""
    from ddpm.companion import exercises

    with redirect_stdout(io.StringIO()) as said:
        getattr(exercises, name)(*functions, seed=seed)
    return said.getvalue().strip().partition(": ")[2]


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """A context that ends with `OutOfTime` after so many seconds, where the system has alarms."""
    if not hasattr(signal, "alarm"):
        yield
        return

    def out_of_time(*_: Any) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
