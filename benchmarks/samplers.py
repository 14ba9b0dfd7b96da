"""Quality against network calls: the Frechet distance of each sampler's images at equal numbers of calls.

    python benchmarks/samplers.py

All samplers draw from the shipped model, in 10, 20 and 50 calls. Five of them, those of the *curve*, go on to 250 calls
and draw from three seeds. The sampler that `ddpm.sample` takes by default is tried around its own number of calls, from
three seeds, too. In a *guided* row the prediction is pushed away from that of a worse model (`ddpm.denoiser.Guided`),
and calls of both count. The script writes `book/results/samplers.json` after every row. Started again for the same
weights, it resumes where it stopped; a file of other weights, another guide or another number of images it refuses.

All of that is 117 rows. The committed file holds 71: those of seed 0, without the curve in 100 calls, DDIM and
DPM-Solver++ on Karras's grid in 10 and 20, and the default in 16; those of seeds 1 and 2 in up to 20 calls, but of the
curve in 20 not for every sampler; and some in more calls: Heun with and without churn on Karras's grid in 50, and
ancestral sampling in 250. Beside these stands one that is guided in 100 calls, as `--calls 100` asks for it.
"""

import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

import ddpm
from ddpm import metrics
from ddpm.companion.long_runs import chosen, kept_rows, measured_with, over_seeds, processor, weights_hash
from ddpm.denoiser import Denoiser, Guided
from ddpm.files import write_json
from ddpm.metrics.features import FEATURES, FEATURES_SHA256

RESULTS = Path(__file__).parents[1] / "book" / "results" / "samplers.json"
GUIDE, WEIGHT = "equal-diffusion", 1.6
CHURN = 10.0  # S_churn of Karras et al. (2022)


class Sampler(NamedTuple):
    """How a row's images are drawn."""

    walk: str
    options: dict[str, Any] = {}  # noqa: RUF012 (a default that is never changed)
    guided: bool = False
    calls: tuple[int, ...] = (10, 20, 50)
    seeds: tuple[int, ...] = (0,)

    def steps(self, calls: int) -> int:
        """Moves that take at most so many calls, but at least one move."""
        return max(1, calls // (2 if self.guided or self.walk == "heun" else 1))

    def calls_of(self, steps: int) -> int:
        """Network calls of so many moves."""
        if self.walk == "heun":
            return 2 * steps - 1  # the last move takes one call
        return 2 * steps if self.guided else steps


KARRAS, LOG_SNR = {"spacing": "karras"}, {"spacing": "log_snr"}
STILL = KARRAS | {"coordinates": "sigma"}  # Heun as with churn, but without it
CURVE: dict[str, Any] = {"calls": (10, 20, 50, 100, 250), "seeds": (0, 1, 2)}
SAMPLERS = {
    "DDIM": Sampler("ddim", **CURVE),
    "ancestral, small variance": Sampler("ancestral", {"variance": "small"}, **CURVE),
    "DPM-Solver++(2M)": Sampler("dpm_solver_pp", **CURVE),
    "flow and half of Langevin": Sampler("flow_and_langevin", {"weight": 0.5}, **CURVE),
    "Heun with churn": Sampler("heun", STILL | {"churn": CHURN}, **CURVE),
    "ancestral, large variance": Sampler("ancestral", {"variance": "large"}),
    "Heun": Sampler("heun"),
    "Heun, in sigma": Sampler("heun", {"coordinates": "sigma"}),
    "Heun, in sigma, Karras's grid": Sampler("heun", STILL, calls=(10, 20, 50, 250), seeds=(0, 1, 2)),
    "DDIM, Karras's grid": Sampler("ddim", KARRAS),
    "DPM-Solver++(2M), Karras's grid": Sampler("dpm_solver_pp", KARRAS),
    "DPM-Solver++(2M), grid even in log SNR": Sampler("dpm_solver_pp", LOG_SNR, calls=(10, 12, 16), seeds=(0, 1, 2)),
    "DDIM, Karras's grid, guided": Sampler("ddim", KARRAS, guided=True),
    "DPM-Solver++(2M), Karras's grid, guided": Sampler("dpm_solver_pp", KARRAS, guided=True),
}


def main(
    model: Annotated[str, typer.Option(help="A model that ships, or a run's folder.")] = "fashion-mnist",
    n: Annotated[int, typer.Option("--n", min=FEATURES + 1, max=60_000, help="Images for each row.")] = 2000,
    sampler: Annotated[
        list[str] | None, typer.Option(help="Sampler of the table. Repeat for several; all of them if none is given.")
    ] = None,
    calls: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Network calls for each image. Repeat for several; by default each sampler's own."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seed of all noise. Repeat for several; by default each sampler's own."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File of the table (.json).")] = RESULTS,
) -> None:
    """Measure every sampler at every number of calls; the 71 committed rows took nine hours on two CPU threads."""
    names = chosen("sampler", sampler, SAMPLERS)
    what = {"weights": weights_hash(model), "guide": weights_hash(GUIDE), "n": n}
    rows = kept_rows(out, what, by=("sampler", "network calls", "seed"))
    denoise = ddpm.load(model)
    guided: Denoiser = denoise
    if any(SAMPLERS[name].guided for name in names):
        guided = Guided(denoise, ddpm.load(GUIDE), WEIGHT)
    wanted = [(name, seed or SAMPLERS[name].seeds, calls or SAMPLERS[name].calls) for name in names]
    jobs = [(one, most, name) for name, seeds, budgets in wanted for one in seeds for most in budgets]
    for one, most, name in sorted(jobs, key=lambda job: job[:2]):  # the cheap rows of a seed first
        how = SAMPLERS[name]
        steps = how.steps(most)
        asked = how.calls_of(steps)
        if (name, asked, one) in rows:
            continue
        start = time.perf_counter()
        images = ddpm.sample(guided if how.guided else denoise, n, how.walk, steps, one, **how.options)
        seconds = time.perf_counter() - start
        distance = metrics.frechet_distance(images, weights="EMA")
        rows[name, asked, one] = {
            "sampler": name,
            "network calls": asked,
            "seed": one,
            "Frechet distance": f"{distance.value:.2f}",
            "bootstrap sd": f"{distance.spread:.2f}",
            "seconds": f"{seconds:.0f}",
        }
        typer.echo(f"{name}, {asked} calls, seed {one}: {distance}")
        write_json(out, with_conditions(list(rows.values()), what, distance.floor))


