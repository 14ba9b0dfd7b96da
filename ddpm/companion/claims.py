"""The book's claims, `book/claims.yml`, and their verdicts in the chapters.

The figure in a verdict is read from what its evidence recorded when it ran: a claim whose evidence did not record has
no verdict.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from IPython.display import Markdown

from ddpm.companion.checks import MEASURED, enforced

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
    claims = [Claim(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]
    return {claim.id: claim for claim in claims}


def verdict(claim_id: str) -> Markdown:
    """A claim's verdict with what its evidence has measured in this notebook so far."""
    claim = load_claims()[claim_id]
    if missing := [name for name in claim.measured if name not in MEASURED]:
        raise AssertionError(f"{claim_id} has no verdict: {missing[0]!r} was not measured")
    if not enforced():
        return Markdown(f"> **{claim.id}**: not checked in this tier.")
    numbers = "; ".join(f"{name} {MEASURED[name]}" for name in claim.measured)
    text = f"> **{claim.id} · {claim.verdict}.** *{claim.claim}* {claim.truth}"
    return Markdown(text + (f"\n>\n> Measured here: {numbers}." if numbers else ""))


def claims_table(chapter: int) -> Markdown:
    """All claims of a chapter."""
    rows = [f"| {c.id} | {c.claim} | {c.verdict} | {c.truth} |" for c in load_claims().values() if c.chapter == chapter]
    return Markdown("\n".join(["| id | claim | verdict | what is true |", "| --- | --- | --- | --- |", *rows]))
