"""The generated pages of the book: the ledger of claims, the tests behind them, and the results.

`python -m ddpm.companion.ledger` writes all three; with `--check` it only says whether they are up to date.
"""

import ast
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm.companion.checkout import ROOT, beside_package, run
from ddpm.companion.checks import Measurement, read_record
from ddpm.companion.claims import Claim, load_claims
from ddpm.companion.notebook import read_notebook
from ddpm.companion.results import results_page

__all__ = ["evidence_problems", "evidence_tests", "ledger", "main"]

PROPER = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "euler": "Euler",
    "gaussian": "Gaussian",
    "heun": "Heun",
    "langevin": "Langevin",
}


def evidence_problems(claim: Claim, root: Path = ROOT) -> list[str]:
    """What is wrong with a claim's evidence, a line for each problem; none if nothing is.

    A problem is a cell or test that is not there or does not run, and a number that was not recorded or not checked.
    """
    problems = []
    for evidence in claim.evidence:
        name, _, tag = evidence.partition("#")
        if tag:
            if not any(cell.get("execution_count") for cell in _tagged_cells(root, name, tag)):
                problems.append(f"{claim.id}: {evidence} is not a cell that ran")
        else:
            path, _, test = evidence.partition("::")
            problems += [f"{claim.id}: {evidence} {problem}" for problem in _test_problems(root / path, test)]
    return problems + _number_problems(claim, root)


def _number_problems(claim: Claim, root: Path) -> list[str]:
    """What is wrong with the numbers that a claim's verdict rests on."""
    measured, checked = _measured(claim, root), _checked(claim, root)
    problems = []
    if checked and not claim.measured:
        problems.append(f"{claim.id}: its cells check numbers, and it names none of them")
    for name in claim.measured:
        if name not in measured:
            problems.append(f"{claim.id}: {name!r} was not recorded")
        elif not any(pattern.fullmatch(name) for pattern in checked):
            problems.append(f"{claim.id}: {name!r} is checked in none of its cells")
    return problems


def ledger(root: Path = ROOT) -> str:
    """The ledger page, Markdown: tables with a row for each claim, which `book/_static/ledger.js` filters."""
    claims = load_claims(root).values()
    coursework = [claim for claim in claims if claim.id.startswith("C")]
    lines = [
        "# The claims ledger",
        "",
        "Every claim the chapters weigh, with its verdict and what its evidence measured when it last ran. This page",
        "is generated from `book/claims.yml` and the chapters' outputs, and a test fails when a claim has no evidence,",
        "when its evidence does not run, or when a measurement is not what the verdict rests on.",
        "",
        "## The coursework's answers",
        "",
        *_table(coursework, root),
        "## Beyond the coursework",
        "",
        "What is commonly said of guidance (G1 to G8) and of flows and few steps (F1 to F7).",
        "",
        *_table([claim for claim in claims if claim not in coursework], root),
    ]
    return "\n".join(lines)


def _table(claims: Sequence[Claim], root: Path) -> list[str]:
    """The lines of a table of claims."""
    lines = [
        "````{list-table}",
        ":header-rows: 1",
        ":class: ledger",
        ":widths: 42 9 27 22",
        "",
        *_row(["Claim, and what is true", "Verdict", "Measured (claimed)", "Evidence and source"]),
    ]
    for claim in claims:
        measured = _measured(claim, root)
        numbers = [f"- {_number(measured[name])}" for name in claim.measured]
        evidence = [f"- {_link(item)}" for item in claim.evidence]
        sources = ", ".join(f"{{cite}}`{key}`" for key in claim.source)
        lines += _row(
            [
                f"({claim.id.lower()})=\n**{claim.id}** (chapter {claim.chapter}): *{claim.claim}*\n\n{claim.truth}",
                claim.verdict,
                "\n".join(numbers) or "by proof and by tests",
                "\n".join(evidence) + f"\n\n{sources}",
            ]
        )
    return [*lines, "````", ""]


def evidence_tests(root: Path = ROOT) -> str:
    """The page of the tests that the ledger names, each with its code, Markdown."""
    claims = sorted(load_claims(root).values(), key=lambda claim: claim.chapter)
    names = dict.fromkeys(item for claim in claims for item in claim.evidence if "::" in item)
    lines = [
        "# The tests behind the claims",
        "",
        "The [ledger](ledger.md) names these tests as evidence, beside cells of the chapters. `make test` runs them.",
        "",
        "```{contents}",
        ":local:",
        ":depth: 2",
        "```",
    ]
    chapter = None
    for name in names:
        path, _, test = name.partition("::")
        proved = [claim for claim in claims if name in claim.evidence]
        if proved[0].chapter != chapter:
            chapter = proved[0].chapter
            lines += ["", f"## Chapter {chapter}"]
        ids = ", ".join(claim.id for claim in proved)
        own = ", ".join(f"[{claim.id}](#{claim.id.lower()})" for claim in proved)
        lines += ["", f"({_target(name)})=", f"### {ids} · {_sentence(test)}", ""]
        lines += [f"For {own}; in `{path}`.", "", f"```{{literalinclude}} ../{path}"]
        lines += [":language: python", f":pyobject: {test}", "```"]
    return "\n".join([*lines, ""])


