"""The program that `ddpm.companion.sandbox` starts: it runs what a student wrote, and says what that answers.

It reads a request from its standard input, as JSON, and writes a line of JSON for each exercise to its standard output.
Whatever is run here is not to be trusted, and neither is what it answers.

Of a chapter only what the asked functions need is run (`needed`): its own experiments take minutes. For exercises that
are a function of numbers it imports nothing of the package, where the right functions stand.
"""

import ast
import dis
import json
import math
import os
import re
import signal
import symtable
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

__all__ = ["NOTHING", "PRACTICALS", "answer_of", "answers", "is_blank", "main", "needed", "raised", "statements_of"]

#: What is said of a function that is written and answers None.
NOTHING = "returns nothing: is there a `return` on every way through it?"
#: What Python raises of a cell that it cannot read: the last two of code that is nested without end.
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
#: Exercises that are more than a function of numbers, such as a model or a sampler, by the functions they are given.
PRACTICALS = {
    "grade_ddpm": ("noised", "loss", "step_back"),
    "grade_model": ("diffusion_model",),
    "grade_samplers": ("walk_by_ddim", "walk_by_solver"),
    "grade_loss_with_labels": ("loss_with_labels",),
    "grade_flow_loss": ("flow_loss",),
}


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out, open(os.devnull, "w", encoding="utf-8") as nothing:
        sys.stdout = nothing  # what a student prints is of no interest here
        os.dup2(nothing.fileno(), 1)
        limit_resources(request["memory"], request["file size"])
        seed, seconds = request["seed"], request["seconds"]
        for line in answers(request["cells"], request["calls"], seed, seconds, request["own"]):
            out.write(json.dumps(line) + "\n")
            out.flush()
    os._exit(0)  # no thread of a student's holds this up


def limit_resources(memory: int, file_size: int) -> None:
    """Limit what this process may take, in bytes, where the system knows such limits."""
    with suppress(ImportError):  # Windows
        import resource

        for name, most in (("RLIMIT_AS", memory), ("RLIMIT_FSIZE", file_size), ("RLIMIT_CORE", 0)):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with suppress(ValueError, OSError):  # macOS has some of them in name only
                resource.setrlimit(kind, (limit, limit))


def answers(
    cells: Sequence[tuple[str, bool]],
    calls: dict[str, list[list[float]] | None],
    seed: int,
    seconds: int,
    own: Mapping[str, Mapping[str, float]],
) -> Iterator[tuple[str, Any]]:
    """For each exercise its name, and what its function answers to each call (`answer_of`), or what went wrong.

    Args:
        cells: the code of a notebook's cells, in order, and whether it is the student's own or the chapter's.
        calls: the arguments of each call, by the function's name; None for an exercise of `PRACTICALS`.
        seed: of the exercises of `PRACTICALS`.
        seconds: that one exercise may take.
        own: the numbers of the student's copy that a function uses, by the function's name: it is called with these,
            whatever a later cell makes of them.
    """
    statements = statements_of(cells)
    for name, called in calls.items():
        try:
            with _at_most(seconds):
                answer = _answer(statements, name, called, seed, own.get(name, {}))
        except NameError as error:
            answer = _why_unread(cells, error.name) or raised(error)
        except OutOfTime:
            answer = f"takes longer than {seconds} seconds"
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
            answer = raised(error)
        yield name, answer


def _why_unread(cells: Sequence[tuple[str, bool]], name: str | None) -> str:
    """Why the last cell cannot be read that defines a function of this name by the look of it; "" where it can."""
    found = (source for source, _ in reversed(cells) if re.search(rf"^[ \t]*def {name}\b", source, re.MULTILINE))
    try:
        _parsed(next(found, ""))
    except UNREADABLE as error:
        where = f", line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else ""
        return f"needs a cell that does not run: {type(error).__name__}{where}"
    return ""


