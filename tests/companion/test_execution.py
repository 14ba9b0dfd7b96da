"""A chapter on other people's machines: their kernels, backends, paths and signals."""

import json
import os
import signal
import subprocess
import sys

import nbformat
import pytest

from ddpm.companion.execution import Unfinished, executed
from tests.companion.chapters import write
from tests.until import until

pytestmark = pytest.mark.long


def printed(notebook):
    """What the cells after the parameters printed, as one text."""
    return "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))


def test_the_kernel_is_this_interpreter_whatever_a_site_has_installed(tmp_path, monkeypatch):
    spec = tmp_path / "site" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Site", "language": "python", "env": {"SITE": "another"}}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "site"))
    path = write(tmp_path / "notebooks", 1, "import os, sys; print(sys.executable, os.environ.get('SITE'))")
    assert printed(executed(path, tmp_path / "out.ipynb", {})) == f"{sys.executable} None\n"


def test_figures_are_in_the_notebook_whatever_the_backend_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    path = write(tmp_path, 1, "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])")
    (output,) = executed(path, tmp_path / "out.ipynb", {}).cells[-1].outputs
    assert "image/png" in output["data"]


def test_a_persons_profile_is_not_used(tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("mine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = write(tmp_path / "notebooks", 1, "print('mine' in globals())")
    assert printed(executed(path, tmp_path / "out.ipynb", {})) == "False\n"


HOMELESS = """
import pathlib
def homeless(*_):
    raise RuntimeError("Could not determine home directory.")  # what pathlib says of a user whom nobody knows
pathlib.Path.expanduser = pathlib.Path.home = homeless
"""


def test_a_kernel_needs_no_home(tmp_path, monkeypatch):
    (tmp_path / "homeless").mkdir()
    (tmp_path / "homeless" / "sitecustomize.py").write_text(HOMELESS)
    (tmp_path / "no-home").write_text("a file, in which there can be no folder")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "homeless"))
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    for name in ("JUPYTER_RUNTIME_DIR", "XDG_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    path = write(tmp_path / "notebooks", 1, "print('done')")
    assert printed(executed(path, tmp_path / "out.ipynb", {})) == "done\n"


@pytest.mark.parametrize("name", ["{4f1c} course", "}{", "50 % [of] 衣服", "{seed}"])
def test_a_path_is_taken_as_it_is_written(name, tmp_path):
    path = write(tmp_path / name, 1, "import os; print(os.getcwd(), seed)")
    target = tmp_path / name / "out.ipynb"
    assert printed(executed(path, target, {"seed": 7})) == f"{tmp_path / name} 7\n"
    assert printed(nbformat.read(target, as_version=4)) == f"{tmp_path / name} 7\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos._exit(3)", "the kernel died in cell 1, 'import os': without a word"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the kernel died in cell 1, 'import os, signal;"),
        ("import sys; sys.exit()", "it ended before cell 2"),
    ],
)
def test_a_kernel_that_ends_is_one_line_with_the_cell(source, message, tmp_path):
    path = write(tmp_path, 1, source, "print('never')")
    with pytest.raises(Unfinished, match=f"^: {message}") as failure:
        executed(path, tmp_path / "out.ipynb", {})
    assert "\n" not in str(failure.value)
    assert (tmp_path / "out.ipynb").is_file()


def test_a_kernel_that_cannot_start_says_why_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ipykernel_launcher.py").write_text("raise OSError('no kernel today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(Unfinished, match="^: the kernel did not start: OSError: no kernel today$"):
        executed(write(tmp_path, 1, "1"), tmp_path / "out.ipynb", {})


def test_a_cell_that_fails_is_shown_with_its_traceback(tmp_path):
    with pytest.raises(Unfinished, match="^ in cell 1:\n1 / 0\n(.|\n)*ZeroDivisionError"):
        executed(write(tmp_path, 1, "1 / 0"), tmp_path / "out.ipynb", {})


def test_a_cell_that_is_tagged_to_be_skipped_is_no_fault(tmp_path):
    path = write(tmp_path, 1, "1 / 0", "print('end')")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["skip-execution"]
    nbformat.write(notebook, path)
    assert printed(executed(path, tmp_path / "out.ipynb", {})) == "end\n"


def is_gone(process):
    """Whether a process that is no child has ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_the_kernels_and_starts_no_other(jobs, tmp_path):
    """Of three chapters as many run as may, and no other."""
    for number in (1, 2, 3):
        source = f"import os, time\nopen('pid{number}', 'w').write(str(os.getpid()))\ntime.sleep(100)"
        path = write(tmp_path / "notebooks", number, source)
    command = ["chapters", "--notebooks", path.parent, "--preset", "smoke", "--out", tmp_path / "out", "--jobs", jobs]
    with open(tmp_path / "err", "w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "ddpm", *map(str, command)], stderr=err, stdout=err,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # deaf to it in the background
        )  # fmt: skip
    numbers = [path.parent / f"pid{number}" for number in range(1, jobs + 1)]

    def have_begun():
        assert process.poll() is None, (tmp_path / "err").read_text()
        return all(number.is_file() and number.read_text() for number in numbers)

    try:
        until(have_begun)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    said = (tmp_path / "err").read_text()
    assert said.startswith("3 chapters, 2 at a time, " if jobs == 2 else "3 chapters, preset ")
    assert "Traceback" not in said
    assert "failed" not in said
    kernels = [int(number.read_text()) for number in numbers]
    until(lambda: all(is_gone(kernel) for kernel in kernels), seconds=20)
    assert sorted(path.parent.glob("pid*")) == numbers
