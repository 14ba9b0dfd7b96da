"""What a hosted notebook is given: `make bundle` and the chapters' first cell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ddpm.companion.claims import load_claims
from ddpm.companion.results import results

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
FIRST_CELLS = {
    path.stem: next(cell for cell in nbformat.read(path, as_version=4)["cells"] if cell["cell_type"] == "code")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}


def test_every_chapter_begins_with_the_same_installation():
    assert {tuple(cell["metadata"]["tags"]) for cell in FIRST_CELLS.values()} == {("install", "hide-input")}
    assert len({cell["source"] for cell in FIRST_CELLS.values()}) == 1


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a bundle is made from a checkout")
def test_the_bundle_holds_all_that_a_chapter_asks_the_package_for(tmp_path):
    subprocess.run(["make", "bundle"], cwd=ROOT, check=True, capture_output=True)
    shutil.copy(ROOT / "_build" / "ddpm.zip", tmp_path)
    (source,) = {cell["source"] for cell in FIRST_CELLS.values()}
    run = "subprocess.run(install, check=True)"
    assert source.count(run) == source.count("is None") == 1
    hosted = source.replace("is None", "is not None").replace(run, "print(*install)")
    asked = """
import ddpm
from ddpm.companion import verdict
from ddpm.companion.claims import load_claims
from ddpm.companion.results import results
print(ddpm.__file__, len(load_claims()), len(results("samplers")["rows"]), ddpm.load("fashion-mnist").image_shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", hosted + "\n" + asked], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ""}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    installed, imported = done.stdout.splitlines()
    assert installed.endswith("--editable ddpm-book[book]")
    assert imported.startswith(str(tmp_path / "ddpm-book"))
    assert imported.endswith(f" {len(load_claims())} {len(results('samplers')['rows'])} (1, 32, 32)")
