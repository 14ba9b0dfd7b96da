"""Training and sampling compute, bit for bit, what they computed when `tests/bits.json` was written."""

import json
import os
import subprocess
import sys

import pytest

from tests import bits as of_bits
from tests.bits import ENVIRONMENT, MODELS, TRAININGS, WRITTEN
from tests.checkout import ROOT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def both():
    """What is computed here, and what was written."""
    written = json.loads(WRITTEN.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "tests.bits"], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    computed = json.loads(done.stdout)
    release = computed["torch"].partition("+")[0]
    assert release == written["torch"].partition("+")[0], "another torch: write tests/bits.json again, see CONTRIBUTING"
    return computed, written


@pytest.fixture(scope="module")
def bits(both):
    """What is computed with the kernels of this processor, and what was written of them."""
    computed, written = both
    ((kernels, own),) = computed["kernels"].items()
    if kernels not in written["kernels"]:
        pytest.skip(f"torch {computed['torch']} has kernels here, {kernels}, of which nothing was written")
    return own, written["kernels"][kernels]


@pytest.mark.parametrize("kind", TRAININGS)
def test_five_steps_leave_the_same_record_on_every_processor(both, kind):
    computed, written = both
    assert computed["records"][kind] == written["records"][kind]


@pytest.mark.parametrize("kind", TRAININGS)
def test_five_steps_leave_the_same_bits(bits, kind):
    computed, written = bits
    assert computed["trainings"][kind] == written["trainings"][kind]


@pytest.mark.parametrize("name", MODELS)
def test_shipped_weights_draw_the_same_bits(bits, name):
    """By every sampler whose hashes were written; `python -m tests.bits --add` writes those of a new one."""
    computed, written = (each["samples"][name] for each in bits)
    assert {walk: computed.get(walk) for walk in written} == written


def test_another_processors_hashes_are_added_only_beside_the_same_records(tmp_path, monkeypatch):
    written = json.loads(WRITTEN.read_text())
    records = dict(written["records"])
    monkeypatch.setattr(of_bits, "WRITTEN", tmp_path / "bits.json")
    monkeypatch.setattr(of_bits.torch, "__version__", written["torch"])
    monkeypatch.setattr(of_bits.torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(of_bits, "training", lambda kind, settings: (records[kind], {}))
    monkeypatch.setattr(of_bits, "samples", lambda name: {})
    monkeypatch.setattr(of_bits, "kernels", lambda: "another")
    monkeypatch.setattr(sys, "argv", ["bits", "--add"])
    of_bits.WRITTEN.write_text(WRITTEN.read_text())
    of_bits.main()
    added = json.loads(of_bits.WRITTEN.read_text())
    assert added["kernels"].keys() == {*written["kernels"], "another"}

    records["gan"] = "changed"
    with pytest.raises(AssertionError, match="the records have changed: write all of it again"):
        of_bits.main()
    assert json.loads(of_bits.WRITTEN.read_text()) == added
