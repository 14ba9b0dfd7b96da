"""Which commit a chapter's provenance names, and on which device it runs."""

import re
import subprocess

import pytest
import torch

from ddpm.companion.provenance import Parameters, commit, provenance
from ddpm.messages import counted


def git(folder, *command):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    done = subprocess.run(["git", *names, *command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder, *files):
    """A repository in a folder, with a commit of these files; returns the commit's hash."""
    git(folder, "init", "-q")
    if files:
        git(folder, "add", *files)
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def package(tmp_path):
    """What stands for the package, in a folder of its own."""
    (tmp_path / "own" / "ddpm" / "companion").mkdir(parents=True)
    (tmp_path / "own" / "ddpm" / "companion" / "provenance.py").write_text("")
    return tmp_path / "own"


def test_a_checkout_records_its_commit_and_whether_it_was_changed(package):
    hash_of_commit = repository(package, "ddpm")
    git(package, "tag", "-a", "v1", "-m", "a release")
    clean = commit(package)
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    assert hash_of_commit.startswith(clean)
    (package / "ddpm" / "companion" / "provenance.py").write_text("1")
    assert commit(package) == f"{clean}-dirty"


def test_the_repository_that_a_hook_of_git_names_is_not_the_packages(package, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    repository(tmp_path / "other")
    hash_of_commit = repository(package, "ddpm")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert hash_of_commit.startswith(commit(package))


@pytest.mark.parametrize("files", [["own"], []])
def test_the_repository_around_an_installed_package_is_not_recorded(package, files):
    repository(package.parent, *files)
    assert commit(package) == "unknown"


def test_a_repository_that_does_not_hold_the_package_is_not_recorded(package):
    (package / "mine.txt").write_text("")
    repository(package, "mine.txt")
    assert commit(package) == "unknown"


def test_outside_a_repository_no_commit_is_known(package, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(package.parent))
    assert commit(package) == "unknown"


def test_where_there_is_no_git_no_commit_is_known(package, monkeypatch):
    repository(package, "ddpm")
    monkeypatch.setenv("PATH", str(package))
    assert commit(package) == "unknown"


def test_a_device_that_is_not_here_is_named():
    for name in ("gpu9", "cuda:99", "", 3):
        with pytest.raises(ValueError, match=re.escape(f"device is {str(name)!r}, which torch does not find here")):
            Parameters("cpu", name, 0)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    assert Parameters("cpu", "cpu", 0).device == "cpu"
    for is_there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        assert Parameters("cpu", "auto", 0).device == device


def test_float32_is_float32_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Parameters("cpu", "cpu", 0)
    assert not torch.backends.cudnn.allow_tf32


def test_a_size_is_the_tiers():
    sizes = {"cpu": 1, "gpu": 2, "smoke": 3}
    assert [Parameters(preset, "cpu", 0).pick(**sizes) for preset in sizes] == [1, 2, 3]
    Parameters("cpu", "cpu", 0)  # checks are enforced again


def test_a_run_says_what_it_is_made_with(capsys):
    provenance(Parameters("cpu", "cpu", 5), {"cpu": "a minute", "gpu": "not measured"})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "preset cpu, seed 5, device cpu"
    assert said[1].endswith(f", {counted(torch.get_num_threads(), 'thread')}")
    assert f"torch {torch.__version__}, ddpm " in said[2]
    assert said[3:] == ["cpu tier: a minute", "gpu tier: not measured"]
