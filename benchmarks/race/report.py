"""The results as a picture, and as Markdown for the book."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm.companion.figures import COLOURS, use_style
from ddpm.companion.results import markdown_table
from race.clock import LATER
from race.networks import ON_GPU, PEERS, SHIPPED

IN_TF32 = "Convolutions in float32 round their factors to TF32 here, which is torch's default on a GPU."
WORK = {"training": "in a training step", "forward": "in a forward pass"}


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


def percent(share: float, digits: int = 0) -> str:
    """A share in per cent."""
    return f"{100 * share:.{digits}f} %"


def with_range(row: dict[str, Any], name: str) -> str:
    """The median of a ratio, and its range over the rounds."""
    return f"{row[name]:.2f} ({row[f'{name} min']:.2f} to {row[f'{name} max']:.2f})"


def percentages(errors: dict[str, float]) -> str:
    """Relative errors by time, in words."""
    return ", ".join(f"{100 * error:.2g} % at t = {t}" for t, error in errors.items())
