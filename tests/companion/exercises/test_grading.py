"""Exercises must not be fooled: no wrong answer is called right, and most get the hint that is theirs."""

import re
from collections import Counter
from itertools import combinations
from random import Random

import pytest
import torch

from ddpm.companion import exercises
from ddpm.companion.answering import PRACTICALS, answer_of
from ddpm.companion.exercises import EXERCISES, JUDGES, Exercise, grade, mark
from ddpm.companion.exercises.grading import own_numbers
from ddpm.companion.marks import TITLES
from ddpm.diffusion import bound_weights
from ddpm.schedule import linear
from tests.cells import cells_of, tags
from tests.checkout import ROOT
from tests.companion.exercises.wrong_answers import WRONG
from tests.companion.test_marking import SOLUTIONS

NOTEBOOKS = ROOT / "notebooks"
#: The chapters that ask for more than functions of numbers.
WITH_A_PRACTICAL = ("00", "04", "05", "06")
CASES = [
    pytest.param(name, index, wrong, hint, id=f"{name}-{index}")
    for name, answers in WRONG.items()
    for index, (wrong, hint) in enumerate(answers)
]


def test_as_many_slips_are_known_as_instructors_are_told():
    page = " ".join((ROOT / "book" / "instructors.md").read_text(encoding="utf-8").split())
    told = {int(number) for number in re.findall(r"more than (\d+) (?:usual )?slips", page)}
    assert len(re.findall(r"more than \d+ (?:usual )?slips", page)) == 2
    assert len(told) == 1
    assert 0 < sum(len(exercise.slips) for exercise in EXERCISES.values()) - told.pop() < 20


@pytest.mark.parametrize("seed", [0, 1, 17])
@pytest.mark.parametrize(("name", "index", "wrong", "hint"), CASES)
def test_a_wrong_answer_is_never_right_and_a_known_one_gets_its_hint(name, index, wrong, hint, seed):
    said = mark(EXERCISES[name], wrong, seed)
    assert said.startswith("not yet")
    assert (hint or "none of the usual slips") in said


def test_there_are_enough_wrong_answers_and_most_have_a_hint():
    assert WRONG.keys() == EXERCISES.keys()
    hints = Counter(hint is not None for answers in WRONG.values() for _, hint in answers)
    assert sum(hints.values()) >= 6 * 30
    assert hints[True] >= 0.6 * sum(hints.values())


def test_an_honest_student_solves_every_exercise():
    assert SOLUTIONS.keys() == EXERCISES.keys(), "its right answer belongs into SOLUTIONS of test_marking.py"


@pytest.mark.parametrize("name", EXERCISES)
def test_no_slip_is_right_or_another_slip_at_any_points(name):
    exercise = EXERCISES[name]
    functions = [exercise.right, *exercise.slips.values()]
    for seed in range(100):
        points = exercise.points(Random(seed))
        answers = [torch.tensor([float(function(*point)) for point in points]) for function in functions]
        for one, other in combinations(answers, 2):
            assert not torch.allclose(one, other, rtol=2e-4, atol=1e-8), (seed, points)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_slip_has_a_wrong_answer_that_gets_its_hint(name):
    said = [mark(EXERCISES[name], wrong, 0) for wrong, _ in WRONG[name]]
    missing = [hint for hint in EXERCISES[name].slips if f"not yet. {hint}" not in said]
    assert not missing


@pytest.mark.parametrize("t", [2, 350, 1000])
def test_the_weight_of_the_noise_is_the_bounds(t):
    schedule = linear()
    before, after = schedule.alpha_bar[t - 1 : t + 1].tolist()
    in_mean = bound_weights(schedule, "eps")[t].item() / 1000  # which averages over the times, where the bound sums
    assert EXERCISES["weight_of_noise"].right(1 - after / before, after) == pytest.approx(in_mean)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_is_right_in_any_kind_of_number(name):
    right = EXERCISES[name].right
    for seed in range(20):
        assert mark(EXERCISES[name], right, seed) == "right"
        assert mark(EXERCISES[name], lambda *point: torch.tensor(right(*point)), seed) == "right"


