"""Quality in very few network calls: students of the shipped model, their teacher, and the teacher guided.

    ddpm distill fashion-mnist --calls 8 --teacher-calls 32 --at-once 4 \
        --steps 2400 --learning-rate 1e-3 --threads 1 --out runs/eight
    ddpm distill runs/eight --calls 4 --steps 1200 --learning-rate 1e-3 --threads 1 --out runs/four
    ddpm distill runs/four --calls 1 --steps 1200 --learning-rate 1e-3 --threads 1 --out runs/one
    python benchmarks/distillation.py runs/eight runs/four runs/one

A student draws in the number of calls that it was distilled for. The teacher draws in as many by DDIM, and by
DPM-Solver++(2M) on a grid even in log SNR, which is the package's default, alone and guided by a worse model
(`ddpm.denoiser.Guided`), whose calls count. The script writes `book/results/distillation.json` after every row, and a
picture of what the students draw beside it. Started again for the same weights, it resumes where it stopped; a file
of other weights, another guide or another number of images it refuses.
"""

import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

import ddpm
from ddpm import metrics, pretrained
from ddpm.companion.figures import image_rows, use_style
from ddpm.companion.long_runs import chosen, kept_rows, machine, measured_with, over_seeds, processor, weights_hash
from ddpm.denoiser import Denoiser, Guided, NetworkDenoiser
from ddpm.files import read_json, write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256

RESULTS = Path(__file__).parents[1] / "book" / "results" / "distillation.json"
TEACHER, GUIDE, WEIGHT = "fashion-mnist", "equal-diffusion", 1.6
STUDENT = "student"
CALLS = (1, 2, 4, 8)


class Row(NamedTuple):
    """How a row's images are drawn, and in how many calls."""

    calls: tuple[int, ...]
    sampler: str = "ddim"
    spacing: str = "trailing"
    guided: bool = False


ROWS = {
    STUDENT: Row(CALLS),
    "teacher, DDIM": Row((*CALLS, 10, 20, 50)),
    "teacher, DPM-Solver++(2M), grid even in log SNR": Row((4, 8, 12), "dpm_solver_pp", "log_snr"),
    "teacher, the same, guided": Row((4, 8, 12, 24), "dpm_solver_pp", "log_snr", guided=True),
}


def main(
    runs: Annotated[list[Path], typer.Argument(help="The folders of runs of `ddpm distill`.")],
    teacher: Annotated[
        str, typer.Option(help="The model that was distilled: one that ships, or a run's folder.")
    ] = TEACHER,
    n: Annotated[int, typer.Option("--n", min=FEATURES + 1, max=60_000, help="Images for each row.")] = 2000,
    row: Annotated[
        list[str] | None, typer.Option(help="Row of the table. Repeat for several; all of them if none is given.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seed of all noise. Repeat for several; 0, 1 and 2 if none is given."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Measure every row; with a network as large as the shipped one an hour on one CPU thread."""
    names = chosen("row", row, ROWS)
    folders, own, guide = students_in(runs), ddpm.load(teacher), ddpm.load(GUIDE)
    students = {calls: ddpm.load(folders[calls]) for calls in sorted(folders)}
    of_students = {str(calls): weights_hash(folder) for calls, folder in folders.items()}
    what = {"teacher": weights_hash(teacher), "students": of_students, "guide": weights_hash(GUIDE), "n": n}
    rows = kept_rows(out, what, by=("model", "network calls", "seed"))
    draw(students, out.with_suffix(".png"))
    jobs = [(one, calls, name) for name in names for one in seed or (0, 1, 2) for calls in ROWS[name].calls]
    for one, calls, name in sorted(jobs, key=lambda job: job[:2]):  # the cheap rows of a seed first
        if (name, calls, one) in rows or (name == STUDENT and calls not in students):
            continue
        how = ROWS[name]
        model: Denoiser = own
        if name == STUDENT:
            model = students[calls]
        elif how.guided:
            model = Guided(own, guide, WEIGHT)
        steps = calls // 2 if how.guided else calls
        start = time.perf_counter()
        images = ddpm.sample(model, n, how.sampler, steps, one, spacing=how.spacing)
        seconds = time.perf_counter() - start
        distance = metrics.frechet_distance(images, weights="EMA")
        rows[name, calls, one] = {
            "model": name,
            "network calls": calls,
            "seed": one,
            "Frechet distance": f"{distance.value:.2f}",
            "bootstrap sd": f"{distance.spread:.2f}",
            "seconds": f"{seconds:.0f}",
        }
        typer.echo(f"{name}, {calls} calls, seed {one}: {distance}")
        write_json(out, with_conditions(list(rows.values()), what, distance.floor))


def draw(students: dict[int, NetworkDenoiser], path: Path) -> None:
    """Save what every student draws from the same ten noises, a row for each."""
    use_style()
    figure = image_rows({f"student, {calls}": ddpm.sample(students[calls], 10) for calls in students})
    figure.savefig(path, bbox_inches="tight")


def students_in(runs: list[Path]) -> dict[int, Path]:
    """The folders of the students of these runs, by the calls that they were distilled for."""
    students = {}
    for run in runs:
        for folder in (run, *sorted((run / "teachers").glob("calls-*"))):
            calls = getattr(pretrained.facts(folder.resolve()).config, "distilled_for", None)
            if calls is None:
                raise typer.BadParameter(f"runs is {str(run)!r}; it must be the folder of a run of ddpm distill")
            record = read_json(folder / "config.json")
            if record["step"] < record["training"]["steps"]:
                raise typer.BadParameter(f"runs has a student that is not finished, {folder}: step {record['step']}")
            if calls in students:
                raise typer.BadParameter(f"runs has two students of {calls} calls, {students[calls]} and {folder}")
            students[calls] = folder.resolve()
    return students


def with_conditions(rows: list[dict[str, Any]], what: dict[str, Any], floor: float) -> dict[str, Any]:
    """All that the file of results holds."""
    ordered = sorted(rows, key=lambda row: (list(ROWS).index(row["model"]), row["network calls"], row["seed"]))
    made = measured_with(
        sum(float(row["seconds"]) for row in ordered),
        sorted({row["seed"] for row in ordered}),
    )
    is_guided = any(ROWS[row["model"]].guided for row in ordered)
    guided = f"Guided: by {GUIDE}, which is called as often, with weight {WEIGHT}. " if is_guided else ""
    return {
        "table": over_seeds(ordered, ("model", "network calls")),
        "rows": ordered,
        "floor": f"{floor:.2f}",
        "conditions": (
            f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; "
            f"{what['n']:,} images against all 10,000 test images; EMA weights {what['teacher'][:8]} of the teacher. "
            "A student of so many calls draws by DDIM on the trailing grid, as the teacher's DDIM does. With several "
            "seeds of the samples it is their mean ± their standard deviation, of one training each; rows "
            "with the same seed begin from the same noise. "
            "Bootstrap sd: how much a distance scatters when the images are drawn again from the set (the first "
            f"seed's). {guided}"
            f"The floor, {what['n']:,} real training images against the same: {floor:.2f}. "
            f"On {machine()} ({processor()}), {date.today()}."
        ),
        "provenance": made | what,
    }


if __name__ == "__main__":
    typer.run(main)
