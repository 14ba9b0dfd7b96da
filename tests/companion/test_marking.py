"""A class's hand-ins are marked: the honest, the mistaken, the broken and the hostile."""

import csv
import json
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import zipfile
from functools import partial
from inspect import getsource
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from ddpm.companion import answering, hand_in, marking, sandbox, unpacking
from ddpm.companion.answering import answers
from ddpm.companion.exercises import EXERCISES, JUDGES, blank_page, grading, practicals
from ddpm.companion.exercises.grading import agrees, calls_of, judged, own_numbers, points_of
from ddpm.companion.hand_in import pack, seed_of, write_copies
from ddpm.companion.marking import asked_in
from ddpm.companion.sandbox import Limits
from tests.cells import tags
from tests.checkout import ROOT
from tests.companion.exercises import test_blank_page as page
from tests.companion.exercises import test_flow_loss as flow
from tests.companion.exercises import test_from_nothing as parts
from tests.companion.exercises import test_loss_with_labels as labelled
from tests.companion.exercises import test_two_samplers as walks
from tests.until import until

pytestmark = pytest.mark.long

QUICK = Limits(seconds=5)


def why_no_sandbox():
    """Why this machine lets no sandbox be made, "" where it does.

    bubblewrap is asked by a plain command: where that works and the package's own sandbox does not, tests must fail.
    """
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    needed = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    done = subprocess.run(["bwrap", "--unshare-all", *needed, "true"], capture_output=True, text=True, timeout=60)
    said = done.stderr.strip() or f"exit code {done.returncode}"
    return f"bubblewrap can make no sandbox here: {said}" if done.returncode else ""


NO_SANDBOX = why_no_sandbox()  # where there is none, all is marked all the same, but what needs one
#: What an honest student writes. Names of a copy's own numbers are those of the arguments that it fixes.
SOLUTIONS = {
    "divergence": "return (mean**2 + std**2 - 1) / 2 - math.log(std)",
    "weight_of_noise": "return beta / (2 * (1 - beta - alpha_bar))",
    "halvings": """
    number = 0
    while side % 2 == 0 and number < levels - 1:
        side, number = side // 2, number + 1
    return number""",
    "scores": "return (side // 2**level) ** 4",
    "ddim_correlation": "return math.sqrt(rho)",
    "error_over_mmse": "return 2 * (1 - c) / (1 - rho)",
    "inverted": """
    rise = math.sqrt(1 / alpha_bar_t - 1) - math.sqrt(1 / alpha_bar_s - 1)
    return math.sqrt(alpha_bar_t) * (x / math.sqrt(alpha_bar_s) + rise * eps)""",
    "langevin_variance": "return s2 / (1 - delta / (4 * s2))",
    "noise_of_ddim": "return eta * math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s))",
    "guided_eps": "return eps_c if sigma < low or sigma > high else eps + w * (eps_c - eps)",
    "probability_of_right": (
        "return 1 / (1 + math.exp(-2 * math.sqrt(alpha_bar) * x / (alpha_bar * s2 + 1 - alpha_bar)))"
    ),
    "euler_step": "return x + (tau_next - tau) * (x - x0) / tau",
    "students_x0": "return (tau * x_s - tau_s * x_t) / (tau - tau_s)",
}
#: Four slips, and what is said of each.
SLIPS = {
    "divergence": ("return (mean**2 + std**2 - 1) / 2 + math.log(std)", "The logarithm has the other sign"),
    "scores": ("return (side // 2**level) ** 2", "not yet"),
    "noise_of_ddim": (SOLUTIONS["noise_of_ddim"].replace("eta", "eta**2", 1), "it is not squared"),
    "euler_step": ("return x + (tau - tau_next) * (x - x0) / tau", "The other way"),
}


@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    """Chapters 1 to 6 without what is no function of numbers, for which a sandbox of its own imports torch."""
    folder = tmp_path_factory.mktemp("book") / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns("00_*"))
    for path in folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook["cells"]:
            if "exercises" in tags(cell):
                cell["source"] = re.sub(r"^grade_\w+\(.*\)$", "", cell["source"], flags=re.MULTILINE)
        nbformat.write(notebook, path)
    return folder


def handed_in(folder, chapters, student, written=SOLUTIONS, only=None, name=None):
    """The zip of a student who has written this. It is packed by hand: running the chapters takes minutes."""
    copies = write_copies(chapters, folder / f"copies of {name or student}", only, student)
    target = folder / f"{name or student}.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for copy in copies:
            notebook = nbformat.read(copy, as_version=4)
            for cell in notebook["cells"]:
                for exercise, body in written.items():
                    cell["source"] = with_body(cell["source"], exercise, body)
            if not any("import math" in cell["source"] for cell in notebook["cells"]):
                notebook["cells"].insert(0, nbformat.v4.new_code_cell("import math"))
            archive.writestr(copy.name, nbformat.writes(notebook))
    return target


def with_body(source, exercise, body):
    head, found, rest = source.partition(f"def {exercise}(")
    return head + found + rest.replace("...  # write me", body.strip(), 1) if found else source


mark_hand_ins = partial(marking.mark_hand_ins, unsandboxed=bool(NO_SANDBOX))


