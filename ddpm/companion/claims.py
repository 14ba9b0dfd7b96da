"""The book's claims: `book/claims.yml`, verdict boxes in the chapters, and the ledger page made of both.

The figure in a verdict is read from what its evidence recorded when it ran: a claim whose evidence did not record has
no verdict.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from IPython.display import Markdown

from ddpm.companion.checks import MEASURED, Measurement, read_record

ROOT = Path(__file__).parents[2]
VERDICTS = ("holds", "holds when", "corrected")


@dataclass(frozen=True)
class Claim:
    """An entry of `book/claims.yml`."""

    id: str
    chapter: int
    claim: str
    verdict: str
    truth: str
    source: list[str]
    evidence: list[str]
    measured: list[str]

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict of {self.id} is {self.verdict!r}; legal are {', '.join(VERDICTS)}")
        if not self.evidence:
            raise ValueError(f"claim {self.id} has no evidence")


def load_claims(path: Path = ROOT / "book" / "claims.yml") -> dict[str, Claim]:
    """All claims by id, in the file's order."""
    claims = [Claim(**entry) for entry in yaml.safe_load(path.read_text())]
    return {claim.id: claim for claim in claims}


def verdict(claim_id: str) -> Markdown:
    """A claim's verdict with what its evidence has measured in this notebook so far."""
    claim = load_claims()[claim_id]
    if missing := [name for name in claim.measured if name not in MEASURED]:
        raise AssertionError(f"{claim_id} has no verdict: {missing[0]!r} was not measured")
    numbers = "; ".join(f"{name} {MEASURED[name]}" for name in claim.measured)
    text = f"**{claim.id} · {claim.verdict}.** *{claim.claim}* {claim.truth}"
    return Markdown(text + (f" Measured here: {numbers}." if numbers else ""))


def claims_table(chapter: int) -> Markdown:
    """All claims of a chapter."""
    rows = [f"| {c.id} | {c.claim} | {c.verdict} | {c.truth} |" for c in load_claims().values() if c.chapter == chapter]
    return Markdown("\n".join(["| id | claim | verdict | what is true |", "| --- | --- | --- | --- |", *rows]))


def evidence_problems(claim: Claim, root: Path = ROOT) -> list[str]:
    """What is wrong with a claim's evidence: no such cell or test, a cell that did not run, a number not recorded."""
    problems, measured = [], _measured(claim, root)
    for evidence in claim.evidence:
        name, _, tag = evidence.partition("#")
        if tag:
            cells = [c for c in _notebook(root / "notebooks" / name)["cells"] if tag in c["metadata"].get("tags", [])]
            if not any(cell.get("execution_count") for cell in cells):
                problems.append(f"{claim.id}: {evidence} is no cell that ran")
            elif not any("check" in "".join(cell["source"]) for cell in cells):
                problems.append(f"{claim.id}: {evidence} checks nothing")
        else:
            path, _, test = evidence.partition("::")
            if not (root / path).is_file() or f"def {test}(" not in (root / path).read_text():
                problems.append(f"{claim.id}: {evidence} is no test")
    problems += [f"{claim.id}: {name!r} was not recorded" for name in claim.measured if name not in measured]
    return problems


def ledger(root: Path = ROOT) -> str:
    """The ledger page, Markdown."""
    lines = [
        "# The claims ledger",
        "",
        "Every claim the chapters weigh, with its verdict and what its evidence measured when it last ran. This page",
        "is generated from `book/claims.yml` and the chapters' outputs.",
        "",
        "| id | claim | verdict | what is true | measured | evidence | source |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for claim in load_claims(root / "book" / "claims.yml").values():
        measured = _measured(claim, root)
        numbers = "<br>".join(f"{name}: {measured[name]}" for name in claim.measured)
        evidence = "<br>".join(_link(item) for item in claim.evidence)
        sources = ", ".join(f"{{cite}}`{key}`" for key in claim.source)
        lines.append(
            f"| {claim.id} | {claim.claim} | {claim.verdict} | {claim.truth} | {numbers} | {evidence} | {sources} |"
        )
    return "\n".join([*lines, ""])


def _link(evidence: str) -> str:
    name, _, tag = evidence.partition("#")
    return f"[{name.removesuffix('.ipynb')}, {tag}](../notebooks/{name})" if tag else f"`{evidence}`"


def _measured(claim: Claim, root: Path) -> dict[str, Measurement]:
    names = {evidence.partition("#")[0] for evidence in claim.evidence if "#" in evidence}
    return {k: m for name in names for k, m in read_record(_notebook(root / "notebooks" / name)).items()}


def _notebook(path: Path) -> dict[str, Any]:
    import nbformat

    return nbformat.read(path, as_version=4)


def main() -> None:
    """Write the ledger page; with --check, only say whether it is up to date."""
    problems = [problem for claim in load_claims().values() for problem in evidence_problems(claim)]
    path = ROOT / "book" / "ledger.md"
    if not problems and "--check" not in sys.argv:
        path.write_text(ledger())
    elif not problems and path.read_text() != ledger():
        problems = ["book/ledger.md is out of date: run python -m ddpm.companion.claims"]
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
