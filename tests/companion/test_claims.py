import re

import pytest

from ddpm.companion import checks
from ddpm.companion.claims import Claim, claims_table, load_claims, verdict
from tests.checkout import ROOT


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    for module in ("checks", "claims"):
        monkeypatch.setattr(f"ddpm.companion.{module}.MEASURED", {})
    yield
    checks.enforce(True)


def test_a_verdict_needs_every_one_of_its_numbers(monkeypatch):
    claim = next(claim for claim in load_claims().values() if len(claim.measured) > 1)
    measured = {name: checks.Measurement(name, 2.5, "at least 2") for name in claim.measured}
    monkeypatch.setattr("ddpm.companion.claims.MEASURED", measured)
    said = verdict(claim.id).data
    assert said.startswith(f"> **{claim.id} · {claim.verdict}.**")
    assert all(f"> - {name}: **2.5**" in said for name in claim.measured)
    missing = claim.measured[-1]
    del measured[missing]
    with pytest.raises(AssertionError, match=f"{claim.id} has no verdict: .* was not measured"):
        verdict(claim.id)


def test_a_tier_that_checks_nothing_has_no_verdict(monkeypatch):
    claim = next(iter(load_claims().values()))
    monkeypatch.setattr("ddpm.companion.claims.MEASURED", dict.fromkeys(claim.measured))
    checks.enforce(False)
    assert verdict(claim.id).data == f"> **{claim.id}**: not checked in this tier."


def test_a_chapters_table_has_its_own_claims_alone():
    for chapter in (1, 3):
        rows = [line.split(" | ")[0].removeprefix("| ") for line in claims_table(chapter).data.splitlines()[2:]]
        assert rows == [claim.id for claim in load_claims().values() if claim.chapter == chapter]
        assert rows


def test_a_claim_has_evidence_and_one_of_three_verdicts():
    claim = {"id": "C0", "chapter": 1, "claim": "", "truth": "", "source": [], "measured": []}
    with pytest.raises(ValueError, match="claim C0 has no evidence"):
        Claim(**claim, verdict="holds", evidence=[])
    with pytest.raises(ValueError, match="verdict of C0 is 'true'; legal are holds, holds when, corrected"):
        Claim(**claim, verdict="true", evidence=["tests/test_claims.py::test"])


@pytest.mark.parametrize("page", ["README.md", "book/index.md"])
def test_a_page_that_says_how_many_claims_there_are_is_right(page):
    said = re.findall(r"\b(\d+) claims\b", (ROOT / page).read_text(encoding="utf-8"))
    assert said == [str(len(load_claims()))]