def with_conditions(rows: list[dict[str, Any]], what: dict[str, Any], floor: float) -> dict[str, Any]:
    """All that the file of results holds."""
    ordered = sorted(rows, key=lambda row: (list(SAMPLERS).index(row["sampler"]), row["network calls"], row["seed"]))
    made = measured_with(
        sum(float(row["seconds"]) for row in ordered),
        sorted({row["seed"] for row in ordered}),
    )
    return {
        "table": over_seeds(ordered, ("sampler", "network calls")),
        "rows": ordered,
        "floor": f"{floor:.2f}",
        "conditions": (
            f"Frechet distance in the frozen 64-feature classifier {FEATURES_SHA256[:8]}, whitened; "
            f"{what['n']:,} images against all 10,000 test images; EMA weights {what['weights'][:8]}; trailing grids "
            "where none is named. With several seeds of the samples it is their mean ± their standard deviation, "
            "which two seeds hardly tell, else seed 0 is meant; samplers with the same seed begin from the same noise. "
            "Bootstrap sd: how much a distance scatters when the images are drawn again from the set (the first "
            f"seed's). Heun with churn: in sigma, on Karras's grid, with churn {CHURN:g}. Guided: by {GUIDE}, which is "
            f"called as often, with weight {WEIGHT}; of 1, 1.3, 1.6 and 2 the best with an earlier guide of the same "
            "kind, on 1,000 images in 20 steps and the same test images. "
            "Computed in bfloat16 where the processor multiplies it in hardware; on two of these a distance differed "
            f"by up to 0.03. The floor, {what['n']:,} real training images against the same: {floor:.2f}. On "
            f"{processor()}, {date.today()}."
        ),
        "provenance": made | what,
    }


if __name__ == "__main__":
    typer.run(main)
