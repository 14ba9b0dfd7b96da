"""What GitHub, pre-commit and a dev container are told names only what the repository has."""

import json
import os
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml

from tests.checkout import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def text(*parts):
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


MAKEFILE = text("Makefile")
TARGETS = {
    target
    for line in re.findall(r"^([\w./-]+(?: [\w./-]+)*):(?!=)", MAKEFILE, re.MULTILINE)
    for target in line.split()
    if target != ".PHONY"
}
CONTAINER = json.loads(text(".devcontainer", "devcontainer.json"))
HOOKS = {repo["repo"].rsplit("/", 1)[-1]: repo for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]}


def workflow(path):
    """A workflow's jobs by their names, and the events that start it; YAML 1.1 reads its key `on` as true."""
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded["jobs"], loaded[True]


TESTS, _ = workflow(ROOT / ".github" / "workflows" / "test.yml")


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def made(script):
    """The targets of every `make` in a shell script."""
    found = []
    for command in re.split(r"&&|\|\||[;|&\n]", script):
        words = shlex.split(command, comments=True)
        if "make" in words:
            found += [word for word in words[words.index("make") + 1 :] if "=" not in word and word[0] != "-"]
    return found


def scripts():
    for path in WORKFLOWS:
        for name, job in workflow(path)[0].items():
            for command in commands(job):
                yield pytest.param(command, id=f"{path.name}: {name}")
    for name, command in CONTAINER["postCreateCommand"].items():
        yield pytest.param(command, id=f"dev container: {name}")
    for path in (ROOT / ".github").rglob("*"):
        if path.suffix == ".md" or path in FORMS:
            for command in re.findall(r"`(make .+?)`", path.read_text(encoding="utf-8")):
                yield pytest.param(command, id=path.name)


def pythons():
    """The Pythons that the package says it is tested on."""
    classifiers = tomllib.loads(text("pyproject.toml"))["project"].get("classifiers", [])
    named = {found[1] for line in classifiers if (found := re.fullmatch(r".+ :: Python :: (3\.\d+)", line))}
    return named or {"3.11", "3.12", "3.13"}


def test_make_is_found_in_a_script():
    script = "sudo apt-get update; make -k run PRESET=smoke && make test # make lab\nmake lock book"
    assert made(script) == ["run", "test", "lock", "book"]


@pytest.mark.parametrize("script", scripts())
def test_every_target_is_the_makefiles(script):
    assert set(made(script)) <= TARGETS


def test_the_tests_are_what_the_readme_says():
    (printed,) = re.findall(r"^## Two commands\n.+?```sh\n(.+?)```", text("README.md"), re.DOTALL | re.MULTILINE)
    installed, *run = commands(TESTS["test"])
    assert all(line.startswith("sudo ") for line in installed.splitlines())  # what the tests need of the system
    assert run[0] in [line.split("#")[0].strip() for line in printed.splitlines()]
    assert run == ["make test", "make test-browser"]
    assert commands(TESTS["check"]) == ["make check", "make check-lab"]
    assert TESTS["test"]["needs"] == "check"


def test_the_slow_tests_run_every_week_and_nothing_else_does_then():
    _, events = workflow(ROOT / ".github" / "workflows" / "test.yml")
    assert events.keys() == {"push", "pull_request", "schedule", "workflow_dispatch"}
    ((minute, hour, day, month, weekday),) = [each["cron"].split() for each in events["schedule"]]
    assert (day, month) == ("*", "*")
    assert all(number.isdecimal() for number in (minute, hour, weekday))
    assert commands(TESTS["slow"]) == ["make test-slow"]
    (pytest_line,) = re.findall(r"^test-slow:.*\n\t(.+pytest.+)$", MAKEFILE, re.MULTILINE)
    assert " -m slow " in pytest_line
    started_by = {name: set(re.findall(r"event_name == '(\w+)'", job.get("if", ""))) for name, job in TESTS.items()}
    changes, weekly = {"push", "pull_request"}, {"schedule", "workflow_dispatch"}
    assert started_by == {"check": changes, "test": set(), "slow": weekly}  # `test` needs `check`


def test_every_python_that_the_package_admits_is_tested():
    matrix = TESTS["test"]["strategy"]["matrix"]["python"]
    assert sorted(matrix) == sorted(pythons())
    for path in WORKFLOWS:
        named = re.findall(r"python(?:-version:| ==) ['\"](.+?)['\"]", path.read_text(encoding="utf-8"))
        assert named
        assert set(named) <= set(matrix), path.name
    assert CONTAINER["image"].rsplit(":", 1)[1] in matrix


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_an_end_and_few_rights(path):
    jobs, _ = workflow(path)
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert loaded["permissions"] == {"contents": "read"}
    assert "group" in loaded["concurrency"]
    limits = {name: job["timeout-minutes"] for name, job in jobs.items()}
    assert limits.pop("slow", 0) < 360  # GitHub ends a job then, and says less
    assert all(minutes <= 90 for minutes in limits.values())
    writers = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert writers == ({"publish"} if path.stem == "book" else set())
    assert not any(commands(jobs[name]) for name in writers)


