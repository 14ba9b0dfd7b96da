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
    """What is computed with the kernels of this processor, and what was written of these and of all."""
    computed, written = both
    ((kernels, own),) = computed["kernels"].items()
    if kernels not in written["kernels"]:
        pytest.skip(f"torch {computed['torch']} has kernels here, {kernels}, of which nothing was written")
    return own, written["kernels"][kernels], written["kernels"].values()


@pytest.mark.parametrize("kind", TRAININGS)
def test_five_steps_leave_the_same_record_on_every_processor(both, kind):
    computed, written = both
    assert computed["records"][kind] == written["records"][kind]


@pytest.mark.parametrize("kind", TRAININGS)
def test_five_steps_leave_the_same_bits(bits, kind):
    computed, written, _ = bits
    assert computed["trainings"][kind] == written["trainings"][kind]


@pytest.mark.parametrize("name", MODELS)
def test_shipped_weights_draw_the_same_bits(bits, name):
    """By every sampler whose hashes were written for this processor. Those of a new one are of some processor first."""
    of_here, of_this_one, of_all = bits
    computed, written = of_here["samples"][name], of_this_one["samples"][name]
    new = computed.keys() - {walk for each in of_all for walk in each["samples"].get(name, ())}
    assert not new, (
        f"no bits of {', '.join(sorted(new))} are in tests/bits.json: python -m tests.bits --add writes them"
    )
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


def test_a_new_samplers_hashes_are_added_to_a_processors_own_and_change_none(tmp_path, monkeypatch):
    written = json.loads(WRITTEN.read_text())
    here, of_here = next(iter(written["kernels"].items()))
    drawn = {name: walks | {"new": "0"} for name, walks in of_here["samples"].items()}
    monkeypatch.setattr(of_bits, "WRITTEN", tmp_path / "bits.json")
    monkeypatch.setattr(of_bits.torch, "__version__", written["torch"])
    monkeypatch.setattr(of_bits.torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(of_bits, "training", lambda kind, _: (written["records"][kind], of_here["trainings"][kind]))
    monkeypatch.setattr(of_bits, "samples", drawn.get)
    monkeypatch.setattr(of_bits, "kernels", lambda: here)
    monkeypatch.setattr(sys, "argv", ["bits", "--add"])
    of_bits.WRITTEN.write_text(WRITTEN.read_text())
    of_bits.main()
    added = json.loads(of_bits.WRITTEN.read_text())
    assert added["kernels"] == written["kernels"] | {here: of_here | {"samples": drawn}}

    drawn[MODELS[0]]["ddim"] = "changed"
    with pytest.raises(AssertionError, match=f"what {MODELS[0]} computes has changed"):
        of_bits.main()
    assert json.loads(of_bits.WRITTEN.read_text()) == added