def half(x):
    return x / 2


HALVES = Exercise(half, lambda random: [(random.uniform(1, 2),) for _ in range(3)], {"It doubles.": lambda x: 2 * x})


def test_what_a_student_is_told(monkeypatch, capsys):
    monkeypatch.setattr(exercises, "EXERCISES", {"half": HALVES})

    def said(body):
        own = {}
        exec(f"def half(x):\n    {body}", own)
        grade(own["half"])
        return capsys.readouterr().out.removeprefix("exercise, half: ").strip()

    assert said("return x / 2") == "right"
    assert said("...  # write me") == "not written yet"
    assert said("return 2 * x") == "not yet. It doubles."
    assert re.fullmatch(r"not yet, and none of .* slips: half\(1\.\d+\) is 3, which is too large", said("return 3"))
    assert re.fullmatch(r"not yet, and none of .* slips: half\(1\.\d+\) is 0, which is too small", said("return 0"))
    assert said("return x / 0").startswith("not yet. half(1.84442) raises ZeroDivisionError")
    assert said("return [x]") == "not yet. half(1.84442) is a list, and should be one number."
    assert "is nan, and should be a finite number" in said("return float('nan')")


@pytest.mark.parametrize("body", ["...", "pass", "return", '"""Half of x."""\n    ...  # write me'])
def test_a_blank_is_not_written_yet(body):
    assert mark(HALVES, written(body), 0) == "not written yet"


@pytest.mark.parametrize("body", ["x / 2", "half = x / 2", "if x > 9:\n        return x / 2", "print(x / 2)"])
def test_a_function_that_returns_nothing_is_asked_for_its_return(body):
    nothing = "returns nothing: is there a `return` on every way through it?"
    assert mark(HALVES, written(body), 0) == f"not yet. half(1.84442) {nothing}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.ones(2), "is a tensor of shape (2,), and should be one number."),
        (torch.ones(1, 3).numpy(), "is an array of shape (1, 3), and should be one number."),
        ((1.0, 2.0), "is a tuple, and should be one number."),
        ("0.5", "is a str, and should be one number."),
        (..., "is of type ellipsis, and should be one number."),
        (torch.Tensor, f"is of type {type(torch.Tensor).__name__}, and should be one number."),
        (1j, "is 1j, and should be a finite number."),
        (torch.tensor(torch.inf), "is inf, and should be a finite number."),
        (10**400, "raises OverflowError: int too large to convert to float"),
    ],
)
def test_what_is_no_number_is_described(answer, said):
    assert mark(HALVES, lambda x: answer, 0) == f"not yet. half(1.84442) {said}"


def test_what_raises_when_it_is_described_is_no_number_either():
    class Odd:
        @property
        def shape(self):
            raise ValueError

        def __float__(self):
            return float("nan")

        __str__ = shape.fget

    assert answer_of(Odd, ()) == "is of type Odd, and should be one number."


def test_what_is_one_number_may_be_a_tensor_or_a_bool():
    assert answer_of(lambda: torch.ones(1, 1), ()) == 1
    assert answer_of(lambda: True, ()) == 1


def written(body):
    functions = {}
    exec(f"def half(x):\n    {body}", functions)
    return functions["half"]


