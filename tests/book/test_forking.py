"""A fork names itself in one line, and its chapters open where that line says."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from ddpm.companion.exercises import EXERCISES, grade, graded_in, mark, round_trip
from tests.checkout import ROOT

CONFIG = (ROOT / "_config.yml").read_text(encoding="utf-8")
PREPARED = "# repository_url: https://github.com/YOU/YOUR-FORK"
NAMED = re.compile(r"^( *)(?:# )?repository_url: \S+$", re.MULTILINE)  # as it is prepared, or as a fork has it
PAGE = (ROOT / "book" / "make_it_yours.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_forks_chapters_have_buttons_that_open_it(tmp_path):
    """One chapter is built as a book of its own, with the line as a fork writes it, and a hub beside Colab."""
    shutil.copytree(ROOT / "book", tmp_path / "book")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "04_samplers.ipynb", tmp_path / "notebooks")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: notebooks/04_samplers\n")
    config, found = NAMED.subn(r"\1repository_url: https://github.com/ada/course", CONFIG)
    assert found == 1
    config = config.replace(
        "launch_buttons: {notebook", 'launch_buttons: {jupyterhub_url: "https://hub.example.org", notebook'
    )
    (tmp_path / "_config.yml").write_text(config)
    tool = Path(sys.executable).parent / "jupyter-book"
    subprocess.run([tool, "build", tmp_path, "--quiet"], check=True, capture_output=True)
    page = (tmp_path / "_build" / "html" / "notebooks" / "04_samplers.html").read_text(encoding="utf-8")
    hub = "https://hub.example.org/hub/user-redirect/git-pull?repo=https%3A//github.com/ada/course"
    assert 'href="https://colab.research.google.com/github/ada/course/blob/main/notebooks/04_samplers.ipynb"' in page
    assert hub in page.replace("&amp;", "&")
    assert "urlpath=lab/tree/course/notebooks/04_samplers.ipynb&branch=main" in page.replace("&amp;", "&")


def test_without_that_line_nothing_leads_to_a_repository_that_is_not_there():
    prepared = NAMED.sub(rf"\1{PREPARED}", CONFIG)
    options = yaml.safe_load(prepared)["sphinx"]["config"]["html_theme_options"]
    assert "repository_url" not in options
    assert (options["repository_branch"], options["launch_buttons"]["notebook_interface"]) == ("main", "jupyterlab")


def test_the_exercise_that_the_page_adds_is_graded_and_has_a_blank(monkeypatch, capsys):
    written, blank = (textwrap.dedent(block) for block in re.findall(r"( *```python\n.+?)```", PAGE, re.DOTALL)[1:])
    chapter = {**vars(round_trip), "EXERCISES": []}
    exec(written.removeprefix("```python"), chapter)
    (added,) = chapter["EXERCISES"]
    assert mark(added, lambda alpha_bar: 1 / (1 / alpha_bar - 1), seed=3) == "right"
    assert mark(added, lambda alpha_bar: 1 / alpha_bar - 1, seed=3) == "not yet. That is its inverse."
    monkeypatch.setitem(EXERCISES, "snr", added)
    assert graded_in(blank) == ["snr"]
    exec(blank.removeprefix("```python"), {"grade": grade})
    assert capsys.readouterr().out == "exercise, snr: not written yet\n"


def test_the_page_for_those_who_fork_names_what_is_there():
    assert PREPARED.removeprefix("# ") in PAGE
    for path in re.findall(r"`((?:book|tests|notebooks)/[\w./]+)`", PAGE):
        assert (ROOT / path).exists(), path
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)", PAGE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
