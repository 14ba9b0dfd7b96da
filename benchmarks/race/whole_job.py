"""Images from the shipped weights: in this process, and by what is typed at a command line."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import ddpm
from ddpm.denoiser import NetworkDenoiser
from ddpm.interop import unet_to_diffusers
from ddpm.walks import DEFAULT_WALK
from race.clock import interleave, median, ratios
from race.networks import DEVICE, ON_GPU, Settings, compiled, tuned, wait
from race.search import WIDTHS, best_of

BY_DEFAULT = f"ddpm, by default: {DEFAULT_WALK.steps} steps of DPM-Solver++"
BY_STUDENT = "ddpm, the student: 4 steps"
BEST_SAMPLER = f"diffusers, best settings, {DEFAULT_WALK.steps} steps of its DPM-Solver++"


def whole_job(found: Sequence[dict[str, Any]], n: int, chunk: int) -> list[dict[str, Any]]:
    """Time `n` images from the shipped weights; contestants take turns after each chunk.

    All draw in 50 steps of DDIM, but for this package as it is by default, diffusers with the same sampler, and the
    student that ships.
    """
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DPMSolverMultistepScheduler

    denoise, student = ddpm.load("fashion-mnist"), ddpm.load("fashion-mnist-4-calls")
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing",
        prediction_type={"eps": "epsilon", "x0": "sample", "v": "v_prediction"}[denoise.target],
    )  # fmt: skip
    plain = ddpm.load("fashion-mnist", "float32").network

    def pipeline(settings: Settings, dpm_solver: bool = False) -> Callable[[], None]:
        network = tuned(unet_to_diffusers(plain, 32), settings)
        network = compiled(network) if settings.compiled else network
        pipe, steps = DDIMPipeline(network, scheduler), 50
        if dpm_solver:
            even = DPMSolverMultistepScheduler.from_config(scheduler.config, use_lu_lambdas=True)
            pipe, steps = DDPMPipeline(network, even), DEFAULT_WALK.steps  # which takes any scheduler
        pipe.set_progress_bar_config(disable=True)

        def run() -> None:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=settings.bfloat16):
                pipe(batch_size=chunk, num_inference_steps=steps, output_type="pt")
            wait()

        return run

    def ours(model: NetworkDenoiser, sampler: str | None = None) -> Callable[[], None]:
        def run() -> None:
            ddpm.sample(model, chunk, sampler, chunk=chunk, progress=False)
            wait()

        return run

    best = best_of(found, "diffusers", "forward", WIDTHS[0])
    works = {
        "ddpm": ours(denoise, "ddim"),
        BY_DEFAULT: ours(denoise),
        BY_STUDENT: ours(student),
        "diffusers, as shipped": pipeline(Settings("diffusers")),
        "diffusers, best settings": pipeline(best),
        BEST_SAMPLER: pipeline(best, dpm_solver=True),
    }
    for work in works.values() if ON_GPU else ():  # compilation is counted elsewhere
        work()
    times = {name: [] for name in works}
    for number in range(n // chunk):
        for name in sorted(works, key=lambda name: (list(works).index(name) + number) % len(works)):
            start = time.perf_counter()
            works[name]()
            times[name].append(time.perf_counter() - start)
    rows = []
    for name, spent in times.items():
        rows.append({
            "contestant": name, "images": len(spent) * chunk, "seconds": round(sum(spent), 1),
            **ratios(spent, times["ddpm"], "ratio"),
        })  # fmt: skip
    return rows


def command_lines(found: Sequence[dict[str, Any]], folder: Path, n: int = 64) -> dict[str, list[str]]:
    """What is typed to draw `n` garments: by this package, and by diffusers from the weights exported to `folder`."""
    ours = [sys.executable, "-m", "ddpm", "sample", "--n", str(n), "--out", str(folder / "ours.png")]
    script = str(Path(__file__).parents[1] / "diffusers_sample.py")
    theirs = [sys.executable, script, str(folder / "pipeline"), str(folder / "theirs.png"), "--n", str(n)]
    # `diffusers_sample.py` has no float32 norms, and whoever draws one grid does not wait for a compilation
    plain = [row for row in found if not (row["float32_norm"] or row["compiled"])]
    best = best_of(plain, "diffusers", "forward", WIDTHS[0])
    options = {
        "--channels-last": best.channels_last,
        "--bfloat16": best.bfloat16,
        "--bfloat16-weights": best.bfloat16_weights,
        "--other-attention": best.other_attention,
    }
    tuned_as = [*theirs, *(option for option, is_used in options.items() if is_used)]
    return {
        "ddpm": [*ours, "--sampler", "ddim"],
        BY_DEFAULT: ours,
        BY_STUDENT: [*ours, "--model", "fashion-mnist-4-calls"],
        "diffusers, as shipped": theirs,
        "diffusers, best settings": tuned_as,
        BEST_SAMPLER: [*tuned_as, "--dpm-solver", "--steps", str(DEFAULT_WALK.steps)],
    }


def command_line(found: Sequence[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """Seconds from the command to the picture of 64 garments, with the start of Python and torch; in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = [sys.executable, "-m", "ddpm", "export", str(folder / "pipeline")]
        subprocess.run(export, check=True, capture_output=True)
        typed = command_lines(found, folder)
        works = {
            contestant: lambda command=command: subprocess.run(command, check=True, capture_output=True)
            for contestant, command in typed.items()
        }
        works["python -c 'import torch'"] = lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True)
        times = interleave(works, rounds, warm_up=1)  # which fills the disk's cache; nothing else outlives a process
    return [
        {"contestant": contestant, "seconds": median(spent), **ratios(spent, times["ddpm"], "ratio")}
        for contestant, spent in times.items()
    ]
