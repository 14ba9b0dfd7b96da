"""What a student's functions answer, in the program that a sandbox runs."""

import sys

import pytest

from ddpm.companion.answering import PRACTICALS, answers
from ddpm.companion.exercises.practicals import first_fault

SILENT = """
class Silent(Exception):
    def __str__(self):
        raise RuntimeError

def snr(alpha_bar):
    raise Silent
"""


def answer_of(source, name, calls):
    return dict(answers([(source, True)], {name: calls}, seed=0, seconds=10, own={}))[name]


@pytest.mark.parametrize("name", PRACTICALS)
def test_a_blank_practical_is_known_without_its_judge(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "ddpm.companion.exercises", None)  # an import of it fails
    blank = "\n".join(f'def {each}(*given):\n    """Write me."""\n    ...\n' for each in PRACTICALS[name])
    assert answer_of(blank, name, None) == "not written yet"
    assert answer_of(blank.replace("...", "return 1"), name, None).startswith("raises ModuleNotFoundError")


def test_an_exception_is_told_in_few_letters_even_one_that_cannot_say_why():
    def fails(error):
        raise error
        yield

    scope = {}
    exec(SILENT, scope)
    long = answer_of(f"def snr(alpha_bar):\n    raise ValueError({10_000 * 'a'!r})", "snr", [[0.5]])
    for said in (long[0], first_fault(fails(ValueError(10_000 * "a")), 0)):
        assert "raises ValueError: aaa" in said
        assert len(said) < 320
    assert answer_of(SILENT, "snr", [[0.5]]) == ["raises Silent: it does not say why"]
    assert first_fault(fails(scope["Silent"]()), 0) == "not yet. It raises Silent: it does not say why"
