"""Training and sampling compute, bit for bit, what they computed when `tests/bits.json` was written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bits import ENVIRONMENT, MODELS, TRAININGS

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
WRITTEN = json.loads((ROOT / "tests" / "bits.json").read_text())


@pytest.fixture(scope="module")
def bits():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bits"], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    computed = json.loads(done.stdout)
    release = computed["torch"].partition("+")[0]
    assert release == WRITTEN["torch"].partition("+")[0], "another torch: write tests/bits.json again, see CONTRIBUTING"
    if computed["kernels"] != WRITTEN["kernels"]:
        pytest.skip(
            f"torch {computed['torch']} computes other bits here than {WRITTEN['torch']} did with AVX2 on x86-64"
        )
    return computed


@pytest.mark.parametrize("kind", TRAININGS)
def test_five_steps_leave_the_same_bits(bits, kind):
    assert bits["trainings"][kind] == WRITTEN["trainings"][kind]


@pytest.mark.parametrize("name", MODELS)
def test_shipped_weights_draw_the_same_bits(bits, name):
    assert bits["samples"][name] == WRITTEN["samples"][name]
