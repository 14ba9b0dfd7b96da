"""The list of mutants keeps up with the package; which test notices each, `python -m tests.mutants` says."""

import ast

from tests.checkout import ROOT
from tests.mutants import MUTANTS


def test_every_mutant_changes_one_place_of_a_line_and_is_python():
    sources = {mutant.file: (ROOT / "ddpm" / mutant.file).read_text(encoding="utf-8") for mutant in MUTANTS}
    trees = {file: ast.dump(ast.parse(source)) for file, source in sources.items()}
    for file, right, wrong, broken in MUTANTS:
        assert "\n" not in right + wrong, (file, right)
        assert sources[file].count(right) == 1, (file, right)
        assert ast.dump(ast.parse(sources[file].replace(right, wrong))) != trees[file], (file, right)
        assert broken, (file, right)


def test_no_mutant_stands_twice_in_the_list():
    assert len({mutant[:3] for mutant in MUTANTS}) == len(MUTANTS)


def test_the_list_is_as_long_as_is_said():
    assert "lists more than five hundred changes" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert 500 < len(MUTANTS) < 600