def test_a_function_without_an_exercise_is_named():
    with pytest.raises(ValueError, match="function is 'half'; legal are divergence, "):
        grade(half)
    with pytest.raises(ValueError, match=r"function is 0\.5; legal are"):
        grade(0.5)


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("0*.ipynb")), ids=lambda path: path.stem)
def test_a_chapter_has_blanks_for_its_exercises(notebook):
    cells = cells_of(notebook)
    (blanks,) = [cell["source"] for cell in cells if "exercises" in tags(cell)]
    functions = re.findall(r'^def (\w+)\(.*\):\n    """[^"]+"""\n    \.\.\.  # write me$', blanks, re.MULTILINE)
    text = next(cell["source"] for cell in cells if cell["source"].startswith("## Exercises"))
    assert '<details class="box"><summary>Hints</summary>\n\n' in text
    assert len(functions) == blanks.count("def ") >= 2
    assert "    return" not in blanks
    of_practicals = [
        name
        for grading, names in PRACTICALS.items()
        if f"\n{grading}({', '.join(names)}, seed=seed)" in blanks
        for name in names
    ]
    of_numbers = [name for name in functions if name not in of_practicals]
    assert set(of_practicals) <= set(functions)
    assert [f"grade({name})" for name in of_numbers] == re.findall(r"^grade\(\w+\)$", blanks, re.MULTILINE)
    assert set(of_numbers) <= EXERCISES.keys()
    assert bool(of_practicals) == (notebook.name[:2] in WITH_A_PRACTICAL)


def test_a_practical_is_judged_named_and_told_by_its_grading():
    assert JUDGES.keys() == PRACTICALS.keys() == TITLES.keys()
    assert not EXERCISES.keys() & {*TITLES.values(), *(name for names in PRACTICALS.values() for name in names)}


def test_no_chapter_holds_the_code_of_a_solution():
    """Chapter 0 and the practicals are left out: these ask for the chapter's own lines."""
    solutions = cells_of(ROOT / "book" / "solutions.ipynb")
    graded = [cell["source"] for cell in solutions if re.search(r"^grade\(", cell["source"], re.MULTILINE)]
    answers = [re.search(r"^    return (.+)$", source, re.MULTILINE)[1] for source in graded]
    assert len(answers) == len(EXERCISES)
    code = "".join(
        cell["source"] for notebook in sorted(NOTEBOOKS.glob("0[1-9]*.ipynb")) for cell in cells_of(notebook, "code")
    )
    telling = [answer for answer in answers if answer not in ("count", "pixels**2")]  # words of any counting
    assert not [answer for answer in telling if answer in code]


def test_the_page_of_solutions_solves_every_exercise():
    solutions = cells_of(ROOT / "book" / "solutions.ipynb", "code")
    printed = "".join(output["text"] for cell in solutions for output in cell["outputs"] if "text" in output)
    marks = dict(re.findall(r"^exercise, (.+?): (.+)$", printed, re.MULTILINE))
    assert EXERCISES.keys() <= marks.keys()
    assert len(marks) == len(EXERCISES) + len(PRACTICALS)
    assert all(said.startswith("right") for said in marks.values())


SEEDS = range(100)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_students_own_copy_can_be_solved_and_not_by_a_slip_nor_by_another_copys_answer(name):
    exercise = EXERCISES[name]
    for seed in SEEDS:
        own = own_numbers(exercise, seed)
        assert mark(exercise, without(exercise, own, exercise.right), seed, own) == "right", seed
        for hint, slip in exercise.slips.items():
            said = mark(exercise, without(exercise, own, slip), seed, own)
            assert said.startswith("not yet"), (seed, hint)
        other = own_numbers(exercise, seed + 1)
        if other != own:
            assert mark(exercise, without(exercise, other, exercise.right), seed, own).startswith("not yet"), seed


def without(exercise, own, function):
    """A function of all arguments as one of those that a copy does not fix."""
    names = exercise.arguments

    def shorter(*values):
        given = iter(values)
        return function(*(own[name] if name in own else next(given) for name in names))

    return shorter


def test_most_exercises_have_a_number_of_each_copys_own_and_these_differ():
    with_own = [exercise for exercise in EXERCISES.values() if exercise.own is not None]
    assert len(with_own) >= 0.7 * len(EXERCISES)
    for exercise in with_own:
        assert exercise.own in exercise.arguments
        assert len({own_numbers(exercise, seed)[exercise.own] for seed in SEEDS}) > 15