def rows_of(table):
    with table.open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_a_class_of_fifty_is_made_handed_in_and_marked(chapters, tmp_path):
    zips, wrong = [], {}
    for i in range(50):
        student, slip = f"s{i:02}", [None, *SLIPS][i // 10]
        written = SOLUTIONS | ({} if slip is None else {slip: SLIPS[slip][0]})
        zips.append(handed_in(tmp_path, chapters, student, written))
        wrong[f"{student}.zip"] = slip
    mark_hand_ins(zips, tmp_path / "marks.csv", chapters)
    rows = rows_of(tmp_path / "marks.csv")
    assert rows.keys() == wrong.keys()
    for file, row in rows.items():
        assert {name for name in SOLUTIONS if row[name] == "0"} == ({wrong[file]} - {None})
        assert (int(row["score"]), int(row["max_score"])) == (
            len(SOLUTIONS) - (wrong[file] is not None),
            len(SOLUTIONS),
        )
        assert (row["student_id"], row["remarks"]) == (file.removesuffix(".zip"), "")
    for i, (slip, (_, said)) in enumerate(SLIPS.items(), start=1):
        report = (tmp_path / "marks" / f"s{10 * i + 3}.md").read_text()
        assert f"{len(SOLUTIONS) - 1} of {len(SOLUTIONS)} exercises are right" in report
        assert said in next(line for line in report.splitlines() if f"| {slip} |" in line)


def test_every_slip_of_every_solution_is_marked_wrong(chapters, tmp_path):
    """The answers of a slip, in place of those of the functions that a sandbox calls."""
    for chapter, names in asked_in(chapters).items():
        for name in names:
            for hint, slip in EXERCISES[name].slips.items():
                results = results_for(chapter, name, slip)
                assert results.mark == 0, hint
            assert results_for(chapter, name, EXERCISES[name].right).mark == 1


def results_for(chapter, name, function, student="s07"):
    own = own_numbers(EXERCISES[name], seed_of(student))
    names = EXERCISES[name].arguments

    def answers_of(cells, calls, *_):
        assert cells == []
        given = [dict(zip([each for each in names if each not in own], call, strict=True)) for call in calls[name]]
        return {name: [float(function(*((own | arguments)[each] for each in names))) for arguments in given]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marking, "answers_of", answers_of)
        (result,) = marking._results(chapter, [name], [], student, "ab" * 32, QUICK, False)
    return result


CHAPTER_0 = "\n\n".join(
    [
        "import torch\nfrom torch import nn",
        "T = 1000\nBETA = torch.linspace(1e-4, 0.02, T)\nALPHA_BAR = torch.cumprod(1 - BETA, dim=0)",
        *(getsource(each) for each in (parts.noised, parts.loss, parts.guess)),
        getsource(parts.step).replace("def step(", "def step_back("),
        getsource(page.trained).replace("def trained(", "def diffusion_model("),
    ]
)


def test_models_that_were_written_in_chapter_0_are_trained_and_looked_at(tmp_path):
    zips = []
    for student, written in (
        ("ada", CHAPTER_0),
        ("bob", CHAPTER_0.replace("eps - network(", "eps + network(").replace("range(steps)", "range(0)")),
    ):
        (copy,) = write_copies(ROOT / "notebooks", tmp_path / student, [0], student)
        notebook = nbformat.read(copy, as_version=4)
        (cell,) = [cell for cell in notebook["cells"] if "exercises" in tags(cell)]
        cell["source"] = written
        zips.append(tmp_path / f"{student}.zip")
        write_zip(zips[-1], {copy.name: nbformat.writes(notebook)})
    ada, bob = mark_hand_ins(zips, tmp_path / "marks.csv", ROOT / "notebooks", only=[0])
    assert [(each.exercise, each.mark) for each in ada.results] == [("three_parts", 1), ("empty_page", 1)]
    assert [each.mark for each in bob.results] == [0, 0]
    assert "No optimiser has made a step" in bob.results[1].said


#: A chapter's practical: its name in the table, what an honest student writes, what a slip makes of it and its hint.
WRITTEN = {
    4: (
        "two_samplers",
        {"walk_by_ddim": walks.walk_by_ddim, "walk_by_solver": walks.in_lambda},
        ("noise[s] / noise[t]", "noise[t] / noise[s]", "walk_by_solver is wrong in move 1"),
    ),
    5: (
        "loss_with_labels",
        {"loss_with_labels": labelled.loss_with_labels},
        ("torch.rand(len(x0)) < dropout", "torch.rand(()) < dropout", "drops the labels of a whole batch"),
    ),
    6: ("flow_loss", {"flow_loss": flow.flow_loss}, ("- eps + x0", "+ eps - x0", "not x0 - eps")),
}


def practical_of(folder, chapter, student, slip=None, more=""):
    """The zip of a student who has written a chapter's practical and no more."""
    (copy,) = write_copies(ROOT / "notebooks", folder / student, [chapter], student)
    notebook = nbformat.read(copy, as_version=4)
    (cell,) = [cell for cell in notebook["cells"] if "exercises" in tags(cell)]
    for name, function in WRITTEN[chapter][1].items():
        blank = re.search(rf"^def {name}\(.*?# write me$", cell["source"], re.MULTILINE | re.DOTALL)[0]
        cell["source"] = cell["source"].replace(
            blank, getsource(function).replace(f"def {function.__name__}(", f"def {name}(")
        )
    if slip is not None:
        assert cell["source"].count(slip[0]) == 1
        cell["source"] = cell["source"].replace(slip[0], slip[1])
    cell["source"] = f"import math\nfrom itertools import pairwise\n\nimport torch\n{cell['source']}{more}"
    write_zip(folder / f"{student}.zip", {copy.name: nbformat.writes(notebook)})
    return folder / f"{student}.zip"


@pytest.mark.parametrize("chapter", WRITTEN)
def test_a_chapters_practical_is_marked(chapter, tmp_path):
    title, _, slip = WRITTEN[chapter]
    zips = [practical_of(tmp_path, chapter, "ada"), practical_of(tmp_path, chapter, "bob", slip)]
    ada, bob = mark_hand_ins(zips, tmp_path / "marks.csv", ROOT / "notebooks", only=[chapter])
    assert {each.exercise: each.mark for each in ada.results} == {**dict.fromkeys(numbers_of(chapter), 0), title: 1}
    assert {each.exercise: each.mark for each in bob.results} == {**dict.fromkeys(numbers_of(chapter), 0), title: 0}
    assert slip[2] in bob.results[-1].said
    assert (ada.remarks, bob.remarks) == ([], [])


def numbers_of(chapter):
    ((_, names),) = asked_in(ROOT / "notebooks", chapter).items()
    return [name for name in names if name in EXERCISES]


@pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)
def test_beside_a_practical_the_right_functions_are_hidden_all_the_same(tmp_path):
    look = "from ddpm.companion.exercises.samplers import langevin_variance as known"
    written = f"\n\n\ndef langevin_variance(s2):\n    {look}\n    return known(s2, delta)"
    path = practical_of(tmp_path, 4, "ada", more=written)
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", ROOT / "notebooks", only=[4])
    assert {each.exercise: each.mark for each in marked.results}["langevin_variance"] == 0
    assert marked.results[-1].mark == 1


