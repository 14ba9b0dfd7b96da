"""What is cited by author and year has an entry in the bibliography, and every entry is cited."""

import re
import unicodedata

import pytest
from pybtex.database import parse_file, parse_string

from tests.cells import cells_of
from tests.checkout import ROOT, script

BIBLIOGRAPHY = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
EXTENSION = script("book/_ext/citations.py")
NAME, CITATION = EXTENSION.NAME, EXTENSION.CITATION


def folded(text):
    """A name without accents, LaTeX's or Unicode's, and without braces."""
    text = re.sub(r"""\\[L]|\\["'`^~]""", lambda match: "L" if match[0] == r"\L" else "", text)
    return unicodedata.normalize("NFKD", re.sub(r"[{}]", "", text)).encode("ascii", "ignore").decode()


def entries():
    """Of each entry its key, its authors as (initial, surname), and its year."""
    for key, body in re.findall(r"@\w+\{(\w+),\n(.*?)\n\}", BIBLIOGRAPHY, re.DOTALL):
        names = re.search(r"author = \{(.*)\}", body)[1].split(" and ")
        authors = [
            (given.strip()[:1], folded(surname)) for surname, _, given in (name.partition(",") for name in names)
        ]
        first, _, given = names[0].partition(",")
        assert given or first.startswith("{"), f"{key}: write its authors as Surname, Given and Surname, Given"
        yield key, authors, re.search(r"year = \{(\d{4})\}", body)[1]


ENTRIES = list(entries())


def fits(citation, authors, year):
    """Whether an entry's authors and year are those of a citation, which names all, or the first of three or more."""
    surnames = [surname for _, surname in authors]
    initial = citation["initial"] or authors[0][0]
    if citation["last"]:
        named = [citation["first"], *re.findall(NAME, citation["more"]), citation["last"]]
        right = [folded(name) for name in named] == surnames
    else:
        right = folded(citation["first"]) == surnames[0] and (len(surnames) > 2 or surnames[-1] == "others")
    return right and year == citation["year"] and initial == authors[0][0]


def texts():
    """Everything that is written in this project, by the place where it stands."""
    pages = [*ROOT.glob("book/*.md"), *ROOT.glob("*.md"), ROOT / "book" / "claims.yml"]
    code = [*ROOT.glob("ddpm/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    for path in sorted([*pages, *code]):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        for cell in cells_of(path):
            yield f"{path.stem}, {cell['id']}", cell["source"]


TEXTS = {place: re.sub(r"\s*\n[\s#]*", " ", text) for place, text in texts()}


@pytest.mark.parametrize(
    "text",
    [
        "Lu et al. (2022)", "(Salimans & Ho 2022, appendix D)", "Song, Meng and Ermon (2021)", "Y. Song et al. 2021",
        "Loaiza-Ganem & Cunningham 2019", "Kynkäänniemi et al. 2019", "Roberts, Gelman & Gilks 1997",
    ],
)  # fmt: skip
def test_a_citation_is_found_with_its_entry(text):
    (citation,) = CITATION.finditer(text)
    assert [key for key, *entry in ENTRIES if fits(citation, *entry)]


@pytest.mark.parametrize(
    "text",
    ["Lu et al. (2021)", "Salimans et al. 2022", "Ho & Salimans 2021", "Song and Meng (2021)", "Z. Song et al. 2021"],
)
def test_a_citation_of_other_authors_or_another_year_has_none(text):
    (citation,) = CITATION.finditer(text)
    assert not [key for key, *entry in ENTRIES if fits(citation, *entry)]


def test_every_citation_has_its_entry_and_no_second_one():
    found, wrong = 0, []
    for place, text in TEXTS.items():
        for citation in CITATION.finditer(text):
            found += 1
            keys = [key for key, *entry in ENTRIES if fits(citation, *entry)]
            if len(keys) != 1:
                wrong.append(f"{place}: {citation[0]} fits {', '.join(keys) or 'none'}")
    assert found > 100
    assert wrong == []


def test_every_entry_is_cited():
    everything = " ".join(TEXTS.values())
    citations = list(CITATION.finditer(everything))
    for key, *entry in ENTRIES:
        assert key in everything or any(fits(citation, *entry) for citation in citations), key


def test_keys_are_authors_years_and_words():
    assert len({key for key, *_ in ENTRIES}) == len(ENTRIES) == BIBLIOGRAPHY.count("@")
    for key, authors, year in ENTRIES:
        assert re.fullmatch(re.sub(r"\W", "", authors[0][1]).lower() + year + "[a-z]+", key), key


@pytest.fixture(scope="module")
def pieces():
    """A text as the build cuts it: pieces, each with the key of the entry that it leads to."""
    entries = parse_file(ROOT / "book" / "references.bib").entries
    return lambda text: [piece for piece in EXTENSION.pieces(text, entries) if piece[0]]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("So Ho et al. (2020) do.", [("So ", None), ("Ho et al. (2020)", "ho2020denoising"), (" do.", None)]),
        ("(Salimans & Ho\n2022)", [("(", None), ("Salimans & Ho\n2022", "salimans2022progressive"), (")", None)]),
        ("Ho et al. (2020, b)", [("Ho et al.", "ho2020denoising"), (" (2020, b)", None)]),
        ("Kynkäänniemi et al. 2019", [("Kynkäänniemi et al. 2019", "kynkaanniemi2019improved")]),
        ("Y. Song et al. 2021", [("Y. Song et al. 2021", "song2021score")]),
        ("Song et al. 2021", [("Song et al. 2021", None)]),  # of two papers
        ("Salimans et al. 2022", [("Salimans et al. 2022", None)]),
    ],
)
def test_a_citation_leads_to_its_entry_where_there_is_one(text, right, pieces):
    assert pieces(text) == right


@pytest.mark.parametrize(
    "entry",
    [
        "@misc{a, author = {{OpenAI}}, title = {A}, year = {2023}}",
        "@book{b, editor = {Knuth, Donald}, title = {B}, year = {2023}}",
        "@misc{c, author = {Ho, Jonathan and Jain, Ajay and Abbeel, Pieter}, title = {C}}",
    ],
    ids=["a company", "an editor", "no year"],
)
@pytest.mark.parametrize("text", ["Ho et al. (2023)", "J. Ho et al. (2023)", "OpenAI and Ho (2023)"])
def test_an_entry_without_a_first_name_an_author_or_a_year_stops_no_build(entry, text):
    assert list(EXTENSION.pieces(text, parse_string(entry, "bibtex").entries)) == [(text, None)]


def test_a_company_of_which_no_first_name_is_known_is_led_to():
    text, report = "OpenAI & Kaggle 2023", "@misc{a, author = {{OpenAI} and {Kaggle}}, title = {A}, year = {2023}}"
    assert (text, "a") in EXTENSION.pieces(text, parse_string(report, "bibtex").entries)


def test_the_citations_of_the_book_lead_to_the_entries_that_fit(pieces):
    for text in TEXTS.values():
        keys = [key for _, key in pieces(text) if key]
        fitting = [[key for key, *entry in ENTRIES if fits(each, *entry)] for each in CITATION.finditer(text)]
        assert keys == [found[0] for found in fitting if len(found) == 1]
