"""The results as a table over the seeds, their conditions in words, and the card of a model that ships."""

from typing import Any

from ddpm.companion.long_runs import mean_and_deviation, measured_with
from ddpm.companion.results import markdown_table
from ddpm.metrics.features import FEATURES_SHA256
from equal_terms.measures import DATA
from equal_terms.terms import BATCH, KINDS, OF_DIFFUSION, SHIPPED, TOLERANCE

NOT_FIGURES = ("model", "seed", "seconds", "kind", "trained on")


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Each model's metrics: the mean over the seeds, and the standard deviation where there are several.

    Models of a kind stand together; what was trained on fewer images, or not at all, comes last.
    """
    lines = []
    kinds = list(KINDS)
    ordered = sorted(rows, key=lambda row: kinds.index(row["kind"]) if row["trained on"] == "all" else len(kinds))
    for name in dict.fromkeys(row["model"] for row in ordered):
        own = [row for row in rows if row["model"] == name]
        line = {"model": name}
        for figure in (key for key in own[0] if key not in NOT_FIGURES):
            texts = [str(row[figure]) for row in own]
            if "none" in texts:
                line[figure] = "none"
            else:  # what is timed once for all seeds has no spread
                line[figure] = texts[0] if len(set(texts)) == 1 else mean_and_deviation(texts)
        lines.append(line)
    return lines


def card(kind: str, results: dict[str, Any]) -> str:
    """The card of a shipped model: what it is and how good it is, as Markdown."""
    chosen, provenance = best(results, kind)["settings"], results["provenance"]
    (terms,) = [own for own in results["terms"]["models"][kind] if own["settings"] == chosen]
    settings = ", ".join(f"{name} {value}" for name, value in chosen.items())
    choice = f"the best of {len(KINDS[kind].tried)} tried at a third of the budget; the rest is `ddpm train`'s own"
    own = [row for row in results["rows"] if (row["kind"], row["seed"], row["trained on"]) == (kind, 0, "all")]
    (floor,) = [row for row in results["rows"] if row["model"] == DATA]
    figures = [{name: value for name, value in row.items() if name not in NOT_FIGURES[1:]} for row in own]
    return f"""# equal-{kind}

One of four models of Fashion-MNIST that are compared on equal terms: as many parameters, training images and FLOPs.
The other three: {", ".join(f"equal-{other}" for other in SHIPPED if other != kind)}.

| | |
| --- | --- |
| model | {kind}, {terms["parameters"]:,} parameters |
| data | the 10,000 embedded training images, padded to 32 x 32, in [-1, 1], no augmentation |
| steps | {terms["steps"]:,} of batch {BATCH}, {terms["FLOPs"] / 1e12:.0f} TFLOP, from random weights, seed 0 |
| settings | {settings}: {choice} |
| EMA | 0.999, with warm-up; the averaged weights are the ones here |
| device | {provenance["device"]}, torch {provenance["versions"]["torch"]}, {provenance["date"]} |

{markdown_table(figures)}

Frechet distance of {results["terms"]["n"]:,} real training images, the floor: {floor["Frechet distance"]}. {
        results["conditions"]
    }

```sh
python benchmarks/generative_models.py --ship
```
"""


def in_words(results: dict[str, Any]) -> str:
    """The conditions under which the rows were measured."""
    n, timed = results["terms"]["n"], ""
    if "timing" in results:
        made = results["timing"]
        timed = (
            f" Ms an image: of drawing 64, the median of {made['rounds']} rounds in which the kinds take turns with "
            f"nothing beside them, once for all seeds; on {made['device']} ({made['processor']}), {made['date']}."
        )
    return (
        f"Trained on the 10,000 embedded training images in batches of {BATCH}, with as many parameters (a GAN's "
        f"both players counted) and for as many FLOPs, of products and convolutions, within {TOLERANCE:.0%}. Of "
        f"every kind {len(OF_DIFFUSION)} settings were tried at a third of the budget on 8,000 of these images, "
        "and the one with the least Frechet distance to the other 2,000 was taken; a VAE was judged by codes from "
        "N(0, I), an autoencoder by fitted codes, the VAE with a logistic likelihood by its bits a dimension. "
        "Diffusion's recipe (v, log-normal times) had been chosen among eleven before, on all 60,000 training "
        f"images and by the distance to the test images. EMA weights; {n:,} images, seed 0 of the samples. Frechet "
        f"distance against all 10,000 test images, the rest against the first {n:,} embedded ones, in the frozen "
        f"64-feature classifier {FEATURES_SHA256[:8]}, whitened; precision and recall with 3 neighbours. Copying: 0.5 "
        "is as new as test images, 1 all copies. The training images themselves are the floor of a distance, and say "
        "what real images reach in the rest. Bits a dimension: one draw of the variational bound of 100 test images "
        "of 8 bits, in float32. Diffusion draws by DDIM in 50 steps on the trailing grid, in bfloat16 where the "
        "hardware has it. Fitted codes are drawn from a mixture of ten Gaussians fitted to the codes of the "
        "training images."
    ) + timed


def conditions(results: dict[str, Any]) -> dict[str, Any]:
    """The context that a reader of the rows needs."""
    return {
        "table": table_of(results["rows"]),
        "conditions": in_words(results),
        "provenance": measured_with(
            sum(row["seconds"] for row in [*results["trials"], *results["rows"], *results["rate and distortion"]]),
            sorted({row["seed"] for row in results["rows"]}),
        ),
    }


def best(results: dict[str, Any], kind: str) -> dict[str, Any]:
    """The trial that did best, of those on the books."""
    tried = [own for own in results["trials"] if own["model"] == kind]
    return min(tried, key=lambda own: own[KINDS[kind].chosen_by])