def test_the_book_that_is_built_is_the_one_published_and_has_passed_the_tests():
    jobs, events = workflow(ROOT / ".github" / "workflows" / "book.yml")
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["name"]
    passed = {"workflows": [tests], "types": ["completed"], "branches": ["main"]}
    assert events == {"workflow_run": passed, "workflow_dispatch": None}
    by_hand, _, by_tests = jobs["build"]["if"].partition(" || ")
    assert by_hand == "github.event_name == 'workflow_dispatch'"
    run = "github.event.workflow_run"
    # A pull request from a fork's branch `main` runs the tests "on main": its book is not this one.
    required = {
        f"{run}.conclusion == 'success'",
        f"{run}.event == 'push'",
        f"{run}.head_repository.full_name == github.repository",
    }
    assert set(by_tests.removeprefix("(").removesuffix(")").split(" && ")) == required
    (folder,) = [step["with"]["path"] for step in jobs["build"]["steps"] if "upload-pages" in step.get("uses", "")]
    assert commands(jobs["build"]) == ["make book"]
    assert f"the book: {folder}/index.html" in MAKEFILE


@pytest.mark.parametrize(
    ("solutions", "without"), [(None, False), ("", False), ("1", False), ("0", True), ("0 ", True), ("false", True)]
)
@pytest.mark.parametrize("target", ["book", "run"])
def test_a_variable_of_the_repository_leaves_the_solutions_out(target, solutions, without):
    jobs, _ = workflow(ROOT / ".github" / "workflows" / "book.yml")
    (step,) = [step for step in jobs["build"]["steps"] if step.get("run") == "make book"]
    assert step["env"] == {"SOLUTIONS": "${{ vars.SOLUTIONS }}"}  # "" where there is no such variable
    environment = {name: value for name, value in os.environ.items() if name != "SOLUTIONS"}
    environment |= {} if solutions is None else {"SOLUTIONS": solutions}
    said = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert (" -m ddpm.companion.book" in said) == (without or target == "run")
    assert ("--no-solutions" in said) == without


def test_ruff_is_the_locked_one():
    assert f"\nruff=={HOOKS['ruff-pre-commit']['rev'].removeprefix('v')}\n" in text("requirements.txt")


def test_hooks_leave_alone_what_a_program_wrote():
    (ending,) = [hook for hook in HOOKS["pre-commit-hooks"]["hooks"] if hook["id"] == "end-of-file-fixer"]
    folders = [path for glob in ("notebooks/*.ipynb", "book/results/*", "ddpm/assets/**/*") for path in ROOT.glob(glob)]
    written = [path.relative_to(ROOT).as_posix() for path in folders if path.is_file()]
    for name in [*written, "book/ledger.md", "book/evidence.md", "book/results.md", "requirements.txt"]:
        assert re.search(ending["exclude"], name), name
    assert not re.search(ending["exclude"], "book/training.md")


def test_no_hook_writes_to_a_notebook():
    """Ruff's formatter, given one, writes the numbers of its outputs again and changes last digits."""
    for hook in HOOKS["ruff-pre-commit"]["hooks"]:
        formats = hook["id"] == "ruff-format" and "--check" not in hook.get("args", [])
        fixes = "--fix" in hook.get("args", [])
        assert not (formats or fixes) or hook["types_or"] == ["python", "pyi"], hook
    ours = {hook["id"] for hook in HOOKS["pre-commit-hooks"]["hooks"]}
    assert {hook for hook in ours if not hook.startswith("check-")} == {"end-of-file-fixer"}


def test_what_ships_is_small_enough_to_commit():
    (hook,) = [hook for hook in HOOKS["pre-commit-hooks"]["hooks"] if hook["id"] == "check-added-large-files"]
    (limit,) = [int(argument.removeprefix("--maxkb=")) for argument in hook["args"]]
    largest = max(path.stat().st_size for path in (ROOT / "ddpm" / "assets").rglob("*") if path.is_file())
    assert largest / 1024 <= limit


def test_a_dev_container_names_what_the_makefile_makes():
    (folder,) = re.findall(r"^BIN := (\S+)$", MAKEFILE, re.MULTILINE)
    assert ".venv/installed" in made(CONTAINER["postCreateCommand"]["environment"])
    paths = re.findall(r"\$\{containerWorkspaceFolder\}/([^\"]+)", json.dumps(CONTAINER))
    assert f"{folder}/python" in paths
    for path in paths:
        assert path.startswith(f"{folder}/")
        assert f"$(BIN)/{path.removeprefix(f'{folder}/')} " in MAKEFILE
    assert CONTAINER["forwardPorts"] == [8888]
    assert any(argument.startswith("--shm-size=") for argument in CONTAINER["runArgs"])


def test_a_dev_container_has_what_the_tests_need_of_the_system():
    """What the workflow installs, a browser for the pages, and git."""
    installed = CONTAINER["postCreateCommand"]["system"].split("apt-get install")[1].split()
    (of_workflow,) = re.findall(r"apt-get install ((?:-\S+ )*)(.+)", commands(TESTS["test"])[0])
    assert {*of_workflow[1].split(), "chromium", "git"} <= set(installed)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_can_be_filled_in(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked) > 0
    assert all(field["attributes"]["label"] for field in asked)


def test_the_claim_in_the_form_is_in_the_ledger():
    known = {claim["id"] for claim in yaml.safe_load(text("book", "claims.yml"))}
    assert set(re.findall(r"\bC\d+\b", text(".github", "ISSUE_TEMPLATE", "wrong_claim.yml"))) <= known


def test_a_citation_names_the_version_and_the_year_that_the_page_names():
    cited = yaml.safe_load(text("CITATION.cff"))
    page = text("book", "cite.md")
    assert f"year    = {{{cited['date-released'].year}}}" in page
    assert f"version = {{{cited['version']}}}" in page
    (project,) = tomllib.loads(text("pyproject.toml"))["project"]["authors"]
    assert [author["name"] for author in cited["authors"]] == [project["name"]]
