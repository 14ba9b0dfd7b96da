"""One symbol, one meaning: the glossary's table of symbols against the mathematics of the chapters."""

import re

import pytest

from tests.cells import cells_of
from tests.checkout import ROOT

CHAPTERS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
GREEK = re.compile(
    r"\\(alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|phi|varphi"
    r"|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)(?![A-Za-z])"
)
#: What may stand under a bar, a tilde or a hat.
UNDER = {"bar": {r"\alpha"}, "tilde": {r"\sigma"}, "hat": {"x", "y", "u", "v", r"\varepsilon"}}


def mathematics(text):
    """All formulas of a Markdown text, one after the other."""
    return " ".join(re.findall(r"\$\$.+?\$\$|\$[^$\n]+?\$", text, re.DOTALL))


def of_chapter(path):
    return " ".join(mathematics(cell["source"]) for cell in cells_of(path, "markdown"))


def greek(formulas):
    return set(GREEK.findall(formulas))


def table():
    """The first column of the table of symbols."""
    lines = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8").partition("## Symbols")[2].partition("\n## ")[0]
    return [line.split("|")[1] for line in lines.splitlines() if line.startswith("| $")]


def test_every_greek_letter_of_a_chapter_is_in_the_table_and_the_other_way_round():
    used = set().union(*(greek(of_chapter(path)) for path in CHAPTERS))
    assert used == greek(" ".join(table()))


def test_a_symbol_stands_in_one_row():
    symbols = [symbol.strip() for cell in table() for symbol in re.split(r",(?![^{]*})", cell.replace("$", ""))]
    assert len(symbols) == len(set(symbols)) > 25


def test_the_words_below_the_symbols_are_sorted():
    words = re.findall(r"(?m)^## (.+)$", (ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
    assert words[0] == "Symbols"
    assert words[1:] == sorted(words[1:], key=str.lower)
    assert len(words) > 30


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_bars_tildes_and_hats_have_one_meaning_each(path):
    formulas = of_chapter(path)
    for mark, legal in UNDER.items():
        found = re.findall(rf"\\{mark}(?![A-Za-z])\s*{{?\s*(\\?[A-Za-z]+)", formulas)
        assert {letter if letter.startswith("\\") else letter[0] for letter in found} <= legal, mark