def _answer(
    statements: Sequence["Statement"],
    name: str,
    calls: list[list[float]] | None,
    seed: int,
    own: Mapping[str, float],
) -> Any:
    functions = _functions(statements, PRACTICALS.get(name, (name,)), own)
    if calls is not None:
        return [answer_of(functions[0], call) for call in calls]
    if all(is_blank(function) for function in functions):  # the judges import torch, which takes seconds
        return "not written yet"
    from ddpm.companion.exercises import JUDGES

    return JUDGES[name](*functions, seed=seed)


def answer_of(function: Callable[..., Any], call: Sequence[float]) -> float | str | None:
    """What a student's function answers: a finite number, None where nothing is written yet, or what went wrong."""
    try:
        answer = function(*call)
    except Exception as error:  # whatever a student's code runs into
        return raised(error)
    if answer is None:
        return None if is_blank(function) else NOTHING
    return _number_in(answer)


def is_blank(function: Callable[..., Any]) -> bool:
    """Whether nothing stands in a function but a docstring and `...`: all that it does is to return None."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    done = [each for each in dis.get_instructions(code) if each.opname not in ("RESUME", "NOP")]
    return all(each.opname.startswith(("LOAD_CONST", "RETURN_")) and each.argval is None for each in done)


def _number_in(answer: Any) -> float | str:
    """An answer as a finite number, or what it is instead. A text is none, though Python reads numbers in it."""
    kinds = {"Tensor": "a tensor", "ndarray": "an array", "list": "a list", "tuple": "a tuple", "str": "a str"}
    kind = kinds.get(type(answer).__name__, f"of type {type(answer).__name__}")
    with suppress(Exception):  # it has no shape, or one of another kind, as torch.Tensor itself has
        kind += f" of shape {tuple(answer.shape)}"
    not_one = f"is {kind}, and should be one number."
    if isinstance(answer, str):
        return not_one
    try:
        number = math.nan if isinstance(answer, complex) else float(answer)
        return number if math.isfinite(number) else f"is {answer}, and should be a finite number."
    except OverflowError as error:
        return raised(error)
    except Exception:  # a list has a reason of its own, and so has a tensor of two numbers
        return not_one


def raised(error: BaseException, most: int = 300) -> str:
    """What is said of an exception, in so many letters at most."""
    try:
        why = str(error)
    except Exception:  # an exception of a student's own may be unable to say
        why = "it does not say why"
    return f"raises {type(error).__name__}: {why}"[:most]


class OutOfTime(BaseException):
    """An exercise took longer than it may. A student's `except Exception` does not catch it."""


class Statement(NamedTuple):
    """A statement of a notebook.

    Attributes:
        cell: the number of its cell.
        own: whether the cell is the student's own, and not the chapter's.
        code: the statement.
        binds: the names that it gives a value.
        changes: the names whose value a student's statement changes in place.
        needs: the names whose values it needs at once.
        later: those that a function in it needs once it is called.
    """

    cell: int
    own: bool
    code: ast.stmt
    binds: set[str]
    changes: set[str]
    needs: set[str]
    later: set[str]


def statements_of(cells: Sequence[tuple[str, bool]]) -> list[Statement]:
    """The statements of all cells that can be read, but for the grading there."""
    found = []
    for i, (source, own) in enumerate(cells):
        with suppress(*UNREADABLE):
            for code in _parsed(source):
                if not _is_grading(code):
                    binds, needs, later = _names(code)
                    found.append(Statement(i, own, code, binds, _changed(code) if own else set(), needs, later))
    imported = {name for each in found if isinstance(each.code, ast.Import | ast.ImportFrom) for name in each.binds}
    return [each._replace(changes=each.changes - imported) for each in found]


def _parsed(source: str) -> list[ast.stmt]:
    """A cell's statements; lines that are for IPython alone are calls of it, which fail here and are passed over."""
    if source.lstrip().startswith(("%%time", "%%capture")):  # also %%timeit: they run the cell
        source = "\n" + source.lstrip().partition("\n")[2]  # the lines keep their numbers
    try:
        return ast.parse(source).body
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        transformed = TransformerManager().transform_cell(source)
        if transformed.strip("\n") == source.strip("\n"):  # it has no line for IPython alone
            raise
        return ast.parse(transformed).body


