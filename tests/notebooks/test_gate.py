"""The gate must have something to compare: committed outputs, and few cells it passes over."""

import ast
import base64
import configparser
import io
import json
import math
import re
from dataclasses import asdict

import nbformat
import pytest
import torch
from nbval.plugin import find_comment_markers, find_metadata_tags
from PIL import Image

from ddpm.companion import checks
from ddpm.companion.checks import read_record
from ddpm.companion.notebook import read_notebook
from tests.cells import cells_of, tags
from tests.checkout import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORED_AT_MOST = 8
#: Checks that have no rival and say no reason why, by chapter; the numbers may only fall.
WITHOUT_RIVAL: dict[str, int] = {}
#: The arguments of `check` that say what is claimed, in its order.
CLAIMED = ("reference", "tolerance", "at_least", "at_most")


def passes_over(cell):
    """What has nbval, or the runner, pass over a cell or its errors, in ways that nobody counts."""
    by_tag = [told for told in find_metadata_tags(cell["metadata"]) if told != ("check", False)]
    return [*by_tag, *find_comment_markers(cell["source"]), *({"skip-execution"} & set(tags(cell)))]


def has_text(cell):
    return any(o["output_type"] == "stream" or "text/plain" in o.get("data", {}) for o in cell["outputs"])


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_there_are_chapters():
    assert NOTEBOOKS


def test_every_cell_has_run_in_order(notebook):
    counts = [cell["execution_count"] for cell in cells_of(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_come_from_a_commit(notebook):
    text = json.dumps([cell["outputs"] for cell in cells_of(notebook, "code")])
    assert "-dirty" not in text, "commit the sources first, then execute the chapter"


def test_enough_cells_are_compared_and_few_ignored(notebook):
    cells = cells_of(notebook, "code")
    ignored = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    compared = [cell for cell in cells if has_text(cell) and cell not in ignored]
    assert len(compared) >= 8
    assert len(ignored) <= IGNORED_AT_MOST
    assert not [cell for cell in ignored if re.search(r"\bcheck(_exact)?\(", cell["source"])]
    assert not [cell for cell in cells if passes_over(cell)]


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        *((f"{comment}\n1 / 0", "parameters") for comment in ("# NBVAL_SKIP", "#NBVAL_IGNORE_OUTPUT")),
        *(("x = 1\n    # NBVAL_RAISES_EXCEPTION", tag) for tag in ("parameters", "nbval-ignore-output")),
        *(("1 / 0", tag) for tag in ("nbval-skip", "nbval-raises-exception", "raises-exception", "skip-execution")),
    ],
)
def test_no_cell_is_passed_over_by_a_comment_or_another_tag(source, tag):
    assert passes_over(nbformat.v4.new_code_cell(source, metadata={"tags": [tag]}))
    assert not passes_over(nbformat.v4.new_code_cell("1 / 2  # by halves", metadata={"tags": ["nbval-ignore-output"]}))


def test_no_output_is_an_error_or_stderr(notebook):
    for cell in cells_of(notebook, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"


def test_a_check_has_a_rival_or_says_why_it_has_none(notebook):
    measured = read_record(read_notebook(notebook)).values()
    bare = [m.name for m in measured if not m.claim.startswith("exactly") and not m.against]
    assert len(bare) == WITHOUT_RIVAL.get(notebook.stem, 0), bare


def claims_of(source):
    """The name of each check in a cell with what it claims: by numbers that are written there, else None."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for call in (
        call for call in calls if ast.unparse(call.func) == "check" and isinstance(call.args[0], ast.Constant)
    ):
        name = call.args[0].value
        given = dict(zip(CLAIMED, call.args[2:], strict=False)) | {each.arg: each.value for each in call.keywords}
        try:
            numbers = [ast.literal_eval(given[each]) if each in given else None for each in CLAIMED]
            unit = ast.literal_eval(given["unit"]) if "unit" in given else ""
        except ValueError:
            yield name, None
        else:
            yield name, checks._bounds(name, *numbers, f" {unit}" if unit else "")[2]


def unmeasured(notebook):
    """The checks that a notebook's record does not hold, or holds with another claim."""
    measured = read_record(notebook)
    claimed = [
        claim for cell in notebook["cells"] if cell["cell_type"] == "code" for claim in claims_of(cell["source"])
    ]
    return [name for name, claim in claimed if name not in measured or claim not in (None, measured[name].claim)]


def test_every_check_is_in_the_record_that_stands_in_the_chapter(notebook):
    others = unmeasured(read_notebook(notebook))
    assert not others, f"{others} have changed since {notebook.name} was executed: run the chapter again"


@pytest.mark.parametrize("change", [('"share"', '"another"'), ("0.1", "0.2"), ("at_most=3", "at_most=4")])
def test_a_check_that_has_changed_since_the_chapter_ran_is_noticed(change):
    source = 'check("share", x, 0.4, 0.1, rival={"none": y})\ncheck("calls", x, at_most=3)\ncheck("free", x, z, 1)'
    cell = nbformat.v4.new_code_cell(source)
    record = [
        asdict(checks.Measurement(name, 0.4, claim))
        for name, claim in (("share", "0.4 within 0.1"), ("calls", "at most 3"), ("free", "5 within 1"))
    ]
    cell["outputs"] = [nbformat.v4.new_output("display_data", data={checks.MIME: record})]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert unmeasured(notebook) == []
    cell["source"] = source.replace(*change)
    assert len(unmeasured(notebook)) == 1


def test_it_can_be_parametrised_and_highlighted(notebook):
    metadata = nbformat.read(notebook, as_version=4)["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert metadata["language_info"]["name"] == "python"
    (parameters,) = [cell for cell in cells_of(notebook, "code") if "parameters" in tags(cell)]
    assert parameters["source"].splitlines() == ['preset = "cpu"', 'device = "auto"', "seed = 0"]


def test_what_is_folded_in_the_book_is_folded_in_jupyterlab(notebook):
    for cell in cells_of(notebook, "code"):
        folded = cell["metadata"].get("jupyter", {})
        for tag, key in (("hide-input", "source_hidden"), ("hide-output", "outputs_hidden")):
            assert (tag in tags(cell)) == folded.get(key, False), (tags(cell), key)


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "book" / "solutions.ipynb"], ids=lambda path: path.stem)
def test_the_text_has_nothing_that_only_the_book_renders(path):
    for cell in cells_of(path, "markdown"):
        assert not re.search(r"^(`{3,}|:{3,})\{|\{[\w:-]+\}`|^\([\w-]+\)=$", cell["source"], re.MULTILINE)
        for fold in re.findall(r"<details.*?</details>", cell["source"], re.DOTALL):
            assert re.match(r"<details.*</summary>\n\n.+\n\n</details>", fold, re.DOTALL)  # else its text is HTML


