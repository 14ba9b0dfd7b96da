"""What the book needs, and what the long runs of `benchmarks/` share.

That is checked numbers, figures, claims and provenance, the runner, the marking and the slides.

The claims and the results are read from `book/`, which lies beside the package in a checkout; a wheel does not hold it.
"""

import warnings

try:
    from ddpm.companion.checks import check, check_exact, record
    from ddpm.companion.claims import claims_table, verdict
    from ddpm.companion.exercises import grade
    from ddpm.companion.figures import (
        GUESS,
        draw_chains,
        draw_unet,
        image_rows,
        label_ends,
        sampler_looks,
        use_style,
    )
    from ddpm.companion.provenance import Parameters, provenance
    from ddpm.companion.results import markdown_table, results, results_table
except ModuleNotFoundError as error:
    if (error.name or "ddpm").startswith("ddpm"):
        raise
    needed = f"{error.name} is not installed; ddpm.companion needs: pip install 'ddpm[book]'"
    # By the name of this package, of which `python -m ddpm.companion.book` says the line alone.
    raise ModuleNotFoundError(needed, name=__name__) from None

warnings.filterwarnings("ignore", message="IProgress not found")  # a warning about bars as widgets; no chapter has one

__all__ = [
    "GUESS", "Parameters", "check", "check_exact", "claims_table", "draw_chains", "draw_unet", "grade", "image_rows",
    "label_ends", "markdown_table", "provenance", "record", "results", "results_table", "sampler_looks", "use_style",
    "verdict",
]  # fmt: skip