def _names(code: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """The names that a statement binds, needs at once, and needs later."""
    module = symtable.symtable(ast.unparse(code), "<notebook>", "exec")
    binds = {each.get_name() for each in module.get_symbols() if each.is_assigned() or each.is_imported()}
    needs = {each.get_name() for each in module.get_symbols() if each.is_referenced()}
    later: set[str] = set()
    inner = list(module.get_children())
    while inner:
        scope = inner.pop()
        later |= {each.get_name() for each in scope.get_symbols() if each.is_global()}
        inner += scope.get_children()
    plain = (ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return binds, needs if isinstance(code, plain) else needs | binds, later  # a loop or an `if` may keep a value


#: Methods that change what they are called on, wherever in a statement they stand.
CHANGING = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse",
    "setdefault", "sort", "update",
}  # fmt: skip


def _changed(code: ast.stmt) -> set[str]:
    """The names whose values a statement changes in place: by `k["a"] = 2`, `f.seen = 0` or `k.append(1)`.

    The chapter's statements are not asked: they fill tables with experiments that take minutes.
    """
    changed: set[str] = set()
    if isinstance(code, ast.FunctionDef | ast.ClassDef):  # whose names are its own
        return changed
    whole_statements = {id(node.value) for node in ast.walk(code) if isinstance(node, ast.Expr)}
    for node in ast.walk(code):
        part: ast.AST | None = None
        if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            part = node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            part = node.func if id(node) in whole_statements or node.func.attr in CHANGING else None
        while isinstance(part, ast.Subscript | ast.Attribute):
            part = part.value
        if isinstance(part, ast.Name):
            changed.add(part.id)
    return changed


def _is_grading(code: ast.stmt) -> bool:
    called = code.value.func if isinstance(code, ast.Expr) and isinstance(code.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id.startswith("grade")


def needed(statements: Sequence[Statement], names: Sequence[str]) -> list[int]:
    """Which statements must run before functions of these names can be called: their numbers, in order.

    Of a student's own cells that bind a name all is run, whatever else they do; of the chapter's cells the last
    statement that binds it before it is needed. Of a student's statements that change a value in place those alone are
    run, and none that changes what is asked for, which is called as it was written. What all these need is found in
    the same way.
    """
    everything = len(statements)
    due = [(name, everything) for name in names]
    chosen: set[int] = set()

    def choose(i: int) -> None:
        if i not in chosen:
            chosen.add(i)
            due.extend((name, i) for name in statements[i].needs)
            due.extend((name, everything) for name in statements[i].later)

    for i, each in enumerate(statements):
        if isinstance(each.code, ast.ImportFrom) and each.code.names[0].name == "*":
            choose(i)
    while due:
        name, before = due.pop()
        binders = [i for i in range(before) if name in statements[i].binds]
        cells = {statements[i].cell for i in binders if statements[i].own}
        changers = [i for i in range(before) if name in statements[i].changes and name not in names]
        for i in [*binders[-1:], *changers, *(i for i in range(everything) if statements[i].cell in cells)]:
            choose(i)
    return sorted(chosen)


def _functions(
    statements: Sequence[Statement], names: Sequence[str], own: Mapping[str, float]
) -> list[Callable[..., Any]]:
    """The functions of these names: what was last bound to each that can be called, where `own` numbers stand.

    A statement that fails is passed over.

    Raises:
        NameError: there is none of a name; it says what failed first.
    """
    scope: dict[str, Any] = {"__name__": "__main__", "display": lambda *_, **__: None}
    functions: dict[str, Callable[..., Any]] = {}
    failed = ""
    for i in needed(statements, names):
        try:
            exec(compile(ast.Module([statements[i].code], []), "<notebook>", "exec"), scope)
        except Exception as error:
            failed = failed or f"; before, {type(error).__name__}: {error}"
        functions |= {name: scope[name] for name in names if callable(scope.get(name))}
    scope |= own
    for name in names:
        if name not in functions:
            raise NameError(f"{name} is no function of this notebook{failed}", name=name)
    return [functions[name] for name in names]


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
