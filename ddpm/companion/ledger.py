"""The ledger page: every claim with its verdict and what its evidence measured, `python -m ddpm.companion.ledger`."""

import ast
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from ddpm.companion.checks import Measurement, read_record
from ddpm.companion.claims import ROOT, Claim, load_claims


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
            if not (root / path).is_file() or f"def {test}(" not in (root / path).read_text(encoding="utf-8"):
                problems.append(f"{claim.id}: {evidence} is no test")
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
    """The ledger page, Markdown."""
    claims = load_claims(root / "book" / "claims.yml").values()
    lines = [
        "# The claims ledger",
        "",
        "Every claim the chapters weigh, with its verdict and what its evidence measured when it last ran. This page",
        "is generated from `book/claims.yml` and the chapters' outputs.",
        "",
        "| id | claim | verdict |",
        "| --- | --- | --- |",
        *(f"| [{claim.id}](#{claim.id.lower()}) | {claim.claim} | {claim.verdict} |" for claim in claims),
    ]
    for claim in claims:
        measured = _measured(claim, root)
        lines += ["", f"({claim.id.lower()})=", f"## {claim.id}: {claim.verdict}", "", f"*{claim.claim}* {claim.truth}"]
        lines += ["", *(f"- {name}: **{measured[name]}** (claimed: {measured[name].claim})" for name in claim.measured)]
        lines += ["", "Evidence: " + ", ".join(_link(item) for item in claim.evidence) + "."]
        lines += ["Source: " + ", ".join(f"{{cite}}`{key}`" for key in claim.source) + "."]
    return "\n".join([*lines, ""])


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
    name, _, tag = evidence.partition("#")
    return f"[{tag}](../notebooks/{name})" if tag else f"`{evidence}`"


def _measured(claim: Claim, root: Path) -> dict[str, Measurement]:
    names = {evidence.partition("#")[0] for evidence in claim.evidence if "#" in evidence}
    return {k: m for name in names for k, m in read_record(_notebook(root / "notebooks" / name)).items()}


def _notebook(path: Path) -> dict[str, Any]:
    return nbformat.read(path, as_version=4)


def main() -> None:
    """Write the ledger page; with --check, only say whether it is up to date."""
    problems = [problem for claim in load_claims().values() for problem in evidence_problems(claim)]
    path = ROOT / "book" / "ledger.md"
    if not problems and "--check" not in sys.argv:
        path.write_text(ledger(), encoding="utf-8", newline="\n")
    elif not problems and path.read_text(encoding="utf-8") != ledger():
        problems = ["book/ledger.md is out of date: run python -m ddpm.companion.ledger"]
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
