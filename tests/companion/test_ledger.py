import re
import shutil

import nbformat
import pytest
import yaml

from ddpm.companion import claims
from ddpm.companion import ledger as pages
from ddpm.companion.checks import read_record
from ddpm.companion.claims import Claim, load_claims
from ddpm.companion.ledger import evidence_problems, evidence_tests, ledger, main
from ddpm.companion.notebook import read_notebook
from ddpm.companion.results import results, results_page
from tests.cells import tags
from tests.checkout import ROOT

NOTEBOOK = "03_round_trip.ipynb"


@pytest.fixture
def copy(tmp_path):
    for folder in ("book", "notebooks", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_claim_has_evidence_that_ran_and_the_page_is_up_to_date():
    for claim in load_claims().values():
        assert evidence_problems(claim) == []
    assert (ROOT / "book" / "ledger.md").read_text(encoding="utf-8") == ledger()
    assert (ROOT / "book" / "evidence.md").read_text(encoding="utf-8") == evidence_tests()
    assert (ROOT / "book" / "results.md").read_text(encoding="utf-8") == results_page()


def test_the_tests_stand_by_chapter_below_their_claims_numbers():
    chapters = re.findall(r"(?m)^## Chapter (\d)$", evidence_tests())
    assert chapters == sorted(set(chapters))
    titles = re.findall(r"(?m)^### (.+)$", evidence_tests())
    assert titles
    assert all(re.match(r"[CGF]\d+(, [CGF]\d+)* · ", title) for title in titles)


def test_the_results_of_a_chapter_say_its_number_and_how_its_checks_ended():
    page = results_page()
    for number, _ in enumerate((ROOT / "notebooks").glob("*.ipynb")):
        assert re.search(rf"(?m)^## Chapter {number}\. .+\n((?!## ).*\n)+?```{{dropdown}} \d+ checks, all within", page)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_verdict_shown_is_the_one_its_numbers_give(path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setattr(claims, "MEASURED", read_record(notebook))
    shown = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and (asked := re.findall(r'verdict\("([A-Z]\d+)"\)', cell["source"])):
            texts = [output["data"]["text/markdown"] for output in cell["outputs"] if "data" in output]
            shown |= dict(zip(asked, texts, strict=False))  # a table may come after them
            assert len(texts) >= len(asked)
    weighs_claims = {claim.chapter for claim in claims.load_claims().values()}
    assert bool(shown) == (int(path.stem[:2]) in weighs_claims)
    for claim_id, text in shown.items():
        assert text == claims.verdict(claim_id).data


def test_every_source_is_in_the_bibliography():
    keys = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    for claim in load_claims().values():
        assert set(claim.source) <= set(keys)
        assert claim.source


def test_a_chapter_is_parsed_once_however_many_claims_it_has(monkeypatch):
    parsed = []
    monkeypatch.setattr(pages, "read_notebook", lambda path: parsed.append(path.name) or read_notebook(path))
    pages._parsed.cache_clear()
    for claim in load_claims().values():
        evidence_problems(claim)
    ledger()
    assert len(parsed) == len(set(parsed)) > 1


def edit(root, change):
    path = root / "notebooks" / NOTEBOOK
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook["cells"]:
        change(cell)
    nbformat.write(notebook, path)


def test_removing_the_assertion_or_the_run_is_noticed(copy):
    entries = load_claims(copy)

    def drop_check(cell):
        if "C37-trace" in tags(cell):
            cell["source"] = "print('trust me')"

    edit(copy, drop_check)
    assert evidence_problems(entries["C37"], copy) == [
        "C37: 'draws of noise before the first denoising' is checked in none of its cells"
    ]

    def unrun(cell):
        if "C38-ratio" in tags(cell):
            cell["execution_count"] = None

    edit(copy, unrun)
    assert f"C38: {NOTEBOOK}#C38-ratio is not a cell that ran" in evidence_problems(entries["C38"], copy)

    def unrecorded(cell):
        cell["outputs"] = []

    edit(copy, lambda cell: unrecorded(cell) if cell["cell_type"] == "code" else None)
    assert any("was not recorded" in problem for problem in evidence_problems(entries["C36"], copy))


def test_evidence_that_does_not_exist_is_noticed():
    claim = Claim("C1", 1, "c", "holds", "t", [], ["tests/test_none.py::test_x", f"{NOTEBOOK}#nothing"], ["unmeasured"])
    assert len(evidence_problems(claim)) == 3


@pytest.mark.parametrize(
    "mark", ["@pytest.mark.slow", "@pytest.mark.browser", "@pytest.mark.skipif(True, reason='no')"]
)
def test_evidence_that_make_test_leaves_out_is_noticed(copy, mark):
    entry = load_claims(copy)["C4"]
    (name,) = [name for name in entry.evidence if "::" in name]
    path, _, test = name.partition("::")
    assert evidence_problems(entry, copy) == []
    source = (copy / path).read_text()
    (copy / path).write_text(source.replace(f"def {test}(", f"{mark}\ndef {test}("))
    assert evidence_problems(entry, copy) == [f"C4: {name} is a test that make test leaves out"]


@pytest.mark.parametrize("marks", ["pytest.mark.slow", "[pytest.mark.long, pytest.mark.browser]"])
def test_evidence_in_a_file_that_make_test_leaves_out_is_noticed(copy, marks):
    entry = load_claims(copy)["C4"]
    (name,) = [name for name in entry.evidence if "::" in name]
    path = copy / name.partition("::")[0]
    path.write_text(path.read_text() + "\n\npytestmark = pytest.mark.long\n")
    assert evidence_problems(entry, copy) == []
    path.write_text(path.read_text() + f"pytestmark = {marks}\n")
    assert evidence_problems(entry, copy) == [f"C4: {name} is a test that make test leaves out"]


def test_pages_that_are_out_of_date_are_named_and_written_only_when_asked(tmp_path, monkeypatch):
    pages = {"ledger.md": "# The ledger\n", "evidence.md": "# The tests\n", "results.md": "# The results\n"}
    for function, text in zip(("ledger", "evidence_tests", "results_page"), pages.values(), strict=True):
        monkeypatch.setattr(f"ddpm.companion.ledger.{function}", lambda text=text: text)
    monkeypatch.setattr("ddpm.companion.ledger.load_claims", dict)
    monkeypatch.setattr("ddpm.companion.ledger.ROOT", tmp_path)
    (tmp_path / "book").mkdir()
    main(check=False)
    assert {path.name: path.read_text() for path in (tmp_path / "book").iterdir()} == pages
    main(check=True)
    for name in pages:
        (tmp_path / "book" / name).write_text("old")
        with pytest.raises(SystemExit, match=f"^book/{name} is out of date: run python -m ddpm.companion.ledger$"):
            main(check=True)
        assert (tmp_path / "book" / name).read_text() == "old"
        main(check=False)
    (tmp_path / "book" / "results.md").unlink()
    with pytest.raises(SystemExit, match=r"book/results.md is out of date"):
        main(check=True)


def test_without_the_book_beside_the_package_one_line_says_what_is_missing(tmp_path):
    needs = "is not beside the package; the companion's claims and results need a checkout of the book$"
    for name, ask in (
        ("book/claims.yml", lambda: load_claims(tmp_path)),
        ("book/claims.yml", lambda: ledger(tmp_path)),
        ("book/results", lambda: results("samplers", tmp_path)),
        ("notebooks", lambda: results_page(tmp_path)),
        ("notebooks", lambda: evidence_problems(load_claims()["C38"], tmp_path)),
    ):
        with pytest.raises(FileNotFoundError, match=f"^{name} {needs}"):
            ask()
    with pytest.raises(FileNotFoundError, match="no_such_run.json"):
        results("no_such_run")


def test_an_illegal_claim_is_refused():
    entries = yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))
    (entry,) = [entry for entry in entries if entry["id"] == "C36"]
    with pytest.raises(ValueError, match="verdict of C36 is 'maybe'"):
        Claim(**{**entry, "verdict": "maybe"})
    claim = Claim(**{**entry, "measured": []})
    assert evidence_problems(claim) == ["C36: its cells check numbers, and it names none of them"]
    with pytest.raises(ValueError, match="C36 has no evidence"):
        Claim(**{**entry, "evidence": []})