HOSTILE = {
    "loops": "\n    while True:\n        pass",
    "takes_100_gib": "return len(bytearray(100 * 2**30))",
    "takes_it_in_parts": "\n    parts = []\n    while True:\n        parts.append(bytearray(2**28))",
    "deletes": "\n    import os, shutil\n    shutil.rmtree(os.environ.get('PREY', 'PREY'))\n    return 1",
    "connects": "\n    import socket\n    socket.create_connection(('127.0.0.1', PORT), 2)\n    return 1",
    "leaves": "\n    import os\n    os._exit(0)",
    "forges": "\n    import os\n    os.write(1, b'[\"divergence\", [1, 1, 1, 1, 1, 1]]\\n')\n    return 1",
    "looks_it_up": (
        "\n    from ddpm.companion.exercises.generative_models import divergence as known\n    return known(mean, std)"
    ),
    "prints": "\n    while True:\n        print('x' * 2**20)",
    "raises": "raise SystemExit('bye')",
    "raises_what_no_file_holds": "raise ValueError('\\ud800 | ` ![](http://example.org/a.png) ' + 'x' * 10**6)",
    "catches_all": (
        "\n    while True:\n        try:\n            while True:\n                pass"
        "\n        except BaseException:\n            pass"
    ),
    "forks": "\n    import os, time\n    for _ in range(200):\n        os.fork() or time.sleep(60)\n    time.sleep(60)",
    "fills_tmp": "\n    for i in range(10**6):\n        open(f'/tmp/{i}', 'wb').write(bytes(2**24))",
    "fills_memory_files": "\n    for i in range(10**6):\n        open(f'/dev/shm/{i}', 'wb').write(bytes(2**24))",
    "fills_the_folder_of_the_exercises": (
        "\n    import ddpm\n    for i in range(10**6):\n"
        "        open(f'{ddpm.__path__[0]}/companion/exercises/{i}', 'wb').write(bytes(2**24))"
    ),
    "fills_the_folder_of_the_devices": (
        "\n    for i in range(10**6):\n        open(f'/dev/{i}', 'wb').write(bytes(2**24))"
    ),
    "starts_threads": (
        "\n    import threading, time\n    try:\n        for _ in range(2000):\n"
        "            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "    except RuntimeError:  # no memory is left for one more\n        pass\n    time.sleep(60)"
    ),
    "reads_others": "\n    import glob\n    return len(glob.glob(PREY + '/../*.zip')) and 1e9 or 1 / 0",
    "answers_text": "return 'forty-two'",
    "reads_the_teachers_variables": f"\n    import os\n    os.environ['TOKEN']\n    {SOLUTIONS['divergence']}",
}


@pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)
def test_a_hostile_notebook_costs_its_own_marks_and_nothing_else(chapters, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "the teacher's")
    prey = tmp_path / "prey"
    prey.mkdir()
    (prey / "thesis.txt").write_text("the only copy")
    reached = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            reached.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        zips = []
        for name, body in HOSTILE.items():
            body = body.replace("PORT", str(server.server_address[1]))
            body = body.replace("'PREY')", f"{str(prey)!r})").replace("PREY +", f"{str(prey)!r} +")
            zips.append(handed_in(tmp_path, chapters, name, SOLUTIONS | {"divergence": body}, only=[1]))
        zips.append(handed_in(tmp_path, chapters, "honest", only=[1]))
        mark_hand_ins(zips, tmp_path / "marks.csv", chapters, only=[1], limits=QUICK)
        server.shutdown()
    rows = rows_of(tmp_path / "marks.csv")
    assert {file: row["divergence"] for file, row in rows.items() if row["divergence"] != "0"} == {"honest.zip": "1"}
    assert rows["honest.zip"]["score"] == "2"
    others = {file: row["weight_of_noise"] for file, row in rows.items()}
    ended = [
        "leaves.zip",
        "catches_all.zip",
        "forks.zip",
        "starts_threads.zip",
    ]  # the process went, and took the other exercise along
    assert others == dict.fromkeys(others, "1") | dict.fromkeys(ended, "0")
    report = (tmp_path / "marks" / "raises_what_no_file_holds.md").read_text()
    assert "ValueError: ? / ' ![](http://example.org/a.png) xxx" in report
    assert max(map(len, report.splitlines())) < 400
    assert "1e+09" not in (tmp_path / "marks" / "reads_others.md").read_text()
    for filled in ("exercises", "devices"):
        assert "Read-only file system" in (tmp_path / "marks" / f"fills_the_folder_of_the_{filled}.md").read_text()
    assert "takes longer than 5 seconds" in (tmp_path / "marks" / "loops.md").read_text()
    assert (prey / "thesis.txt").read_text() == "the only copy"
    assert reached == []


