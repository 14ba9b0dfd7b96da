"""What a hosted notebook is given: `make bundle` and the chapters' first cell."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

from ddpm.companion.claims import load_claims
from ddpm.companion.results import results
from tests.cells import cells_of
from tests.checkout import ROOT

pytestmark = pytest.mark.long

FIRST_CELLS = {path.stem: cells_of(path, "code")[0] for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def test_without_a_checkout_make_bundle_says_what_it_needs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    done = subprocess.run(
        ["make", "--no-print-directory", "bundle"], cwd=tmp_path, env=outside, capture_output=True, text=True
    )
    assert done.returncode
    assert done.stdout == "make bundle packs the last commit: it needs git and a checkout\n"
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


def test_every_chapter_begins_with_the_same_installation():
    assert {tuple(cell["metadata"]["tags"]) for cell in FIRST_CELLS.values()} == {("install", "hide-input")}
    assert len({cell["source"] for cell in FIRST_CELLS.values()}) == 1


@pytest.fixture
def python(tmp_path):
    """An interpreter that has what the package needs, and not the package."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # whose own .pth are not read
    return folder / "bin" / "python"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a bundle is made from a checkout")
@pytest.mark.parametrize("beside", [(), ("ddpm/ddpm",)], ids=["alone", "unpacked by a click"])
def test_the_bundle_holds_all_that_a_chapter_asks_the_package_for(beside, python, tmp_path):
    subprocess.run(["make", "bundle"], cwd=ROOT, check=True, capture_output=True)
    (said,) = re.findall(r"the book's data, (\d+) MB", (ROOT / "book" / "how_to_run.md").read_text(encoding="utf-8"))
    assert round((ROOT / "_build" / "ddpm.zip").stat().st_size / 1e6) == int(said)
    (hosted := tmp_path / "hosted").mkdir()
    shutil.copy(ROOT / "_build" / "ddpm.zip", hosted)
    for folder in beside:
        (hosted / folder).mkdir(parents=True)
    (source,) = {cell["source"] for cell in FIRST_CELLS.values()}
    run = 'subprocess.run([*pip, "ddpm-book[book]"], check=True)'
    assert source.count(run) == 1
    asked = """
import ddpm
from ddpm.companion import verdict
from ddpm.companion.claims import load_claims
from ddpm.companion.results import results
print(ddpm.__file__, len(load_claims()), len(results("samplers")["rows"]), ddpm.load("fashion-mnist").image_shape)
"""
    code = source.replace(run, 'print(*pip, "ddpm-book[book]")') + "\n" + asked
    done = subprocess.run(
        [python, "-c", code], cwd=hosted, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ""}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    installed, imported = done.stdout.splitlines()
    assert installed.endswith("--editable ddpm-book[book]")
    assert imported.startswith(str(hosted / "ddpm-book"))
    assert imported.endswith(f" {len(load_claims())} {len(results('samplers')['rows'])} (1, 32, 32)")


def test_a_chapter_alone_says_that_the_bundle_is_missing(python, tmp_path):
    (source,) = {cell["source"] for cell in FIRST_CELLS.values()}
    done = subprocess.run(
        [python, "-c", source], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ""}, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "put ddpm.zip beside this notebook; `make bundle` in a checkout makes it" in done.stderr
