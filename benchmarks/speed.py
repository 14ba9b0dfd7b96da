"""Speed: this package and its peers on the same work in one process, each as shipped and at its best settings.

    python benchmarks/speed.py            # everything, about half an hour on two CPU cores
    python benchmarks/speed.py --quick    # under three minutes there; prints, and writes nothing

How long it takes on a GPU has not been measured. A race that is stopped goes on where it stopped, by a second call with
the same options, on the same machine, at the same commit and with the same versions; otherwise it begins anew.

Contestants take turns, so that other load on the machine falls on all of them; the ratios within a round are what
counts. A search over all settings of the peers finds their best ones and is kept, with its results, in
`book/results/speed.json` (on a GPU in `book/results/gpu/speed.json`), where a quick run reads them. diffusers runs with
this package's weights.
"""

import gc
import itertools
import json
import math
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar
from unittest.mock import patch

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import ddpm
from ddpm.companion.figures import COLOURS, use_style
from ddpm.companion.long_runs import measured_with, processor
from ddpm.companion.provenance import commit
from ddpm.companion.results import markdown_table
from ddpm.data import load, normalise
from ddpm.denoiser import NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.fast import Recorded, has_fast_bfloat16, in_walk, keep_freed_memory, prepared
from ddpm.files import read_json, write_json
from ddpm.interop import unet_to_diffusers
from ddpm.metrics.fidelity import psnr
from ddpm.targets import prediction_of
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.unet import UNet, UNetConfig
from ddpm.walks import DEFAULT_WALK

ROOT = Path(__file__).parents[1]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = DEVICE.type == "cuda"
RESULTS = ROOT / "book" / "results" / ("gpu/speed.json" if ON_GPU else "speed.json")
UNFINISHED = ROOT / "_build" / "speed-unfinished.json"  # of a race that was stopped, which leaves RESULTS as they are
FIGURE = ROOT / "book" / "assets" / ("speed-gpu.svg" if ON_GPU else "speed.svg")
WIDTHS = (128,) if ON_GPU else (32, 64)
BATCHES = (64,) if ON_GPU else (1, 16, 64)
SEARCH_BATCH = 64 if ON_GPU else 16
# Calls before a contestant is timed. On a GPU the last of them records the kernels of this package's network; those of
# a compiled one are recorded in the second.
WARM_UP = Recorded.FIRST_CALLS + 1 if ON_GPU else 1
LATER = "fourth call" if ON_GPU else "third call"  # in a table beside the first one

IN_TF32 = "Convolutions in float32 round their factors to TF32 here, which is torch's default on a GPU."
SHIPPED = "as shipped"
WORK = {"training": "in a training step", "forward": "in a forward pass"}


@dataclass(frozen=True)
class Settings:
    """A library and how it is run; as shipped, every option is False."""

    library: str
    channels_last: bool = False
    bfloat16: bool = False  # autocast
    other_attention: bool = False  # diffusers: the plain formula, not the fused kernel; other peer: the reverse
    float32_norm: bool = False  # GroupNorm in float32
    compiled: bool = False
    bfloat16_weights: bool = False  # the whole network and its input, as by .to(torch.bfloat16)

    @property
    def how(self) -> str:
        """The options in words."""
        return " + ".join(name.replace("_", " ") for name, value in asdict(self).items() if value is True) or SHIPPED

    def __str__(self) -> str:
        return f"{self.library}, {self.how}"


Contestant = TypeVar("Contestant", str, Settings)
OURS = Settings("ddpm", channels_last=True, bfloat16=has_fast_bfloat16(DEVICE))
PEERS = ("diffusers", "denoising-diffusion-pytorch")
BY_DEFAULT = f"ddpm, by default: {DEFAULT_WALK.steps} steps of DPM-Solver++"
BY_STUDENT = "ddpm, the student: 4 steps"
BEST_SAMPLER = f"diffusers, best settings, {DEFAULT_WALK.steps} steps of its DPM-Solver++"


def choices(library: str, mode: str) -> list[Settings]:
    """Every way to run a peer; on a GPU also compiled, but in bfloat16 and channels last only: compiling takes long.

    Weights in bfloat16 are for sampling alone: an optimiser's small steps would be lost in their rounding. Norms in
    float32 are for autocast, which converts what they answer.
    """
    names = ["channels_last", "bfloat16", "other_attention"]
    names += ["float32_norm"] if library == "diffusers" else []
    names += ["bfloat16_weights"] if mode == "forward" else []
    space = itertools.product((False, True), repeat=len(names))
    found = [Settings(library, **dict(zip(names, values, strict=True))) for values in space]
    if ON_GPU:
        found.append(Settings(library, channels_last=True, bfloat16=True, compiled=True))
        if mode == "forward":
            found.append(Settings(library, channels_last=True, bfloat16_weights=True, compiled=True))
    return [s for s in found if s.bfloat16 or not s.float32_norm]


