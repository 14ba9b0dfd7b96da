"""The ledger page, every claim with its verdict and what its evidence measured, and the page of its tests.

`python -m ddpm.companion.ledger` writes both, and the page of results.
"""

import ast
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from ddpm.companion.checks import Measurement, read_record
from ddpm.companion.claims import ROOT, Claim, load_claims
from ddpm.companion.results import results_page


def evidence_problems(claim: Claim, root: Path = ROOT) -> list[str]:
    """What is wrong with a claim's evidence: no such cell or test, a cell that did not run, a number not recorded."""
    problems, measured = [], _measured(claim, root)
    for evidence in claim.evidence:
        name, _, tag = evidence.partition("#")
        if tag:
            cells = [c for c in _notebook(root / "notebooks" / name)["cells"] if tag in c["metadata"].get("tags", [])]
            if not any(cell.get("execution_count") for cell in cells):
                problems.append(f"{claim.id}: {evidence} is no cell that ran")
        else:
            path, _, test = evidence.partition("::")
            problems += [f"{claim.id}: {evidence} {problem}" for problem in _test_problems(root / path, test)]
    checked = _checked(claim, root)
    if checked and not claim.measured:
        problems.append(f"{claim.id}: its cells check numbers, and it names none of them")
    for name in claim.measured:
        if name not in measured:
            problems.append(f"{claim.id}: {name!r} was not recorded")
        elif not any(pattern.fullmatch(name) for pattern in checked):
            problems.append(f"{claim.id}: {name!r} is checked in none of its cells")
    return problems


def ledger(root: Path = ROOT) -> str:
    """The ledger page, Markdown: a row a claim, which `book/_static/ledger.js` filters."""
    lines = [
        "# The claims ledger",
        "",
        "Every claim the chapters weigh, with its verdict and what its evidence measured when it last ran. This page",
        "is generated from `book/claims.yml` and the chapters' outputs, and a test fails when a claim has no evidence,",
        "when its evidence does not run, or when a measurement is not what the verdict rests on.",
        "",
        "````{list-table}",
        ":header-rows: 1",
        ":class: ledger",
        ":widths: 42 9 27 22",
        "",
        *_row(["Claim, and what is true", "Verdict", "Measured (claimed)", "Evidence and source"]),
    ]
    for claim in load_claims(root / "book" / "claims.yml").values():
        measured = _measured(claim, root)
        numbers = [f"- {name}: **{measured[name]}** ({measured[name].claim})" for name in claim.measured]
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
    return "\n".join([*lines, "````", ""])


def evidence_tests(root: Path = ROOT) -> str:
    """The page of the tests that the ledger names, each with its code, Markdown."""
    claims = load_claims(root / "book" / "claims.yml").values()
    names = dict.fromkeys(item for claim in claims for item in claim.evidence if "::" in item)
    lines = [
        "# The tests behind the claims",
        "",
        "What the [ledger](ledger.md) names as evidence and is no cell of a chapter. `make test` runs all of it.",
    ]
    for name in names:
        path, _, test = name.partition("::")
        own = ", ".join(f"[{claim.id}](#{claim.id.lower()})" for claim in claims if name in claim.evidence)
        lines += ["", f"({_target(name)})=", f"## {test.replace('_', ' ').removeprefix('test ').capitalize()}", ""]
        lines += [f"For {own}; in `{path}`.", "", f"```{{literalinclude}} ../{path}", f":pyobject: {test}", "```"]
    return "\n".join([*lines, ""])


def _row(cells: list[str]) -> list[str]:
    """A row of a list-table."""
    lines = []
    for number, cell in enumerate(cells):
        first, *others = cell.split("\n")
        lines += [("* - " if number == 0 else "  - ") + first, *("    " + line if line else "" for line in others)]
    return lines


def _test_problems(path: Path, name: str) -> list[str]:
    """Why `make test` does not run a test, if so."""
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    tests = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not tests:
        return ["is no test"]
    marks = [ast.unparse(mark) for mark in tests[0].decorator_list]
    marks += [ast.unparse(node) for node in body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    return (
        ["is a test that make test leaves out"]
        if re.search(r"mark\.(slow|skip|browser|xfail)", " ".join(marks))
        else []
    )


def _checked(claim: Claim, root: Path) -> list[re.Pattern[str]]:
    """What the claim's cells check by name; a formatted name counts as a pattern."""
    patterns = []
    for name, _, tag in (evidence.partition("#") for evidence in claim.evidence if "#" in evidence):
        for cell in _notebook(root / "notebooks" / name)["cells"]:
            if tag in cell["metadata"].get("tags", []):
                calls = [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.Call)]
                names = [call.args[0] for call in calls if ast.unparse(call.func) in ("check", "check_exact")]
                patterns += [re.compile(_pattern(node)) for node in names]
    return patterns


def _pattern(name: ast.expr) -> str:
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts)


def _link(evidence: str) -> str:
    """To a cell of a chapter or to a test's code."""
    name, cell, tag = evidence.partition("#")
    text = f"chapter {int(name[:2])}, {tag}" if cell else evidence.partition("::")[2].replace("_", " ")
    return f"{{ref}}`{text} <{_target(evidence)}>`"


def _target(evidence: str) -> str:
    name, cell, tag = evidence.partition("#")
    return (f"{Path(name).stem}-{tag}" if cell else evidence.partition("::")[2].replace("_", "-")).lower()


def _measured(claim: Claim, root: Path) -> dict[str, Measurement]:
    names = {evidence.partition("#")[0] for evidence in claim.evidence if "#" in evidence}
    return {k: m for name in names for k, m in read_record(_notebook(root / "notebooks" / name)).items()}


def _notebook(path: Path) -> dict[str, Any]:
    return nbformat.read(path, as_version=4)


def main() -> None:
    """Write the three pages; with --check, only say whether they are up to date."""
    problems = [problem for claim in load_claims().values() for problem in evidence_problems(claim)]
    pages = {"ledger.md": ledger, "evidence.md": evidence_tests, "results.md": results_page}
    for name, page in pages.items() if not problems else ():
        text = page()
        path = ROOT / "book" / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            problems.append(f"book/{name} is out of date: run python -m ddpm.companion.ledger")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
