"""The wheel, built and installed into an environment of its own, where no checkout lies beside it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import ddpm
from tests.checkout import ROOT

pytestmark = pytest.mark.long

TRAINING_AND_EVALUATION = ("accelerate", "filelock", "tensorboard", "timm", "torchdiffeq", "torchmetrics")
BOOK = ("IPython", "matplotlib", "nbformat", "papermill", "yaml")
HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path, target=None):
        if name in {names}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hidden())
"""


def package_files(root=ROOT):
    """Those that git has, and new ones that it does not ignore; outside a checkout all but what Python has compiled."""
    if not (root / ".git").exists():
        found = (path.relative_to(root) for path in (root / "ddpm").rglob("*") if path.is_file())
        return {path.as_posix() for path in found if "__pycache__" not in path.parts}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "ddpm"]
    return set(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines())


def copy_of_package(source):
    """What a wheel is built from, in a folder of its own: the checkout is left as it is."""
    for name in (*package_files(), "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)


def built(folder):
    """The wheel of the package's files."""
    source = folder / "source"
    copy_of_package(source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A virtual environment with the wheel; what it depends on is seen where the tests have it."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(environment, folder, *command, hidden=()):
    """A command in a folder that is no checkout, without the packages of some extras."""
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden" / "sitecustomize.py").write_text(HIDDEN.format(names=set(hidden)))
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PYTHONPATH": str(folder / "hidden"), "PATH": path}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_the_files_are_the_same_outside_a_checkout(tmp_path):
    copy_of_package(tmp_path)
    (tmp_path / "ddpm" / "__pycache__").mkdir()
    (tmp_path / "ddpm" / "__pycache__" / "compiled.pyc").write_bytes(b"")
    assert package_files(tmp_path) == package_files()


def test_it_holds_the_package_its_types_and_its_models(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    assert names == package_files()
    assert "ddpm/py.typed" in names
    assert f"ddpm-{ddpm.__version__}-" in wheel.name


def test_it_loads_and_samples_without_any_extra(environment, tmp_path):
    program = (
        "import ddpm; from ddpm.denoiser import Clipped; print(ddpm.__file__); "
        "model = ddpm.load('equal-diffusion', device='cpu'); "
        "print(tuple(ddpm.sample(Clipped(model), 2, 'heun', 2, chunk=2, progress=False).shape))"
    )
    done = run(environment, tmp_path, "python", "-c", program, hidden=TRAINING_AND_EVALUATION + BOOK)
    assert done.returncode == 0, done.stderr
    file, shape = done.stdout.splitlines()
    assert Path(file).is_relative_to(environment)
    assert shape == "(2, 1, 32, 32)"


def test_its_command_samples_without_any_extra(environment, tmp_path):
    command = ["ddpm", "sample", "--model", "equal-diffusion", "-n", "2", "--steps", "2"]
    done = run(environment, tmp_path, *command, hidden=TRAINING_AND_EVALUATION + BOOK)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "samples.png").is_file()


@pytest.mark.parametrize(
    ("command", "hidden", "extra"),
    [
        ("train --data fashion-mnist-embedded --steps 1 --out run", TRAINING_AND_EVALUATION, "train"),
        ("evaluate --n 65 --steps 1 --model equal-diffusion", TRAINING_AND_EVALUATION, "evaluate"),
        ("round-trip --model equal-diffusion --steps 2", TRAINING_AND_EVALUATION, "evaluate"),
        ("chapters", BOOK, "book"),
        ("chapters", ("papermill",), "book"),
        ("chapters", ("ipykernel",), "book"),
    ],
)
def test_a_command_says_which_extra_it_needs(environment, tmp_path, command, hidden, extra):
    done = run(environment, tmp_path, "ddpm", *command.split(), hidden=hidden)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f" needs: pip install 'ddpm[{extra}]'")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["hidden"]


@pytest.mark.parametrize("module", ["book", "ledger"])
def test_a_program_of_the_book_says_in_one_line_which_extra_it_needs(environment, tmp_path, module):
    done = run(environment, tmp_path, "python", "-m", f"ddpm.companion.{module}", hidden=BOOK)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "IPython is not installed; ddpm.companion needs: pip install 'ddpm[book]'" in line


def test_the_companion_says_which_extra_it_needs(environment, tmp_path):
    done = run(environment, tmp_path, "python", "-c", "import ddpm.companion", hidden=("yaml",))
    line = "ModuleNotFoundError: yaml is not installed; ddpm.companion needs: pip install 'ddpm[book]'"
    assert done.stderr.splitlines()[-1] == line


@pytest.mark.parametrize("module", ["book", "ledger"])
def test_a_program_of_the_book_says_in_one_line_that_it_needs_a_checkout(environment, tmp_path, module):
    done = run(environment, tmp_path, "python", "-m", f"ddpm.companion.{module}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("need a checkout of the book")


@pytest.mark.parametrize("program", ["claims_table(1)", "verdict('C1')", "results_table('samplers')"])
def test_the_companion_says_that_it_needs_a_checkout(environment, tmp_path, program):
    done = run(environment, tmp_path, "python", "-c", f"from ddpm.companion import *; {program}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("the companion's claims and results need a checkout of the book")


def test_chapters_outside_a_checkout_are_refused_in_one_line(environment, tmp_path):
    done = run(environment, tmp_path, "ddpm", "chapters")
    assert done.returncode == 2
    advice = "run this in the book's folder, or name its chapters with --notebooks"
    assert done.stderr == f"ddpm: notebooks is 'notebooks'; it must be a folder of chapters; {advice}\n"


def test_an_editable_install_is_found_beside_a_folder_of_its_name(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "venv"
    copy_of_package(source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-index"]
    command = [*pip, "--no-deps", "--no-build-isolation", "--editable", source]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "work" / "ddpm" / "ddpm").mkdir(parents=True)
    done = run(folder, tmp_path / "work", "python", "-c", "import ddpm; print(ddpm.__file__)")
    assert done.stdout == f"{source / 'ddpm' / '__init__.py'}\n", done.stderr


def test_users_see_its_types(environment, tmp_path):
    (tmp_path / "user.py").write_text("import ddpm\n\nreveal_type(ddpm.sample)\nmodel: int = ddpm.__version__\n")
    done = run(
        environment, tmp_path, sys.executable, "-m", "mypy", "--python-executable", environment / "bin" / "python",
        "user.py",
    )  # fmt: skip
    assert 'Revealed type is "def (denoise: ddpm.denoiser.interface.Denoiser | ddpm.sampling.LatentModel' in done.stdout
    assert 'Incompatible types in assignment (expression has type "str", variable has type "int")' in done.stdout
