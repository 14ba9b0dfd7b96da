"""What a hand-in says of itself does no harm where it is written."""

import csv
import io

from ddpm.companion.marks import Marked, Result, report, table

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