BROKEN = {
    "no_zip": lambda path: path.write_text("my work"),
    "empty": lambda path: path.write_bytes(b""),
    "no_notebook": lambda path: write_zip(path, {"essay.txt": "my work"}),
    "zip_in_a_zip": lambda path: write_zip(path, {"mine/ada.zip": "PK"}),
    "no_json": lambda path: write_zip(path, {"01_generative_models.ipynb": "<html>"}),
    "other_json": lambda path: write_zip(path, {"01_generative_models.ipynb": "[1, 2]"}),
    "nested": lambda path: write_zip(path, {"01_generative_models.ipynb": "[" * 100_000}),
    "bomb": lambda path: write_zip(path, {"01_generative_models.ipynb": " " * (unpacking.MOST_OF_A_NOTEBOOK + 1)}),
}


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_a_broken_hand_in_costs_its_own_marks_and_nothing_else(chapters, tmp_path):
    zips = [tmp_path / f"{name}.zip" for name in BROKEN]
    for path, write in zip(zips, BROKEN.values(), strict=True):
        write(path)
    zips.append(handed_in(tmp_path, chapters, "honest", only=[1]))
    mark_hand_ins(zips, tmp_path / "marks.csv", chapters, only=[1])
    scores = {file: int(row["score"]) for file, row in rows_of(tmp_path / "marks.csv").items()}
    assert scores == {**{path.name: 0 for path in zips}, "honest.zip": 2}
    assert "not handed in" in (tmp_path / "marks" / "no_notebook.md").read_text()
    assert "too large" in (tmp_path / "marks" / "bomb.md").read_text()
    remarks = {file: row["remarks"] for file, row in rows_of(tmp_path / "marks.csv").items()}
    no_zip = "it is no zip, or a damaged one: BadZipFile"
    assert remarks == {
        "no_zip.zip": no_zip,
        "empty.zip": no_zip,
        "no_notebook.zip": "it holds no chapter that was set",
        "zip_in_a_zip.zip": "it holds no chapter that was set",
        "no_json.zip": "chapter 01 cannot be read: NotJSONError",
        "other_json.zip": "chapter 01 cannot be read: AttributeError",
        "nested.zip": "chapter 01 cannot be read: RecursionError",
        "bomb.zip": "chapter 01 is too large to be read",
        "honest.zip": "",
    }
    for file, remark in remarks.items():
        assert remark in (tmp_path / "marks" / file).with_suffix(".md").read_text()


def test_what_a_teacher_should_look_at_is_remarked(chapters, tmp_path):
    copied = {**SOLUTIONS, "divergence": SOLUTIONS["divergence"].replace("std", str(own_of("ada", "divergence")))}
    zips = [
        handed_in(tmp_path, chapters, "ada", only=[1]),
        handed_in(tmp_path, chapters, "bob", copied, only=[1]),
        handed_in(tmp_path, chapters, "ada", only=[1], name="again"),
        handed_in(tmp_path, chapters, None, SOLUTIONS, only=[1], name="nobody"),
    ]
    mark_hand_ins(zips, tmp_path / "marks.csv", chapters, only=[1])
    remarks = {file: row["remarks"] for file, row in rows_of(tmp_path / "marks.csv").items()}
    assert remarks == {
        "ada.zip": "another hand-in is ada's, too",
        "again.zip": "another hand-in is ada's, too",
        "bob.zip": "divergence is right with the std of another copy: ada",
        "nobody.zip": "made without --student: its numbers are everybody's",
    }


def test_a_cell_of_another_copy_is_right_and_remarked(chapters, tmp_path):
    """The numbers in it do not count: its functions are called with those of the copy that it stands in."""
    ada, bob = (handed_in(tmp_path, chapters, student, only=[1, 3]) for student in ("ada", "bob"))
    theirs, own = notebooks_of(ada), notebooks_of(bob)
    (copied,) = [cell for cell in theirs["03_round_trip.ipynb"]["cells"] if "exercises" in tags(cell)]
    (cell,) = [cell for cell in own["03_round_trip.ipynb"]["cells"] if "exercises" in tags(cell)]
    cell["source"] = copied["source"]
    write_zip(bob, {name: nbformat.writes(notebook) for name, notebook in own.items()})
    first, second = mark_hand_ins([ada, bob], tmp_path / "marks.csv", chapters, only=[1, 3])
    assert {result.mark for result in second.results} == {1}
    remark = "chapter 03's exercises are graded with another seed than this copy's"
    assert (first.remarks, second.remarks) == ([], [remark])


def notebooks_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: nbformat.reads(archive.read(name).decode(), 4) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("source", "remarked"),
    [
        (f"grade(divergence, seed={seed_of('ada')}, std=std)", False),
        ("grade(divergence, std=std, seed=5)", True),
        ("grade_ddpm(noised, loss, step_back, seed=5)", True),
        ("grade_model(diffusion_model, seed=seed)", False),
        ("grade(divergence)", False),
        ("# grade(divergence, seed=5)", False),
        ("torch.manual_seed(5)\ngrade(divergence)", False),
    ],
)
def test_a_cell_that_names_another_seed_is_known(source, remarked):
    cells = [new_code_cell(source, metadata={"tags": ["exercises"]}), new_code_cell("grade(divergence, seed=7)")]
    assert marking._is_graded_with_another_seed(new_notebook(cells=cells), "ada") == remarked


def test_a_notebook_that_is_not_read_is_remarked(chapters, tmp_path):
    path = handed_in(tmp_path, chapters, "ada", only=[3])
    write_zip(path, {"essay.ipynb": nbformat.writes(new_notebook()), "03_round_trip.ipynb": "{}"})
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[5])
    assert [(result.mark, result.said) for result in marked.results] == [(0, "not handed in")] * 2
    assert marked.notes == [
        "not read, as no chapter has this name: essay.ipynb",
        "it holds no chapter that was set",
    ]
    assert rows_of(tmp_path / "marks.csv")["ada.zip"]["remarks"] == "; ".join(marked.notes)
    assert all(f"- `{note}`" in (tmp_path / "marks" / "ada.md").read_text() for note in marked.notes)


