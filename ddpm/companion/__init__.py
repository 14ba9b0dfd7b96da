"""What only the notebooks need: checked numbers, figures, claims, provenance and the chapter runner."""

import warnings

from ddpm.companion.checks import check, check_exact, grade, record
from ddpm.companion.claims import claims_table, verdict
from ddpm.companion.figures import draw_chains, draw_unet, image_rows, use_style
from ddpm.companion.provenance import Parameters, provenance
from ddpm.companion.results import markdown_table, results, results_table

warnings.filterwarnings("ignore", message="IProgress not found")  # of a bar in widgets, which no chapter shows

__all__ = [
    "Parameters", "check", "check_exact", "claims_table", "draw_chains", "draw_unet", "grade", "image_rows",
    "markdown_table", "provenance", "record", "results", "results_table", "use_style", "verdict",
]  # fmt: skip