def _number(measurement: Measurement) -> str:
    """A measured number, what is claimed of it, and what it is held against."""
    against = f"; held against: *{measurement.against}*" if measurement.against else ""
    return f"{measurement.name}: **{measurement}** ({measurement.claim}){against}"


def _row(cells: list[str]) -> list[str]:
    """The lines of one row of a list-table."""
    lines = []
    for number, cell in enumerate(cells):
        first, *others = cell.split("\n")
        lines += [("* - " if number == 0 else "  - ") + first, *("    " + line if line else "" for line in others)]
    return lines


def _test_problems(path: Path, name: str) -> list[str]:
    """Why `make test` does not run a test; none if it does."""
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    tests = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not tests:
        return ["is not a test"]
    marks = [ast.unparse(mark) for mark in tests[0].decorator_list]
    marks += [ast.unparse(node) for node in body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    left_out = re.search(r"mark\.(slow|skip|browser|xfail)", " ".join(marks))
    return ["is a test that make test leaves out"] if left_out else []


def _checked(claim: Claim, root: Path) -> list[re.Pattern[str]]:
    """The names of the numbers that a claim's cells check, as patterns, since a name may be an f-string."""
    patterns = []
    for name, tag in _cells_named(claim):
        for cell in _tagged_cells(root, name, tag):
            calls = [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.Call)]
            names = [call.args[0] for call in calls if ast.unparse(call.func) in ("check", "check_exact")]
            patterns += [re.compile(_pattern(node)) for node in names]
    return patterns


def _pattern(name: ast.expr) -> str:
    """A regular expression for a string, in which anything may stand for an f-string's fields."""
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts)


def _link(evidence: str) -> str:
    """A link to a cell of a chapter or to a test's code."""
    name, _, tag = evidence.partition("#")
    text = f"chapter {int(name[:2])}, {tag}" if tag else _sentence(evidence.partition("::")[2])
    return f"{{ref}}`{text} <{_target(evidence)}>`"


def _sentence(test: str) -> str:
    """A test's name as the sentence that it proves."""
    words = test.removeprefix("test_").split("_")
    sentence = " ".join(PROPER.get(word, word) for word in words)
    return sentence[0].upper() + sentence[1:]


def _target(evidence: str) -> str:
    """The label that a link to this evidence leads to."""
    name, _, tag = evidence.partition("#")
    return (f"{Path(name).stem}-{tag}" if tag else evidence.partition("::")[2].replace("_", "-")).lower()


def _measured(claim: Claim, root: Path) -> dict[str, Measurement]:
    """What the chapters that hold a claim's evidence recorded, by name."""
    measured: dict[str, Measurement] = {}
    for name in dict.fromkeys(name for name, _ in _cells_named(claim)):
        measured |= read_record(_notebook(root, name))
    return measured


def _cells_named(claim: Claim) -> list[tuple[str, str]]:
    """The notebook and the tag of each cell that is evidence for a claim."""
    parts = [evidence.partition("#") for evidence in claim.evidence]
    return [(name, tag) for name, _, tag in parts if tag]


def _tagged_cells(root: Path, name: str, tag: str) -> list[dict[str, Any]]:
    return [cell for cell in _notebook(root, name)["cells"] if tag in cell["metadata"].get("tags", [])]


def _notebook(root: Path, name: str) -> dict[str, Any]:
    path = beside_package("notebooks", root) / name
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _parsed(path: Path, changed: int) -> dict[str, Any]:
    """The notebook in a file that was last changed then: hundreds of cells are looked up in a few, slow to parse."""
    notebook: dict[str, Any] = read_notebook(path)
    return notebook


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing, say what is out of date.")] = False,
) -> None:
    """Write the three generated pages, or say whether they are up to date; problems of the evidence end it."""
    problems = [problem for claim in load_claims().values() for problem in evidence_problems(claim)]
    if problems:
        sys.exit("\n".join(problems))
    outdated = []
    for name, page in (("ledger.md", ledger), ("evidence.md", evidence_tests), ("results.md", results_page)):
        text = page()
        path = ROOT / "book" / name
        if not check:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            outdated.append(f"book/{name} is out of date: run python -m ddpm.companion.ledger")
    if outdated:
        sys.exit("\n".join(outdated))


if __name__ == "__main__":
    run(main)