def test_a_zip_of_a_folder_is_marked(chapters, tmp_path):
    """The Finder, the Explorer and `zip -r` make such a zip; the second chapter was downloaded twice."""
    path = handed_in(tmp_path, chapters, "ada", only=[3, 5])
    notebooks = {name: nbformat.writes(notebook) for name, notebook in notebooks_of(path).items()}
    folder = {
        "hand-in-ada/03_round_trip.ipynb": notebooks["03_round_trip.ipynb"],
        "hand-in-ada/05_guidance (1).ipynb": notebooks["05_guidance.ipynb"],
        "__MACOSX/hand-in-ada/03_round_trip.ipynb": "of macOS",
    }
    write_zip(path, folder)
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[3, 5])
    assert (marked.student, [result.mark for result in marked.results]) == ("ada", [1] * 5)
    assert marked.notes == ["a copy of chapter 05 by another name: hand-in-ada/05_guidance (1).ipynb"]


def test_a_chapter_that_is_there_twice_is_not_read(chapters, tmp_path):
    path = handed_in(tmp_path, chapters, "ada", only=[3])
    (notebook,) = map(nbformat.writes, notebooks_of(path).values())
    write_zip(path, {"old/03_round_trip.ipynb": notebook, "new/03_round_trip.ipynb": notebook})
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[3])
    said = "is there more than once, and not read: old/03_round_trip.ipynb, new/03_round_trip.ipynb"
    assert [(result.mark, result.said) for result in marked.results] == [(0, said)] * 3
    assert marked.notes == [f"chapter 03 {said}"]


def test_a_notebook_without_a_zip_is_marked(chapters, tmp_path):
    zipped = handed_in(tmp_path, chapters, "ada", only=[5])
    path = tmp_path / "guidance of ada.ipynb"
    path.write_bytes(zipfile.ZipFile(zipped).read("05_guidance.ipynb"))
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[5])
    assert (marked.student, [result.mark for result in marked.results]) == ("ada", [1, 1])


def test_hand_ins_of_one_name_are_called_by_their_folders(chapters, tmp_path, asked):
    """As in an export of Moodle."""
    zips = [tmp_path / "Ada L._12_file" / "hand-in.zip", tmp_path / "Bob Ö_13_file" / "Hand-in.zip"]
    for student, path in zip(("ada", "bob"), zips, strict=True):
        path.parent.mkdir()
        handed_in(tmp_path, chapters, student, only=[1]).rename(path)
    zips.append(handed_in(tmp_path, chapters, "cem", only=[1]))
    mark_hand_ins(zips, tmp_path / "marks.csv", chapters, only=[1])
    files = {row["student_id"]: file for file, row in rows_of(tmp_path / "marks.csv").items()}
    assert files == {"ada": "Ada L._12_file/hand-in.zip", "bob": "Bob Ö_13_file/Hand-in.zip", "cem": "cem.zip"}
    for student, file in files.items():
        assert f"# {student}\n" in (tmp_path / "marks" / file).with_suffix(".md").read_text()


