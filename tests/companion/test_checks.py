import json
import math

import pytest

from ddpm.companion import checks
from ddpm.companion.provenance import Parameters


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(checks, "MEASURED", {})
    yield
    checks.enforce(True)


def test_the_printed_line_does_not_depend_on_the_measurement(capsys):
    for measured in (0.97, 1.02):
        checks.check("ratio", measured, 1, 0.05)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second == "ratio: 1 within 0.05: holds"
    assert checks.MEASURED["ratio"].measured == 1.02


@pytest.mark.parametrize(
    ("measured", "claim"),
    [
        (1.06, {"reference": 1, "tolerance": 0.05}),
        (float("nan"), {"reference": 1, "tolerance": 0.05}),
        (0.4, {"at_least": 0.5}),
        (0.6, {"at_most": 0.5}),
        (float("nan"), {"at_most": 0.5}),
    ],
)
def test_a_number_outside_raises_and_is_not_recorded(measured, claim):
    with pytest.raises(AssertionError, match="x: measured"):
        checks.check("x", measured, **claim)
    assert checks.MEASURED == {}


def test_a_rival_stands_beside_what_was_measured_and_is_recorded(capsys):
    checks.check("far share", 0.9, at_least=0.8, rival={"uniform attention": 0.718, "none at all": 0})
    assert capsys.readouterr().out.splitlines() == [
        "far share: 0.9 (claimed: at least 0.8)",
        "  uniform attention: 0.718 (must not hold)",
        "  none at all: 0 (must not hold)",
    ]
    assert checks.MEASURED["far share"].rivals == {"uniform attention": 0.718, "none at all": 0}
    assert checks.MEASURED["far share"].against == "uniform attention: 0.718; none at all: 0"


@pytest.mark.parametrize("rival", [{"uniform attention": 0.8}, {"none at all": 0.0, "uniform attention": 1.0}])
def test_a_check_that_its_rival_passes_says_nothing_and_fails(rival):
    with pytest.raises(AssertionError, match="x: measured .* for the rival, uniform attention, too: claimed at least"):
        checks.check("x", 0.9, at_least=0.8, rival=rival)
    assert checks.MEASURED == {}


def test_a_rival_may_be_infinite_and_must_be_a_number():
    checks.check("x", 1, 1, 0.1, rival={"a walk that diverges": math.inf})
    assert checks.MEASURED["x"].against == "a walk that diverges: inf"
    with pytest.raises(ValueError, match="check 'y': the rival, a walk that diverges, is no number"):
        checks.check("y", 1, 1, 0.1, rival={"a walk that diverges": math.nan})


def test_a_check_without_a_rival_says_why(capsys):
    checks.check("x", 1, 1, 1e-9, no_rival="an identity")
    assert checks.MEASURED["x"].against == "an identity"
    with pytest.raises(ValueError, match="check 'x' has a rival and says why it has none"):
        checks.check("x", 1, 1, 0.1, rival={"nothing": 0}, no_rival="an identity")


def test_a_check_without_a_claim_is_refused():
    for claim in ({}, {"reference": 1}, {"tolerance": 1}, {"tolerance": 1, "at_least": 0}):
        with pytest.raises(ValueError, match="check 'x' needs either a reference with a tolerance, or bounds"):
            checks.check("x", 1, **claim)


@pytest.mark.parametrize("bound", [{"at_least": 100.0}, {"at_most": 1.0}, {"at_least": 0.0}])
def test_bounds_beside_a_reference_are_refused_and_not_ignored(bound):
    with pytest.raises(ValueError, match="check 'x' needs either a reference with a tolerance, or bounds"):
        checks.check("x", 5.0, 5.0, 1.0, **bound)
    assert checks.MEASURED == {}


def test_exact_things_are_exact():
    checks.check_exact("calls", [1, 2], [1, 2])
    checks.check_exact("count", 3, 3)
    checks.check_exact("yes", True, True)
    assert {name: (m.measured, m.claim) for name, m in checks.MEASURED.items()} == {"count": (3.0, "exactly 3")}
    with pytest.raises(AssertionError, match="claimed exactly 3"):
        checks.check_exact("count", 2, 3)


@pytest.mark.parametrize(
    ("measured", "claim", "words"),
    [
        (0.95, {"reference": 1, "tolerance": 0.05}, "1 within 0.05 dB"),
        (1.05, {"reference": 1, "tolerance": 0.05}, "1 within 0.05 dB"),
        (0.5, {"at_least": 0.5}, "at least 0.5 dB"),
        (0.5, {"at_most": 0.5}, "at most 0.5 dB"),
        (2, {"at_least": 1, "at_most": 3}, "at least 1, at most 3 dB"),
    ],
)
def test_a_number_on_the_bound_holds(measured, claim, words, capsys):
    checks.check("x", measured, **claim, unit="dB")
    assert capsys.readouterr().out == f"x: {words}: holds\n"
    assert checks.MEASURED["x"] == checks.Measurement("x", measured, words, "dB")


@pytest.mark.parametrize("measured", [0.5, 4])
def test_a_number_beyond_either_bound_is_refused(measured):
    with pytest.raises(AssertionError, match="claimed at least 1, at most 3"):
        checks.check("x", measured, at_least=1, at_most=3)


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_the_smoke_tier_alone_checks_nothing_and_says_so(preset, capsys):
    Parameters("smoke", "cpu", 0)
    checks.check("x", 9, 1, 0.1, rival={"none": 1})
    assert "not checked in this tier" in capsys.readouterr().out
    Parameters(preset, "cpu", 0)
    with pytest.raises(AssertionError):
        checks.check("x", 9, 1, 0.1)


def test_a_record_is_read_back_from_a_notebook(monkeypatch):
    shown = []
    monkeypatch.setattr(checks, "display", lambda data, raw: shown.append(data))
    checks.check("x", 1.5, at_least=1, unit="dB", rival={"nothing": 0})
    checks.record()
    output = {"output_type": "display_data", "data": json.loads(json.dumps(shown[0]))}
    notebook = {"cells": [{"outputs": []}, {"outputs": [output]}]}
    assert checks.read_record(notebook) == checks.MEASURED
    assert "| x | 1.5 dB | at least 1 dB | nothing: 0 |" in shown[0]["text/markdown"]
    assert checks.read_record({"cells": []}) == {}
    assert checks.read_gpu_memory(notebook) is None


def test_the_memory_of_a_gpu_is_recorded_too(monkeypatch):
    shown = []
    monkeypatch.setattr(checks, "display", lambda data, raw: shown.append(data))
    monkeypatch.setattr(checks.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(checks.torch.cuda, "max_memory_allocated", lambda: 3 * 2**20 + 5)
    checks.record()
    assert checks.read_gpu_memory({"cells": [{"outputs": [{"data": shown[0]}]}]}) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1.23456, "1.235"), (1234.5, "1,234"), (1e-9, "1.00e-9"), (0.001, "0.001"), (0.00099, "9.90e-4"),
        (999.96, "1,000"), (-999.4, "-999.4"), (99_999, "99,999"), (100_000, "1.00e5"), (-0.5, "-0.5"),
        (-math.inf, "-inf"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert checks.format_number(value) == text


@pytest.mark.parametrize(
    ("values", "message"), [(("big", "auto", 0), "preset is 'big'"), (("cpu", "auto", -1), "seed is -1")]
)
def test_illegal_parameters_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Parameters(*values)