def test_every_figure_has_a_caption_and_alt_text(notebook):
    cells = cells_of(notebook, "code")
    figures = [c for c in cells if any("image/png" in o.get("data", {}) for o in c["outputs"])]
    assert 1 <= len(figures) <= 8
    for cell in figures:
        assert len(cell["metadata"]["mystnb"]["image"]["alt"]) > 40
        assert len(cell["metadata"]["mystnb"]["figure"]["caption"]) > 40
        (output,) = [o for o in cell["outputs"] if "image/png" in o.get("data", {})]
        picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
        assert picture.mode == "P", "bring the figures from an execution by ddpm chapters, which makes them small"
        width = output["metadata"]["image/png"]["width"]
        assert width <= 672, f"{width} pixels are more than a page's column"
        assert abs(picture.width - 2 * width) <= 1  # sharp where a screen is
    assert not [c for c in cells if any("image/svg+xml" in o.get("data", {}) for o in c["outputs"])]


def test_sanitising_leaves_numbers_alone():
    patterns = re.findall(r"^regex: (.+)$", (ROOT / "tests/notebooks/sanitize.cfg").read_text(), re.MULTILINE)
    assert patterns
    for number in ("0.123456789", "-17", "1e-12", "1,234,567", "3.14159", "0.0000001"):
        for text in (
            number,
            f"share: {number}",
            f"{number} (claimed: 3)",
            f"share: {number} of 4 (claimed: 3)",
            f"p: {number} (held)",
        ):
            assert not any(re.search(pattern, text) for pattern in patterns)


def test_sanitising_takes_out_what_was_measured_and_not_what_is_claimed(monkeypatch, capsys):
    def sanitised(measured, *claim):
        monkeypatch.setattr(checks, "MEASURED", {})
        checks.check("share", measured, *claim, rival={"none": -1e9, "a walk that diverges": math.inf})
        text = capsys.readouterr().out
        config = configparser.RawConfigParser()
        config.read(ROOT / "tests" / "notebooks" / "sanitize.cfg")
        for section in config.sections():
            text = re.sub(config[section]["regex"], config[section]["replace"], text)
        return text

    assert sanitised(0.41234, 0.4, 0.1) == sanitised(0.38, 0.4, 0.1) != sanitised(0.41234, 0.4, 0.2)
    assert len({sanitised(value, 0, 1e6) for value in (2.5e-7, -3, 1234.5, 9.9e5)}) == 1


@pytest.mark.parametrize("guess", ["8", "(8,)", "(8, 8, 8)"])
def test_a_guess_that_is_not_two_numbers_is_refused_where_it_is_written(guess):
    (cell,) = [
        cell for cell in cells_of(ROOT / "notebooks/01_generative_models.ipynb") if "my_guess = None" in cell["source"]
    ]
    with pytest.raises(AssertionError, match="two numbers, such as 8, 8"):
        exec(cell["source"].replace("None", guess, 1), {"torch": torch})
    for right in ("None", "8, 8", "[8, 2.5]"):
        exec(cell["source"].replace("None", right, 1), {"torch": torch})
