"""The book's claims, `book/claims.yml`, and their verdicts in the chapters.

The numbers in a verdict are those that its evidence recorded when it ran. A claim whose evidence recorded nothing has
no verdict.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from IPython.display import Markdown

from ddpm.companion.checkout import ROOT, beside_package
from ddpm.companion.checks import MEASURED, enforced
from ddpm.settings import one_of

__all__ = ["VERDICTS", "Claim", "claims_table", "load_claims", "verdict"]

#: The verdicts that a claim may have.
VERDICTS = ("holds", "holds when", "corrected")


@dataclass(frozen=True)
class Claim:
    """An entry of `book/claims.yml`.

    Attributes:
        id: such as "C24".
        chapter: number of the chapter that weighs the claim.
        claim: what is claimed.
        verdict: one of `VERDICTS`.
        truth: what is true.
        source: keys of the bibliography.
        evidence: cells of chapters, NOTEBOOK#TAG, and tests, PATH::NAME.
        measured: names of the checked numbers that the verdict rests on.
    """

    id: str
    chapter: int
    claim: str
    verdict: str
    truth: str
    source: list[str]
    evidence: list[str]
    measured: list[str]

    def __post_init__(self) -> None:
        one_of(f"verdict of {self.id}", self.verdict, VERDICTS)
        if not self.evidence:
            raise ValueError(f"claim {self.id} has no evidence")


def load_claims(root: Path = ROOT) -> dict[str, Claim]:
    """All claims by id, in the file's order.

    Raises:
        FileNotFoundError: there is no `book/claims.yml` in `root`.
    """
    text = beside_package("book/claims.yml", root).read_text(encoding="utf-8")
    claims = [Claim(**entry) for entry in yaml.safe_load(text)]
    return {claim.id: claim for claim in claims}


def verdict(claim_id: str) -> Markdown:
    """A claim's verdict, with the numbers that its evidence has measured in this notebook so far.

    Raises:
        AssertionError: one of these numbers was not measured.
        FileNotFoundError: `book/claims.yml` is not beside the package.
    """
    claim = load_claims()[claim_id]
    if missing := [name for name in claim.measured if name not in MEASURED]:
        raise AssertionError(f"{claim_id} has no verdict: {missing[0]!r} was not measured")
    if not enforced():
        return Markdown(f"> **{claim.id}**: not checked in this tier.")
    lines = [f"**{claim.id} · {claim.verdict}.** *{claim.claim}* {claim.truth}"]
    if claim.measured:
        lines += ["", "Measured here:", "", *(f"- {name}: **{MEASURED[name]}**" for name in claim.measured)]
    return Markdown("\n".join(f"> {line}".rstrip() for line in lines))


def claims_table(chapter: int) -> Markdown:
    """All claims of a chapter, as a table.

    Raises:
        FileNotFoundError: `book/claims.yml` is not beside the package.
    """
    rows = [f"| {c.id} | {c.claim} | {c.verdict} | {c.truth} |" for c in load_claims().values() if c.chapter == chapter]
    return Markdown("\n".join(["| id | claim | verdict | what is true |", "| --- | --- | --- | --- |", *rows]))
