"""What a hand-in says of itself does no harm where it is written."""

import csv
import io

import pytest

from ddpm.companion.marks import Marked, Result, check_weights, report, table, weights_of

CHAPTER = "01_generative_models.ipynb"


def test_a_table_holds_no_formula():
    formulas = ["=1+1.zip", "+1.zip", "-1.zip", "@SUM(A1).zip"]
    marked = [Marked(None, file, "", [Result(CHAPTER, "scores", 1, "right")], [file], []) for file in formulas]
    rows = list(csv.DictReader(io.StringIO(table(marked, {CHAPTER: ["scores"]}))))
    assert {row["file"] for row in rows} == {row["remarks"] for row in rows} == {f"'{file}" for file in formulas}
    harmless = table([Marked("ada", "ada.zip", "", [], ["a-b=c"], [])], {})
    assert list(csv.reader(io.StringIO(harmless)))[1] == ["ada", "ada.zip", "0", "0", "a-b=c"]


def test_what_a_hand_in_says_stays_in_its_cell_of_a_report():
    said = "a ` | ![](http://example.org/a.png)"
    written = report(Marked("ada", "`b`.zip", "", [Result(CHAPTER, "scores", 0, said)], [], []))
    assert "are right, in `'b'.zip`." in written
    assert written.splitlines()[-1] == "| 01 | scores | 0 | `a ' / ![](http://example.org/a.png)` |"


def test_a_report_says_what_its_student_should_know_and_not_what_a_teacher_should_look_at():
    one = Marked("ada", "ada.zip", "", [Result(CHAPTER, "scores", 0, "not handed in")], ["copied"], ["not read: `a|b`"])
    assert "\n\n- `not read: 'a/b'`\n\n| chapter |" in report(one)
    assert "copied" not in report(one)
    assert table([one], {CHAPTER: ["scores"]}).splitlines()[1].endswith(",not read: `a|b`; copied")


ASKED = {CHAPTER: ["scores", "divergence"], "00_from_nothing.ipynb": ["grade_model"]}


def test_an_exercise_that_weighs_more_counts_more_in_the_table_and_in_the_report():
    marks = {"scores": 1, "divergence": 0, "empty_page": 1}
    one = Marked("ada", "ada.zip", "", [Result(CHAPTER, name, mark, "") for name, mark in marks.items()], [], [])
    head, row = csv.reader(io.StringIO(table([one], ASKED, {"empty_page": 5.0, "divergence": 1.5})))
    exercises = ["scores", "divergence (of 1.5)", "empty_page (of 5)"]
    assert head == ["student_id", "file", *exercises, "score", "max_score", "remarks"]
    assert row == ["ada", "ada.zip", "1", "0", "5", "6", "7.5", ""]
    written = report(one, {"empty_page": 5.0, "divergence": 1.5})
    assert "2 of 3 exercises are right, 6 of 7.5 points, in `ada.zip`." in written
    assert "| 01 | empty_page (of 5) | 5 |  |" in written
    assert table([one], ASKED, {}) == table([one], ASKED)
    assert table([one], ASKED).splitlines()[1] == "ada,ada.zip,1,0,1,2,3,"
    assert "2 of 3 exercises are right, in `ada.zip`." in report(one)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["grade_model=5"], "^weight is given for 'grade_model'; legal here are scores, divergence, empty_page$"),
        (["=5"], "^weight is given for ''; legal here are"),
        (["scores=0"], "^weight of scores is 0; it must be finite and above 0$"),
        (["scores=-1"], "^weight of scores is -1;"),
        (["scores=nan"], "^weight of scores is nan;"),
        (["scores=inf"], "^weight of scores is inf;"),
        (["scores=1", "scores"], "^weight is 'scores'; it must be NAME=NUMBER, such as empty_page=5$"),
        (["scores=1=2"], "^weight is 'scores=1=2';"),
    ],
)
def test_a_weight_that_is_not_legal_is_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights_of(pairs), ASKED)
    check_weights(weights_of(["scores=2", "empty_page=.5"]), ASKED)