class Float32Norm(nn.GroupNorm):
    """GroupNorm on float32 input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def tuned(network: nn.Module, settings: Settings) -> nn.Module:
    """Put a network on the device, with the memory layout, weights, attention and norms of its settings."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    if settings.bfloat16_weights:
        network.to(torch.bfloat16)
    for module in network.modules():
        if isinstance(module, Attention) and settings.other_attention:
            module.set_processor(AttnProcessor())
        if type(module) is nn.GroupNorm and settings.float32_norm:
            module.float().__class__ = Float32Norm
    return network.to(DEVICE, memory_format=torch.channels_last if settings.channels_last else torch.contiguous_format)


def network_of(settings: Settings, unet: UNetConfig, image_size: int = 32) -> nn.Module:
    """A network of one library, called with (x, t)."""
    torch.manual_seed(0)
    config = DiffusionConfig(unet)
    network: nn.Module
    if settings.library == "denoising-diffusion-pytorch":
        from denoising_diffusion_pytorch import Unet

        levels = len(unet.channel_multipliers)
        network = Unet(
            unet.base_channels, dim_mults=unet.channel_multipliers, channels=unet.channels,
            full_attn=tuple(level in unet.attention_levels for level in range(levels)),
            flash_attn=settings.other_attention,
        )  # fmt: skip
    else:
        network = config.network()
        for parameter in network.parameters():  # so that no branch is silent
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        if settings.library == "diffusers":
            network = unet_to_diffusers(network, image_size).train()
    return tuned(network, settings)


def compiled(network: nn.Module) -> nn.Module:
    """A network that is compiled in its first call, with its kernels recorded in CUDA graphs."""
    network.compile(mode="reduce-overhead")
    return network


def wait() -> None:
    """Wait until the device has done its work."""
    if ON_GPU:
        torch.cuda.synchronize()


def answer_of(network: Any, settings: Settings, x: Tensor, t: Tensor) -> Tensor:
    """What a network with these settings says of x (batch, channels, height, width) at its times t (batch,)."""
    x = x.to(torch.bfloat16) if settings.bfloat16_weights else x
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=settings.bfloat16):
        output = network(x, t)
    return output.sample if settings.library == "diffusers" else output


def work_of(settings: Settings, mode: str, unet: UNetConfig, batch: int, size: int = 32) -> Callable[[], None]:
    """One training step or one forward pass in sampling, as a function without arguments."""
    network = network_of(settings, unet, size)
    if mode == "forward":
        network.eval().requires_grad_(False)
    run: Any = compiled(network) if settings.compiled else network
    if settings.library == "ddpm" and mode == "forward" and not settings.compiled:
        with prepared(network, settings.bfloat16):  # as in a walk
            run = in_walk(network, settings.bfloat16)
    x = torch.randn(batch, unet.channels, size, size, device=DEVICE)

    def answer(t: Tensor) -> Tensor:
        return answer_of(run, settings, x, t)

    if mode == "forward":
        one_time = torch.full((batch,), 500.0, device=DEVICE)

        def forward() -> None:
            with torch.no_grad():
                answer(one_time)
            wait()

        return forward
    times = torch.arange(batch, device=DEVICE) % 1000
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        F.mse_loss(answer(times).float(), x).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        wait()

    return step


def seconds(work: Callable[[], None], at_least: float = 0.2) -> float:
    """Seconds of one call, which is repeated until the clock's resolution and an interruption matter little."""
    start, calls = time.perf_counter(), 0
    while True:
        work()
        calls += 1
        if (passed := time.perf_counter() - start) >= at_least:
            return passed / calls