def test_a_copy_of_another_edition_is_remarked(chapters, tmp_path, asked):
    """Chapters that were run again, or whose prose was mended, are the same edition."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    chapter = Path(shutil.copy(next(chapters.glob("01_*")), notebooks))
    path = handed_in(tmp_path, notebooks, "ada")
    notebook = nbformat.read(chapter, as_version=4)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
        else:
            cell["source"] += " More of it."
    nbformat.write(notebook, chapter)
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", notebooks)
    assert marked.notes == []
    notebook["cells"].append(new_code_cell("print('a new exercise')"))
    nbformat.write(notebook, chapter)
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", notebooks)
    assert marked.notes == ["chapter 01 is a copy of another edition"]


@pytest.mark.parametrize("metadata", [None, [], "smoke", {"parameters": None}, {"parameters": {"preset": ["smoke"]}}])
def test_metadata_that_names_no_size_is_none_of_a_run(metadata):
    assert marking._preset_of(new_notebook(metadata={"papermill": metadata})) != "smoke"


def test_marks_are_of_the_chapters_that_were_set(chapters, tmp_path):
    path = handed_in(tmp_path, chapters, "ada", SOLUTIONS | {"scores": "return 1"})
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[5, 3])
    assert [result.chapter[:2] for result in marked.results] == ["03", "03", "03", "05", "05"]
    row = rows_of(tmp_path / "marks.csv")["ada.zip"]
    assert (row["score"], row["max_score"], row["remarks"]) == ("5", "5", "")
    assert "5 of 5 exercises are right" in (tmp_path / "marks" / "ada.md").read_text()


def test_a_report_tells_a_blank_from_a_function_without_its_return(chapters, tmp_path):
    written = {"guided_eps": "eps_c + w * (eps_c - eps)"}
    mark_hand_ins([handed_in(tmp_path, chapters, "ada", written, [5])], tmp_path / "marks.csv", chapters, only=[5])
    report = (tmp_path / "marks" / "ada.md").read_text()
    assert "| 05 | probability_of_right | 0 | `not written yet` |" in report
    assert re.search(r"`not yet\. guided_eps\(.*\) with .* returns nothing: is there a 'return' on every way", report)


def test_a_table_of_the_answers_at_a_copys_own_points_is_worth_nothing(chapters, tmp_path):
    exercise, seed = EXERCISES["divergence"], seed_of("ada")
    own = own_numbers(exercise, seed)
    calls, points = calls_of(exercise, seed, own), points_of(exercise, seed, own)
    known = {call: exercise.right(*point) for call, point in zip(calls, points, strict=True)}
    looked_up = SOLUTIONS | {"divergence": f"return {known}.get((mean,), 1e9)"}
    path = handed_in(tmp_path, chapters, "ada", looked_up, only=[1])
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[1])
    (result,) = [each for each in marked.results if each.exercise == "divergence"]
    assert (result.mark, result.said) == (
        0,
        "not yet. It is right at the three points of its copy, and wrong at others.",
    )


@pytest.mark.parametrize("student", ["ada", "Ada"])
def test_a_hand_in_keeps_its_name_though_one_chapter_has_none(chapters, tmp_path, student):
    mixed = tmp_path / "mixed.zip"
    named = handed_in(tmp_path, chapters, student, only=[1])
    unnamed = handed_in(tmp_path, chapters, None, only=[2], name="no")
    with zipfile.ZipFile(mixed, "w") as archive:
        for path in (named, unnamed):
            with zipfile.ZipFile(path) as other:
                for chapter in other.namelist():
                    archive.writestr(chapter, other.read(chapter))
    (marked,) = mark_hand_ins([mixed], tmp_path / "marks.csv", chapters)
    assert marked.student == student
    both = ", ".join(sorted(["None", student]))
    assert marked.remarks == [
        f"its chapters are copies of several students: {both}",
        "made without --student: its numbers are everybody's",
    ]


def own_of(student, name):
    return own_numbers(EXERCISES[name], seed_of(student))[EXERCISES[name].own]


def test_a_marking_that_is_killed_goes_on(chapters, tmp_path):
    zips = [handed_in(tmp_path, chapters, f"s{i}", only=[2]) for i in range(12)]
    command = [sys.executable, "-m", "ddpm", "chapters", "--mark", *map(str, zips), "--only", "2"]
    command += ["--notebooks", str(chapters), "--out", "marks.csv", *(["--unsandboxed"] if NO_SANDBOX else [])]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    until(lambda: len(list((tmp_path / "marks").glob("*.json"))) >= 3)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "marks.csv").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "marks").glob("*.json")}
    assert 3 <= len(before) < 12
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "12 hand-ins: marks.csv, and a report on each in marks\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["score"] for row in rows_of(tmp_path / "marks.csv").values()} == {"2"}
    zips[0].write_bytes(zips[1].read_bytes())  # handed in once more
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    again = [path for path in before if path.stat().st_mtime_ns != before[path]]
    assert {path.stem for path in again} <= {"s0"}
    assert json.loads((tmp_path / "marks" / "s0.json").read_text())["student"] == "s1"


JUDGING = (answering, marking, unpacking, sandbox, hand_in, grading, practicals, blank_page)


@pytest.fixture
def asked(monkeypatch):
    """A list of a line for each chapter of a hand-in that is asked for its answers; none answers, and no sandbox is."""
    chapters = []
    monkeypatch.setattr(marking, "check_sandbox", lambda unsandboxed: None)
    monkeypatch.setattr(marking, "answers_of", lambda cells, calls, *_: chapters.append(list(calls)) or {})
    return chapters


def test_what_is_unchanged_is_marked_again_only_by_force_or_other_exercises(chapters, tmp_path, monkeypatch, asked):
    path = handed_in(tmp_path, chapters, "ada", only=[1])
    mark = partial(mark_hand_ins, [path], tmp_path / "marks.csv", chapters, only=[1])
    mark()
    assert len(asked) == 1
    mark()
    assert len(asked) == 1
    mark(force=True)
    assert len(asked) == 2
    mark(limits=QUICK)
    assert len(asked) == 3
    judged_by = marking._code_of_marking()
    assert all(getsource(exercise.right) in judged_by for exercise in EXERCISES.values())
    assert all(getsource(judge) in judged_by for judge in JUDGES.values())
    assert all(getsource(module) in judged_by for module in JUDGING)
    monkeypatch.setattr(marking, "_code_of_marking", lambda: judged_by + "# corrected")
    mark(limits=QUICK)
    assert len(asked) == 4


def test_other_weights_count_anew_and_mark_nothing_again(chapters, tmp_path, asked):
    path = handed_in(tmp_path, chapters, "ada", only=[2])
    mark = partial(mark_hand_ins, [path], tmp_path / "marks.csv", chapters, only=[2])
    mark()
    mark(weights={"scores": 4})
    assert len(asked) == 1
    (row,) = rows_of(tmp_path / "marks.csv").values()
    assert (row["scores (of 4)"], row["max_score"]) == ("0", "5")
    assert "0 of 2 exercises are right, 0 of 5 points" in (tmp_path / "marks" / "ada.md").read_text()


def test_what_is_unchanged_is_marked_again_where_a_chapter_has_changed(chapters, tmp_path, asked):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    chapter = Path(shutil.copy(next(chapters.glob("01_*")), notebooks))
    path = handed_in(tmp_path, notebooks, "ada")
    mark = partial(mark_hand_ins, [path], tmp_path / "marks.csv", notebooks)
    mark()
    notebook = nbformat.read(chapter, as_version=4)
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell["outputs"] = []
    nbformat.write(notebook, chapter)
    mark()
    assert len(asked) == 1  # it was executed again
    cell["source"] += "\nscale = 2"
    nbformat.write(notebook, chapter)
    mark()
    assert len(asked) == 2


def test_a_chapter_that_grades_what_is_no_exercise_is_named_before_anything_is_marked(chapters, tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    chapter = Path(shutil.copy(next(chapters.glob("01_*")), notebooks))
    path = handed_in(tmp_path, notebooks, "ada")
    chapter.write_text(chapter.read_text(encoding="utf-8").replace("grade(divergence)", "grade(divergenze)"), "utf-8")
    with pytest.raises(ValueError, match="exercise is 'divergenze', which ddpm.companion.exercises does not have"):
        mark_hand_ins([path], tmp_path / "marks.csv", notebooks)
    assert not (tmp_path / "marks").exists()


def test_a_zip_that_is_too_large_is_not_read(chapters, tmp_path, monkeypatch, asked):
    path = handed_in(tmp_path, chapters, "ada", only=[1])
    monkeypatch.setattr(unpacking, "MOST", path.stat().st_size)
    mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[1])
    assert len(asked) == 1
    monkeypatch.setattr(unpacking, "MOST", path.stat().st_size - 1)
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[1], force=True)
    assert {(each.mark, each.said) for each in marked.results} == {(0, "the zip is too large to be read")}
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zips": []}, "there is no hand-in to mark; name the zips"),
        ({"zips": ["none.zip"]}, "'none.zip' is no file that can be read"),
        ({"out": "marks.txt"}, "out is 'marks.txt'; the name of a table of marks must end in .csv"),
        ({"zips": ["b/a.zip", "c/B/A.zip"]}, "two hand-ins are called b/a; their reports would have one name"),
        ({"zips": ["a.zip", "a.ipynb"]}, "two hand-ins are called "),
        ({"out": "c.csv"}, "out is 'c.csv'; there must be no folder 'c.csv'"),
        ({"only": [9]}, "only is 9"),
        ({"only": [1, 9]}, "only is 9; legal are 1, 2, 3, 4, 5, 6"),
        ({"only": 0}, "only is 0; legal are 1, 2, 3, 4, 5, 6"),
        ({"only": []}, "only is []; legal are 1, 2, 3, 4, 5, 6"),
        ({"weights": {"scoers": 2}}, "weight is given for 'scoers'; legal here are divergence, "),
        ({"weights": {"scores": 0}}, "weight of scores is 0; it must be finite and above 0"),
        ({"weights": {"scores": 2}, "only": 3}, "weight is given for 'scores'; legal here are "),
    ],
)
def test_nothing_is_marked_where_something_is_wrong(chapters, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("b", "c/B", "c.csv"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.zip", "a.ipynb", "b/a.zip", "c/B/A.zip"):
        write_zip(tmp_path / name, {})
    zips = [Path(name) for name in arguments.get("zips", ["a.zip"])]
    only, weights = arguments.get("only"), arguments.get("weights")
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        mark_hand_ins(zips, Path(arguments.get("out", "marks.csv")), chapters, only, weights=weights)
    assert not (tmp_path / "marks").exists()


#: What students write beside their functions, in cells of their own; None is the exercise's cell.
HELPED = {
    "a value kept by an if": ["k = 1\nif True:\n    k = k + 1"],
    "a value a loop sums": ["k = 0\nfor _ in range(2):\n    k += 1"],
    "a list that is filled": ["k = []\nfor _ in range(2):\n    k.append(1)\nk = len(k)"],
    "a table that is changed": ["k = {}\nk['a'] = 2\nk = k['a']"],
    "a table that another cell fills": ["k = {}", "k['a'] = 2", "k = k['a']"],
    "a table that another cell updates": ["k = {}", "k.update(a=2)", "k = k['a']"],
    "a list that another cell's loop fills": ["k = []", "for _ in range(2):\n    k.append(1)", "k = len(k)"],
    "a table that a comprehension fills": ["k = []", "[k.append(1) for _ in range(2)]", "k = len(k)"],
    "a value that is taken out": ["k = [1, 2, 3]", "last = k.pop()", "k = len(k)"],
    "a list that is changed in place": ["k = [1, 2, 3]", "del k[0]", "k = len(k)"],
    "a number kept at a function": ["def helper():\n    return helper.n", "helper.n = 2", "k = helper()"],
    "a default": ["k = 2", "def helper(n=k):\n    return n", "k = helper()"],
    "lines for IPython": ["%matplotlib inline\nk = 2\nhelp?\nls = !ls"],
    "a cell that is timed": ["%%time\nk = 2"],
    "a name that is used again": ["k = 2", None, "divergence = 0.3\nk = 2"],
    "a star": ["from math import *\nk = int(sqrt(4))"],
}


@pytest.mark.parametrize("cells", HELPED.values(), ids=list(HELPED))
def test_what_a_function_needs_is_found_in_a_students_own_cells(cells):
    exercise = "import math\n\n\ndef divergence(mean):\n    return k * mean\n\n\ngrade(divergence)"
    own = [(exercise if cell is None else cell, True) for cell in cells]
    own += [] if None in cells else [(exercise, True)]
    assert dict(answers(own, {"divergence": [[3.0]]}, 0, 5, {})) == {"divergence": [6.0]}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("def divergence(mean):\n    return (mean", "SyntaxError, line 4: '(' was never closed"),
        ("def divergence(mean):\nreturn mean", "IndentationError, line 4: expected an indented block"),
        ("def divergence(mean) -> float:\n    return mean)", "SyntaxError, line 4: unmatched ')'"),
    ],
)
@pytest.mark.parametrize("begin", ["import math\n\n", "%%time\nimport math\n", "\n\n"])
def test_a_function_whose_cell_cannot_be_read_is_told_where(lines, said, begin):
    cells = [("mean = 1", True), (begin + lines, True), ("def other(mean):\n    return 1", True)]
    answered = dict(answers(cells, {"divergence": [[3.0]], "other": [[3.0]], "third": [[3.0]]}, 0, 5, {}))
    assert answered["divergence"].startswith(f"needs a cell that does not run: {said}")
    assert answered["other"] == [1.0]
    assert answered["third"] == "raises NameError: third is no function of this notebook"


def test_a_cell_that_is_nested_without_end_costs_its_own_function_alone():
    nested = f"def divergence(mean):\n    return {'-' * 100_000}mean"  # a MemoryError of Python's parser
    cells = [(nested, True), ("def other(mean):\n    return 1", True)]
    answered = dict(answers(cells, {"divergence": [[3.0]], "other": [[3.0]]}, 0, 5, {}))
    assert answered["divergence"].startswith("needs a cell that does not run: ")
    assert answered["other"] == [1.0]


def test_a_number_of_the_copy_stands_whatever_a_later_cell_makes_of_it():
    """The hints of the exercises ask for such cells: "at mean 0 and std 1 the answer must be 0"."""
    exercise = "std = 0.45\n\n\ndef divergence(mean):\n    display(mean)\n    return mean / std\n\n\ngrade(divergence)"
    cells = [(exercise, True), ("std = 1\ndivergence(0)", True)]
    assert dict(answers(cells, {"divergence": [[0.9]]}, 0, 5, {"divergence": {"std": 0.45}})) == {"divergence": [2.0]}


def test_of_the_chapters_own_cells_only_what_is_needed_runs():
    chapter = ["import math", "x = 1\nraise SystemExit", "scale = 2\nfor i in range(10**12):\n    x = i"]
    cells = [*((cell, False) for cell in chapter), ("def divergence(mean):\n    return scale * math.sqrt(mean)", True)]
    assert dict(answers(cells, {"divergence": [[9.0]]}, 0, 5, {})) == {"divergence": [6.0]}


@pytest.mark.parametrize("slow", ["random.seed(0)\n", "random.seen = 0\n"])
def test_what_a_module_is_asked_to_do_does_not_make_an_experiment_needed(slow):
    cells = [("import random", True), (f"{slow}while True:\n    pass", True)]
    cells.append(("def divergence(mean):\n    random.seed(1)\n    return mean", True))
    assert dict(answers(cells, {"divergence": [[3.0]]}, 0, 5, {})) == {"divergence": [3.0]}


@pytest.mark.parametrize("changes", ["divergence.tried = []", "generator.shuffle([1])"])
def test_an_experiment_beside_a_change_in_place_does_not_run(changes):
    cells = [("import random\n\ngenerator = random.Random(0)", False)]
    cells.append(("def divergence(mean):\n    generator.random()\n    return mean", True))
    cells.append((f"{changes}\nwhile True:\n    pass", True))
    assert dict(answers(cells, {"divergence": [[3.0]]}, 0, 5, {})) == {"divergence": [3.0]}


def test_a_student_who_shows_the_chapters_table_does_not_wait_for_its_experiments():
    cells = [("gaps = {}", False), ("while True:\n    gaps[1] = 2", False)]
    cells.append(("def divergence(mean):\n    return mean\n\n\ndisplay(gaps[1])", True))
    assert dict(answers(cells, {"divergence": [[3.0]]}, 0, 5, {})) == {"divergence": [3.0]}


def test_a_student_who_prints_is_judged_by_what_is_returned():
    cell = "def diffusion_model(data, n):\n    print('x: right')\n    return data[:n]"
    (said,) = dict(answers([(cell, True)], {"grade_model": None}, 0, 60, {})).values()
    assert said.startswith("not yet. No optimiser has made a step")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_hidden_points_of_any_hand_in_suit_any_copys_number(name):
    exercise = EXERCISES[name]
    for seed in range(100):
        own, hidden = own_numbers(exercise, seed), 7919 * seed + 1
        at_hidden = points_of(exercise, hidden, own)
        answers_there = [float(exercise.right(*point)) for point in at_hidden]
        assert judged(exercise, answers_there, hidden, own) == "right"
        assert not any(agrees(slip, answers_there, at_hidden) for slip in exercise.slips.values()), seed


def test_a_students_copy_is_written_packed_and_marked(tmp_path):
    """The whole way, on a chapter of one exercise."""
    exercise = (
        "import math\n\nfrom ddpm.companion import grade\n\n\n"
        "def divergence(mean, std):\n    ...  # write me\n\n\ngrade(divergence)"
    )
    parameters = 'preset = "cpu"\ndevice = "auto"\nseed = 0'
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("Write `divergence(mean, std)`."),
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(exercise, metadata={"tags": ["exercises"]}),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "01_small.ipynb")
    (copy,) = write_copies(tmp_path / "notebooks", tmp_path / "ada", student="ada")
    text = copy.read_text(encoding="utf-8")
    assert "Write `divergence(mean)` (the number `std` is your own, and stands above the function)." in text
    copy.write_text(text.replace("...  # write me", SOLUTIONS["divergence"]), encoding="utf-8")
    zipped = pack(tmp_path / "ada", preset="smoke")
    (marked,) = mark_hand_ins([zipped], tmp_path / "marks.csv", tmp_path / "notebooks")
    assert [(each.exercise, each.mark, each.said) for each in marked.results] == [("divergence", 1, "right")]
    assert marked.notes == ["chapter 01 was run at smoke size"]
    assert rows_of(tmp_path / "marks.csv")["ada.zip"]["score"] == "1"


def test_a_table_holds_no_formula(chapters, tmp_path):
    path = handed_in(tmp_path, chapters, "ada", only=[1], name="=1+1")
    mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[1])
    assert list(rows_of(tmp_path / "marks.csv")) == ["'=1+1.zip"]


def test_a_notebook_has_as_long_as_all_its_exercises_together(monkeypatch):
    seen = []
    monkeypatch.setattr(sandbox, "_watch", lambda child, seconds, memory: seen.append(seconds) or child.wait())
    for names in ("a", "abc"):
        sandbox.answers_of([("", True)], {name: [(1.0,)] for name in names}, 0, {}, Limits(seconds=7), unsandboxed=True)
    assert seen == [14, 21]


@pytest.mark.parametrize("home", ["", "me"])
def test_a_home_that_would_be_seen_in_the_sandbox_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(
        ValueError, match=f"^your home, {tmp_path / home}, lies in {tmp_path}, which a hand-in can read"
    ):
        sandbox._walls(True, QUICK)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "me" / "python"))
    assert str(tmp_path / "me" / "python") in sandbox._walls(True, QUICK)


def test_without_a_sandbox_it_refuses_unless_told(chapters, tmp_path, monkeypatch):
    path = handed_in(tmp_path, chapters, "s1", only=[2])
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="bubblewrap is not installed.*may read, send and delete whatever you may$"):
        mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[2], unsandboxed=False)
    (marked,) = mark_hand_ins([path], tmp_path / "marks.csv", chapters, only=[2], unsandboxed=True)
    assert [result.mark for result in marked.results] == [1, 1]
