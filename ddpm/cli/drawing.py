"""What `ddpm sample` and `ddpm evaluate` share: a model that is told and guided as asked, and how it draws."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ddpm.cli.launch import launched
from ddpm.cli.options import how, sampler_options
from ddpm.settings import non_negative_int

if TYPE_CHECKING:
    from ddpm.samplers import Step

__all__ = ["WEIGHT", "Guiding", "Walking", "load_model", "prepared"]

WEIGHT = 1.6


class Walking(NamedTuple):
    """The options of the walk from noise, as given."""

    sampler: str | None
    steps: int | None
    eta: float
    variance: str
    spacing: Any


class Guiding(NamedTuple):
    """The options of what is drawn and how it is pushed there."""

    labels: list[int]
    guidance: float
    interval: tuple[float, float] | None
    guide: str | None
    weight: float


def load_model(model: str, precision: str) -> Any:
    """A trained model, on the device that a launcher gave this process."""
    import ddpm

    launched()
    return ddpm.load(model, precision)  # type: ignore[arg-type]


def prepared(
    trained: Any,
    model: str,
    walking: Walking,
    guiding: Guiding,
    seed: int,
    precision: str,
    only: tuple[int, int, int] | None = None,
    watch: Callable[["Step"], None] | None = None,
) -> tuple[Any, dict[str, Any], str]:
    """What draws images, the further options of `ddpm.sample`, and in words how they are drawn.

    Raises:
        ValueError: something is wrong, or does not go together.
    """
    from ddpm.network_calls import network_calls
    from ddpm.sampling import is_latent, refuse_walk
    from ddpm.walks import default_walk

    sampler, steps, eta, variance, spacing = walking
    non_negative_int("seed", seed)
    if not 1 <= guiding.guidance < math.inf:
        raise ValueError(f"guidance is {guiding.guidance:g}; it must be finite and at least 1, which is none")
    if guiding.guide is None and guiding.weight != WEIGHT:
        raise ValueError(f"weight is {guiding.weight:g}; it needs a --guide")
    latent = is_latent(trained)
    if only is not None and tuple(trained.image_shape or ()) != only:
        raise ValueError(
            f"model is {model!r}, which draws {trained.image_shape}; distances are to garments, {only}: in Python, "
            "ddpm.metrics.frechet_distance takes real= and features= of your own"
        )
    if latent and watch is not None:
        raise ValueError(
            f"model is {model!r}; it draws an image in one call, so there is no film: "
            "--out must end in .png, .zip or .npz"
        )
    options: dict[str, Any] = {"watch": watch, "distributed": launched().distributed and watch is None}
    trained, pushed = _guided(trained, model, guiding, precision)
    if latent:
        refuse_walk({"sampler": sampler, "steps": steps, "spacing": spacing, **sampler_options(None, eta, variance)})
        drawn = "1 network call"
    else:
        walk = default_walk(trained, sampler, steps, spacing)
        own = sampler_options(walk.sampler, eta, variance)
        options |= {"spacing": spacing, **own}
        grid = trained.schedule.timesteps(walk.steps, walk.spacing)  # refuses wrong ones before anything is said
        drawn = how(*walk, eta, variance, network_calls(trained, walk.sampler, grid, **own))
    return trained, options, drawn + pushed


def _guided(trained: Any, model: str, guiding: Guiding, precision: str) -> tuple[Any, str]:
    """A model that is told these labels and is guided, and in words by what.

    Raises:
        ValueError: it cannot be guided so.
    """
    from ddpm.denoiser import Guided
    from ddpm.sampling import is_latent

    labels, guidance, interval, guide, weight = guiding
    if interval is not None and guidance == 1 and guide is None:
        raise ValueError(f"guidance_interval is {interval}; it needs a --guidance above 1, or a --guide")
    told = trained.given(labels) if labels else trained
    within = f" for sigma from {interval[0]:g} to {interval[1]:g}" if interval is not None else ""
    pushed = ", told the classes" if labels else ""
    if guidance != 1:
        told = Guided(told, trained.given(None), guidance, interval)
        pushed += f" with guidance {guidance:g}{within}"
    if guide is not None:
        try:
            worse = load_model(guide, precision)
        except ValueError as error:
            raise ValueError(str(error).replace("model is", "guide is", 1)) from error
        if is_latent(trained) or is_latent(worse):
            raise ValueError(f"guide is {guide!r} and model {model!r}; only diffusion models guide and are guided")
        if labels and worse.classes and worse.classes != trained.classes:
            raise ValueError(f"guide is {guide!r}, which knows other classes than model {model!r}")
        told = Guided(told, worse.given(labels) if labels and worse.classes else worse, weight, interval)
        pushed += f", guided by {guide} with weight {weight:g}{within}"
    return told, pushed