def interleave(
    works: dict[Contestant, Callable[[], None]], rounds: int, warm_up: int = WARM_UP
) -> dict[Contestant, list[float]]:
    """Seconds per call of each contestant in every round; each round begins with another contestant."""
    names = list(works)
    times: dict[Contestant, list[float]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(warm_up):
            work()
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(seconds(works[name]))
    return times


def ceiling(dtype: torch.dtype) -> float:
    """The most FLOP/s that a square matrix product or a 3 x 3 convolution reaches, each timed five times."""
    side = 8192 if ON_GPU else 2048
    a = torch.randn(side, side, device=DEVICE, dtype=dtype)
    x = torch.randn(64, 64, 32, 32, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)

    def product() -> None:
        a @ a
        wait()

    def convolution() -> None:
        F.conv2d(x, weight, padding=1)
        wait()

    works = ((product, 2 * side**3), (convolution, 2 * 64 * 64 * 9 * x[:, :1].numel()))
    with torch.no_grad():
        return max(flops / min(seconds(work) for _ in range(5)) for work, flops in works)


def flops(settings: Settings, unet: UNetConfig, size: int = 32) -> float:
    """FLOPs of one image's forward pass, as torch counts them (convolutions and products)."""
    x, t = torch.randn(1, unet.channels, size, size, device=DEVICE), torch.zeros(1, device=DEVICE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        answer_of(network_of(settings, unet, size), settings, x, t)
    return counter.get_total_flops()


def unet_of(base_channels: int, blocks_per_level: int = 2) -> UNetConfig:
    """The UNet of the comparison: multipliers 1, 2, 4, attention at the lowest level and in the middle."""
    return UNetConfig(base_channels=base_channels, blocks_per_level=blocks_per_level)


def search(batch: int, rounds: int, found: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Time every setting of every peer, in training and in sampling, at each width, where the peer can run it.

    Yields the rows of one peer in one mode at one width; those that are in `found` are not searched again.
    """
    known = {(row["mode"], row["C"], row["library"]) for row in found}
    for mode, width, library in itertools.product(("training", "forward"), WIDTHS, PEERS):
        if (mode, width, library) in known:
            continue
        works = {}
        for settings in choices(library, mode):
            work = work_of(settings, mode, unet_of(width), batch)
            try:
                work()
            except RuntimeError as error:  # a fused kernel that the device has in other types only
                typer.echo(f"{settings} does not run here: {str(error).splitlines()[0]}")
            else:
                works[settings] = work
        rows = [
            {"mode": mode, "C": width, "batch": batch, **asdict(settings), "seconds": _median(times)}
            for settings, times in interleave(works, rounds).items()
        ]
        typer.echo(f"search, {mode}, C = {width}: {best_of(rows, library, mode, width)}")
        yield rows


def best_of(rows: Sequence[dict[str, Any]], library: str, mode: str, width: int) -> Settings:
    """The fastest setting that a search found."""
    rows = [row for row in rows if (row["library"], row["mode"], row["C"]) == (library, mode, width)]
    row = min(rows, key=lambda row: row["seconds"])
    return Settings(**{name: row[name] for name in Settings.__dataclass_fields__ if name in row})


def contestants(found: Sequence[dict[str, Any]], mode: str, width: int) -> dict[str, Settings]:
    """This package, as it is and in float32, and each peer as shipped and at its best settings."""
    field = {"ddpm": OURS, "ddpm, float32": replace(OURS, bfloat16=False)}
    if ON_GPU:
        field["ddpm, compiled"] = replace(OURS, compiled=True)
    for library in PEERS:
        field[f"{library}, as shipped"] = Settings(library)
        field[f"{library}, best settings"] = best_of(found, library, mode, width)
    return field


def compare(
    found: Sequence[dict[str, Any]], widths: Sequence[int], batches: Sequence[int], rounds: int
) -> Iterator[dict[str, Any]]:
    """Rows of the comparison: seconds, ratio to this package in each round, share of the ceiling."""
    for mode, width, batch in itertools.product(("training", "forward"), widths, batches):
        field = contestants(found, mode, width)
        top = {dtype: ceiling(dtype) for dtype in (torch.float32, torch.bfloat16)}
        works = {name: work_of(settings, mode, unet_of(width), batch) for name, settings in field.items()}
        times = interleave(works, rounds)
        for name, settings in field.items():
            rate = flops(settings, unet_of(width)) * batch * (3 if mode == "training" else 1) / _median(times[name])
            in_bfloat16 = settings.bfloat16 or settings.bfloat16_weights
            row: dict[str, Any] = {
                "mode": mode, "C": width, "batch": batch, "contestant": name, "settings": str(settings),
                "seconds": _median(times[name]),
                **ratios(times[name], times["ddpm"], "ratio"),
                "GFLOP/s": round(rate / 1e9, 1),
                "of ceiling": round(rate / top[torch.bfloat16 if in_bfloat16 else torch.float32], 3),
            }  # fmt: skip
            typer.echo(
                f"  {mode:9} C {width:3} batch {batch:3}  {name:45} {row['seconds']:9.4g} s  {row['ratio min']:5.2f} "
                f"{row['ratio']:5.2f} {row['ratio max']:5.2f}  {percent(row['of ceiling'])} of ceiling"
            )
            yield row
        del works
        gc.collect()


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
    script = str(Path(__file__).with_name("diffusers_sample.py"))
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
        {"contestant": contestant, "seconds": _median(spent), **ratios(spent, times["ddpm"], "ratio")}
        for contestant, spent in times.items()
    ]


def alone(found: Sequence[dict[str, Any]], width: int, batch: int) -> list[dict[str, Any]]:
    """Peak memory and the cost of the first call, with each contestant in a process of its own."""
    rows = []
    for mode in ("training", "forward"):
        for name, settings in contestants(found, mode, width).items():
            task = json.dumps({"settings": asdict(settings), "mode": mode, "width": width, "batch": batch})
            done = subprocess.run(
                [sys.executable, __file__, "--alone", task], capture_output=True, text=True, check=True
            )
            rows.append({"mode": mode, "C": width, "batch": batch, "contestant": name, **json.loads(done.stdout)})
    return rows


def alone_in_this_process(task: str) -> None:
    """Print what one contestant's first call costs, and one for which nothing is left to prepare, as JSON."""
    asked = json.loads(task)
    settings = Settings(**asked["settings"])
    start = time.perf_counter()
    work = work_of(settings, asked["mode"], unet_of(asked["width"]), asked["batch"])
    before = _megabytes()
    built = time.perf_counter()
    spent = []
    for _ in range(4 if ON_GPU else 3):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    print(json.dumps({
        "build": round(built - start, 2), "first call": round(spent[0], 3), LATER: round(spent[-1], 3),
        "MB before": before, "peak MB": _megabytes(),
    }))  # fmt: skip


def _megabytes() -> int:
    if ON_GPU:
        return torch.cuda.max_memory_allocated() // 2**20
    if Path("/proc/self/status").exists():  # ru_maxrss counts the parent's memory, too
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024  # type: ignore[index]
    import resource  # which Windows has not

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


def growth(rounds: int) -> list[dict[str, Any]]:
    """What a training step and a forward pass of this package cost as image, width or batch grows."""
    rows = []
    sizes = [(32, size, 4) for size in (32, 64, 128)]
    widths = [(width, 32, 16) for width in (32, 64, 128)]
    batches = [(32, 32, batch) for batch in (1, 4, 16, 64, 256)]
    for what, cases in (("image size", sizes), ("width", widths), ("batch", batches)):
        for (width, size, batch), mode in itertools.product(cases, ("training", "forward")):
            works = {"ddpm": work_of(OURS, mode, unet_of(width), batch, size)}
            spent = _median(interleave(works, rounds)["ddpm"])
            rate = flops(OURS, unet_of(width), size) * batch * (3 if mode == "training" else 1) / spent
            rows.append({
                "grows": what, "mode": mode, "C": width, "image size": size, "batch": batch, "seconds": spent,
                "milliseconds an image": round(1000 * spent / batch, 3), "GFLOP/s": round(rate / 1e9, 1),
            })  # fmt: skip
    return rows


def compilation(found: Sequence[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """What torch.compile costs in its first call and gains afterwards, at the smaller width and batch 64.

    This package and diffusers at its best settings take turns, each as it is and compiled. What an earlier run has left
    in torch's caches is not used.
    """
    torch.compiler.config.force_disable_caches = True
    rows, width = [], WIDTHS[0]
    for mode in ("training", "forward"):
        settings = {"ddpm": OURS, "diffusers": replace(best_of(found, "diffusers", mode, width), compiled=False)}
        works, first = {}, {}
        for library, own in settings.items():
            works[library] = work_of(own, mode, unet_of(width), 64)
            works[f"{library}, compiled"] = work_of(replace(own, compiled=True), mode, unet_of(width), 64)
            start = time.perf_counter()
            works[f"{library}, compiled"]()
            first[library] = time.perf_counter() - start
        times = interleave(works, rounds)
        for library, own in settings.items():
            eager, graph = times[library], times[f"{library}, compiled"]
            saved = statistics.median(before - after for before, after in zip(eager, graph, strict=True))  # a call
            rows.append({
                "mode": mode, "library": library, "settings": own.how, "first call": round(first[library], 1),
                **ratios(eager, graph, "gain"),
                "pays after calls": math.ceil(first[library] / saved) if saved > 0 else None,
                **ratios(graph, times["ddpm"], "compiled over ddpm"),
                **ratios(graph, times["ddpm, compiled"], "compiled over ddpm, compiled"),
            })  # fmt: skip
    return rows


class Stopwatch:
    """Sums the time spent inside watched functions, and keeps the times of the first entry and the last exit."""

    def __init__(self) -> None:
        self.inside, self.first, self.last = 0.0, math.inf, 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is counted."""

        def watched(*inputs: Any, **named: Any) -> Any:
            start = time.perf_counter()
            output = function(*inputs, **named)
            wait()
            self.first, self.last = min(self.first, start), time.perf_counter()
            self.inside += self.last - start
            return output

        return watched

    @property
    def outside(self) -> float:
        """Share of the time between the first entry and the last exit that was spent in no watched function."""
        return round(1 - self.inside / (self.last - self.first), 4)


def loop_share(steps: int = 40) -> dict[str, float]:
    """Share of the wall time outside network, backward pass, clipping and optimiser, in sampling and in training."""
    denoise, sampling, training = ddpm.load("fashion-mnist"), Stopwatch(), Stopwatch()
    # what a walk calls: on a GPU the network's kernels are recorded, and in a recording nothing may wait
    network, call = (Recorded, "__call__") if ON_GPU else (UNet, "forward")
    with patch.object(network, call, sampling.on(getattr(network, call))):
        ddpm.sample(denoise, 64, "ddim", chunk=64, progress=False)
    config, dataset = DiffusionConfig(UNetConfig(blocks_per_level=1)), load("fashion-mnist-embedded", quiet=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(UNet, "forward", training.on(UNet.forward)),
        patch.object(Tensor, "backward", training.on(Tensor.backward)),
        patch.object(nn.utils, "clip_grad_norm_", training.on(nn.utils.clip_grad_norm_)),
        patch.object(torch.optim.AdamW, "step", training.on(torch.optim.AdamW.step)),
    ):
        train(config, dataset, TrainingConfig(steps=steps), folder, progress=False)
    return {"sampling": sampling.outside, "training": training.outside}


def fidelity(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What bfloat16 changes with the shipped weights: in images from the same noise, and in eps at a few times.

    In eps also of diffusers: at its best settings in a forward pass, and with autocast or bfloat16 weights in their
    place.
    """
    fast, exact = ddpm.load("fashion-mnist"), ddpm.load("fashion-mnist", "float32")
    images = ddpm.sample(fast, 64, "ddim", chunk=64, progress=False).cpu()
    with without_tf32():
        exact_images = ddpm.sample(exact, 64, "ddim", chunk=64, progress=False).cpu()
    decibels = psnr(images, exact_images)
    best = best_of(found, "diffusers", "forward", WIDTHS[0])
    autocast = replace(best, bfloat16=True, bfloat16_weights=False, compiled=False)
    weights = replace(best, bfloat16=False, bfloat16_weights=True, compiled=False, float32_norm=False)
    return {
        "PSNR in dB": {"min": round(decibels.min().item(), 1), "median": round(decibels.median().item(), 1)},
        "relative error of eps": errors_of_eps(exact, lambda x, t: fast(x, t).eps),
        "relative error of eps by diffusers": {
            settings.how: errors_of_eps(exact, eps_by_diffusers(exact, settings))
            for settings in dict.fromkeys((replace(best, compiled=False), autocast, weights))
        },
    }


@contextmanager
def without_tf32() -> Iterator[None]:
    """A context in which convolutions in float32 are exact on a GPU, too, where cuDNN rounds their factors to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def errors_of_eps(exact: NetworkDenoiser, eps_of: Callable[[Tensor, int], Tensor]) -> dict[str, float]:
    """By time, the norm of eps's error over that of eps by `exact`, on 64 test images with noise."""
    x0 = normalise(load("fashion-mnist-embedded", "test", quiet=True).images[:64]).to(DEVICE)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    errors = {}
    for t in (1, 10, 50, 200, 500, 1000):
        x = exact.schedule.add_noise(x0, t, noise)
        with torch.no_grad():
            a = eps_of(x, t)
            with without_tf32():
                b = exact(x, t).eps
        errors[str(t)] = round(((a - b).norm() / b.norm()).item(), 5)
    return errors


def eps_by_diffusers(exact: NetworkDenoiser, settings: Settings) -> Callable[[Tensor, int], Tensor]:
    """eps in x at a time, as diffusers sees it with these settings and the weights of `exact`."""
    network, schedule = tuned(unet_to_diffusers(exact.network, 32), settings), exact.schedule

    def eps_of(x: Tensor, t: int) -> Tensor:
        times = torch.full((len(x),), t - 1.0, device=DEVICE)
        output = answer_of(network, settings, x, times).float()
        return prediction_of(exact.target, output, x, schedule.signal(t), schedule.noise(t)).eps

    return eps_of


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw how many times longer than this package each contestant takes; a peer as shipped is hollow."""
    import matplotlib.pyplot as plt

    names = [name for name in dict.fromkeys(row["contestant"] for row in rows) if name != "ddpm"]
    cells = list(dict.fromkeys((row["mode"], row["C"]) for row in rows))
    batches = sorted({row["batch"] for row in rows})
    colours = dict(zip(("ddpm", *PEERS), COLOURS, strict=False))
    use_style()
    figure, grid = plt.subplots(len(cells), 1, figsize=(7, 2 + 1.9 * len(cells)), sharex=True, layout="constrained")
    for axes, (mode, width) in zip(grid if len(cells) > 1 else [grid], cells, strict=True):
        for i, name in enumerate(names):
            found = {
                row["batch"]: row for row in rows if (row["mode"], row["C"], row["contestant"]) == (mode, width, name)
            }
            y = [k + (i - (len(names) - 1) / 2) * 0.16 for k in range(len(batches))]
            low, middle, high = ([found[b][key] for b in batches] for key in ("ratio min", "ratio", "ratio max"))
            library, _, how = name.partition(", ")
            colour = colours[library]
            axes.hlines(y, low, high, color=colour, linewidth=1.2)
            fill = "white" if how == SHIPPED else colour
            axes.plot(middle, y, "o", markersize=5, label=name, color=colour, markerfacecolor=fill)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(batches)), [f"batch {batch}" for batch in batches])
        axes.invert_yaxis()
        axes.set_title(f"{mode}, C = {width}", loc="left", fontsize=10)
    axes.set_xscale("log")  # of all panels, which share it: 0.8 and 1.25 times are equally far from 1
    left, right = axes.get_xlim()
    ticks = [tick for tick in (0.2, 0.3, 0.5, 0.8, 1, 1.2, 1.5, 2, 2.5, 3, 4, 6, 10, 20) if left <= tick <= right]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("time over this package's, same round (dot: median, line: min to max)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=10)
    figure.savefig(path)


def ratios(times: Sequence[float], over: Sequence[float], name: str) -> dict[str, float]:
    """Smallest, median and largest ratio of two contestants' times within a round."""
    found = [one / other for one, other in zip(times, over, strict=True)]
    kinds = {f"{name} min": min(found), name: statistics.median(found), f"{name} max": max(found)}
    return {kind: round(value, 2) for kind, value in kinds.items()}


def report(results: dict[str, Any]) -> str:
    """The results as Markdown, for the book."""
    rows = [
        row | {"settings": row["settings"].partition(", ")[2], "times longer": with_range(row, "ratio")}
        for row in results["rows"]
        if row["contestant"] != "ddpm"
    ]
    own = [
        row | {
            "seconds": f"{row['seconds']:.4g}", "GFLOP/s": f"{row['GFLOP/s']:.0f}",
            "share of the ceiling": percent(row["of ceiling"]),
        }
        for row in results["rows"]
        if row["contestant"] == "ddpm"
    ]  # fmt: skip
    work = "; ".join(
        f"{row['GFLOP/s'] * row['seconds'] / row['batch']:.2g} GFLOP in {row['contestant'].partition(',')[0]} at C = "
        f"{row['C']}"
        for row in results["rows"]
        if row["mode"] == "forward" and row["batch"] == 64 and not row["contestant"].endswith(("settings", "float32"))
    )
    alone = [row | {"peak MB": f"{row['peak MB']:,}"} for row in results["memory and first call"]]
    job, typed = (
        [row | {"times longer": with_range(row, "ratio")} for row in results[part]]
        for part in ("whole job", "command line")
    )
    for row in job:
        row["images"] = f"{row['images']:,}"
    errors = percentages(results["fidelity"]["relative error of eps"])
    of_peer = [
        f"With diffusers, {settings}, eps differs by {percentages(error)}."
        for settings, error in results["fidelity"].get("relative error of eps by diffusers", {}).items()
    ]
    decibels, loop = results["fidelity"]["PSNR in dB"], results["loop"]
    return "\n\n".join([
        measured_in_words(results),
        "**How many times longer than this package**, median (minimum to maximum) over the rounds:",
        markdown_table(rows, ["mode", "C", "batch", "contestant", "times longer", "settings"]),
        *([IN_TF32] if ON_GPU else []),
        f"One image's forward pass takes {work}.",
        "**This package**, and how near it comes to the fastest matrix product or convolution of the same run:",
        markdown_table(own, ["mode", "C", "batch", "seconds", "GFLOP/s", "share of the ceiling"]),
        "**A whole job**, images from the shipped weights, chunk by chunk in turn, by DDIM in 50 steps where a row "
        "does not say otherwise:",
        markdown_table(job, ["contestant", "images", "seconds", "times longer"]),
        "**From the command line to a picture of 64 garments**, each in a process of its own, the start of Python and "
        "the import of torch (last row) included; by DDIM in 50 steps where a row does not say otherwise. The best "
        "settings of diffusers are here those without compilation and without norms in float32:",
        markdown_table(typed, ["contestant", "seconds", "times longer"]),
        "**Memory and the first call**, each in a process of its own, seconds and megabytes "
        + ("(of the GPU); by the fourth call the kernels are recorded:" if ON_GPU else "(of the whole process):"),
        markdown_table(alone, ["mode", "C", "batch", "contestant", "first call", LATER, "peak MB"]),
        *compilation_in_words(results["compiled"]),
        "**How this package's cost grows:**",
        markdown_table(results["growth"]),
        f"**bfloat16 against float32{' without TF32' if ON_GPU else ''}** on the same noise: images agree to "
        f"{decibels['median']} dB (median; the worst of 64 to {decibels['min']}); eps differs by {errors}. "
        f"{' '.join(of_peer)}".rstrip(),
        f"**The loop around the network** takes {percent(loop['sampling'], 1)} of the wall time in sampling and "
        f"{percent(loop['training'], 1)} in training.",
        "````{dropdown} The search for the peers' best settings, all of it",
        f"{markdown_table(results['search'])}\n````",
        "",
    ])  # fmt: skip


def compilation_in_words(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What torch.compile costs and gains as a table and, where it was raced, who is ahead with it, for the book."""
    lines = []
    for row in rows:
        pays = row["pays after calls"]
        line = {name: row[name] for name in ("mode", "library", "settings") if name in row}
        line |= {"first call": f"{row['first call']:.1f}", "gain": with_range(row, "gain")}
        line["pays after calls"] = "never" if pays is None else f"{pays:,}"
        for other in ("compiled over ddpm", "compiled over ddpm, compiled"):
            if other in row:
                line[other] = with_range(row, other)
        lines.append(line)
    said = [
        f"Compiled, diffusers takes {row['compiled over ddpm']:.2f} of the time of this package as it is and "
        f"{row['compiled over ddpm, compiled']:.2f} of its time compiled {WORK[row['mode']]}."
        for row in rows
        if row["library"] == "diffusers" and "compiled over ddpm" in row
    ]
    title = (
        "**torch.compile**: seconds of its first call, what it gains afterwards, and after how many calls it pays, "
        "roughly, since that call is timed once"
        + ("; of this package and of diffusers at its best settings, in turns:" if said else ":")
    )
    return [title, markdown_table(lines), *([" ".join(said)] if said else [])]


def percent(share: float, digits: int = 0) -> str:
    """A share in per cent."""
    return f"{100 * share:.{digits}f} %"


def with_range(row: dict[str, Any], name: str) -> str:
    """The median of a ratio, and its range over the rounds."""
    return f"{row[name]:.2f} ({row[f'{name} min']:.2f} to {row[f'{name} max']:.2f})"


def percentages(errors: dict[str, float]) -> str:
    """Relative errors by time, in words."""
    return ", ".join(f"{100 * error:.2g} % at t = {t}" for t, error in errors.items())


def _median(values: Sequence[float]) -> float:
    return float(f"{statistics.median(values):.4g}")


def main(
    quick: Annotated[
        bool, typer.Option(help="Use the smaller width and small batches; print, and write nothing.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of every comparison.")] = 5,
    images: Annotated[int, typer.Option(min=1, help="Images of the whole job.")] = 5120 if ON_GPU else 1000,
    only: Annotated[
        list[str] | None, typer.Option(help="Part to measure again; the others keep their results. Repeat for several.")
    ] = None,
    alone_: Annotated[str | None, typer.Option("--alone", hidden=True)] = None,
) -> None:
    """Compare this package with its peers; ratios above 1 mean that the peer takes longer."""
    if not ON_GPU:
        keep_freed_memory()  # for everybody, as this package does in training, and from the first part on
    if alone_ is not None:
        return alone_in_this_process(alone_)
    chunk = 256 if ON_GPU else 50
    if images < chunk:
        raise typer.BadParameter(f"images is {images}; it must be at least {chunk}, which are drawn at once")
    if quick and not RESULTS.exists():
        raise typer.BadParameter("there are no results with the peers' best settings yet: run the whole script first")
    race = (WIDTHS[:1], BATCHES[:2], 2) if quick else (WIDTHS, BATCHES, rounds)
    parts: dict[str, Callable[[], Any]] = {
        "rows": lambda: list(compare(found, *race)),
        "fidelity": lambda: fidelity(found),
        "loop": lambda: loop_share(12 if quick else 40),
        "memory and first call": lambda: alone(found, WIDTHS[0], 16 if quick else 64),
        "whole job": lambda: whole_job(found, images, chunk),
        "command line": lambda: command_line(found, rounds),
        "growth": lambda: growth(3),
        "compiled": lambda: compilation(found, 3),
    }
    if strange := set(only or []) - set(parts):
        raise typer.BadParameter(f"there is no part {', '.join(strange)}; legal are {', '.join(parts)}")
    again = RESULTS.exists() and (quick or bool(only))
    asked = {"rounds": rounds, "images": images, "commit": commit()}
    results = read_json(RESULTS) if again else begun(asked, parts.keys())
    found = results["search"]
    missing = [name for name in parts if name not in results]
    for name in only or (list(parts)[:4] if quick else missing):
        start = time.perf_counter()
        typer.echo(f"{name}:")
        results[name] = parts[name]()
        show(name, results[name])
        if not quick:
            file = RESULTS if again else UNFINISHED
            keep(results, name, time.perf_counter() - start, asked, parts.keys(), file)
    if not again and parts.keys() <= results.keys():
        UNFINISHED.unlink(missing_ok=True)


def begun(asked: dict[str, Any], parts: Set[str]) -> dict[str, Any]:
    """Results to go on from, with the whole search: of a race that was stopped, if all else is the same.

    Args:
        asked: the options and the commit, which must be the same, as must machine and versions.
        parts: what a finished race has.
    """
    stopped = read_json(UNFINISHED) if UNFINISHED.exists() else {"search": [], "provenance": {}}
    here = conditions(0)
    goes_on = stopped["provenance"].get("asked") == asked and all(
        part[name] == here[name]
        for part in provenances(stopped).values()
        for name in ("device", "processor", "versions")
    )
    results = stopped if goes_on else {"search": []}
    before = provenances(results).get("search", {"seconds": 0})["seconds"]
    start = time.perf_counter()
    for rows in search(SEARCH_BATCH, 3, results["search"]):
        results["search"] += rows
        keep(results, "search", before + time.perf_counter() - start, asked, parts, UNFINISHED)
    return results


def keep(
    results: dict[str, Any], name: str, seconds: float, asked: dict[str, Any], parts: Set[str], file: Path
) -> None:
    """Write results, of which `name` was measured now; those that are whole go into the book.

    Args:
        results: all that is measured; its provenance is brought up to date.
        name: the part.
        seconds: how long it took.
        asked: the options and the commit.
        parts: what a finished race has.
        file: where results go of which a part is missing.
    """
    made = provenances(results) | {name: conditions(seconds)}
    whole = {"seconds": sum(part["seconds"] for part in made.values()), "asked": asked, "parts": made}
    results["provenance"] = made[name] | whole
    if not parts <= results.keys():
        write_json(file, results)
        return
    write_json(RESULTS, results)
    RESULTS.with_suffix(".md").write_text(report(results), encoding="utf-8", newline="\n")
    draw(results["rows"], FIGURE)


def show(name: str, part: Any) -> None:
    """Print what a part measured; the rows of the comparison are printed as they are measured."""
    for item in part if name != "rows" and isinstance(part, list) else []:
        typer.echo("  " + "  ".join(f"{key} {value}" for key, value in item.items()))
    if isinstance(part, dict):
        typer.echo(f"  {part}")


def conditions(seconds: float) -> dict[str, Any]:
    """What the file of results says of the run that a part comes from."""
    made = measured_with(seconds, 0, f"CPU, {torch.get_num_threads()} threads" if not ON_GPU else processor())
    made["versions"] = {"python": platform.python_version(), **{name: version(name) for name in ("torch", *PEERS)}}
    return made


def provenances(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The conditions of each part; where the file has only those of the whole, these, and equal shares of its time."""
    if "provenance" not in results:
        return {}
    whole = dict(results["provenance"])
    if "parts" in whole:
        return dict(whole["parts"])
    parts = [name for name in results if name != "provenance"]
    return {name: whole | {"seconds": round(whole["seconds"] / len(parts))} for name in parts}


def measured_in_words(results: dict[str, Any]) -> str:
    """On what, when and in how many minutes the parts were measured; a line where they are of one run."""
    runs: dict[tuple[str, str], list[str]] = {}
    seconds: dict[tuple[str, str], int] = {}
    for name, made in provenances(results).items():
        versions = ", ".join(f"{library} {number}" for library, number in made["versions"].items())
        where = made["device"] + (f" ({made['processor']})" if "processor" in made else "")
        run = f"on {where}, {made['date']}", versions
        runs.setdefault(run, []).append(name)
        seconds[run] = seconds.get(run, 0) + made["seconds"]
    if len(runs) == 1:
        ((where, versions),) = runs
        return f"Measured {where}, in {results['provenance']['seconds'] // 60} minutes; {versions}."
    return "Measured in parts: " + " ".join(
        f"{', '.join(names)} {where}, in {seconds[where, versions] // 60} minutes; {versions}."
        for (where, versions), names in runs.items()
    )


if __name__ == "__main__":
    typer.run(main)
