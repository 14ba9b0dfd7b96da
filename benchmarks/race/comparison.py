"""A training step and a forward pass: of everybody, as this package's cost grows, and compiled."""

import gc
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import typer

from race.clock import ceiling, interleave, median, ratios
from race.networks import OURS, flops, unet_of, work_of
from race.report import percent
from race.search import WIDTHS, best_of, contestants


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
            rate = flops(settings, unet_of(width)) * batch * (3 if mode == "training" else 1) / median(times[name])
            in_bfloat16 = settings.bfloat16 or settings.bfloat16_weights
            row: dict[str, Any] = {
                "mode": mode, "C": width, "batch": batch, "contestant": name, "settings": str(settings),
                "seconds": median(times[name]),
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


def growth(rounds: int) -> list[dict[str, Any]]:
    """What a training step and a forward pass of this package cost as image, width or batch grows."""
    rows = []
    sizes = [(32, size, 4) for size in (32, 64, 128)]
    widths = [(width, 32, 16) for width in (32, 64, 128)]
    batches = [(32, 32, batch) for batch in (1, 4, 16, 64, 256)]
    for what, cases in (("image size", sizes), ("width", widths), ("batch", batches)):
        for (width, size, batch), mode in itertools.product(cases, ("training", "forward")):
            works = {"ddpm": work_of(OURS, mode, unet_of(width), batch, size)}
            spent = median(interleave(works, rounds)["ddpm"])
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
