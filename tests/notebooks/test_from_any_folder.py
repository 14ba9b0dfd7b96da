"""The gate gives the same answer from every folder and under every backend of figures."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from tests.checkout import ROOT
from tests.companion.chapters import write

pytestmark = pytest.mark.long

SOURCE = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\nplt.show()\nprint(object())"
PRINTED = "<object object at 0x7f0011223344>\n"  # an address of another run, which the gate passes over
FIGURE = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480 with 1 Axes>"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of one chapter that was executed before, with the gate's settings."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tests" / "notebooks").mkdir(parents=True)
    for name in ("conftest.py", "pyproject.toml", "tests/notebooks/sanitize.cfg"):
        shutil.copy(ROOT / name, folder / name)
    path = write(folder / "notebooks", 1, SOURCE)
    notebook = nbformat.read(path, as_version=4)
    outputs = [
        nbformat.v4.new_output("display_data", FIGURE),
        nbformat.v4.new_output("stream", name="stdout", text=PRINTED),
    ]
    notebook.cells[1].outputs, notebook.cells[1].execution_count = outputs, 2
    nbformat.write(notebook, path)
    return folder


@pytest.mark.parametrize(("where", "what"), [(".", []), ("notebooks", []), ("tests", ["../notebooks"])])
def test_the_gate_runs_from_any_folder(where, what, project):
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", *what]
    variables = {**os.environ, "MPLBACKEND": "Agg"}
    gate = subprocess.run(command, cwd=project / where, env=variables, capture_output=True, text=True)
    assert gate.returncode == 0, gate.stdout + gate.stderr
    assert "2 passed" in gate.stdout
