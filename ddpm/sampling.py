"""Draw samples in one call: a sampler by its name, a seed, chunks that fit in memory, a progress bar."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard, cast, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.arguments import answer_like, function
from ddpm.denoiser import Denoiser, schedule_of
from ddpm.extras import needed
from ddpm.grids import check_start
from ddpm.noise import PerSampleNoise
from ddpm.samplers import Step, final
from ddpm.settings import Spacing, integers, positive_int
from ddpm.walks import SAMPLERS as SAMPLERS  # the names that stood here in version 0.2.0
from ddpm.walks import Sampler, check_options, check_student, default_walk, name_of
from ddpm.walks import sampler_named as sampler_named

__all__ = ["LatentModel", "is_latent", "refuse_walk", "sample", "watched"]


@runtime_checkable
class LatentModel(Protocol):
    """A model that draws an image in one call, from a code drawn from N(0, I): a variational autoencoder, a GAN.

    A plain autoencoder has this form, too. Its codes have no density, and it says so by `codes_are_normal = False`.
    """

    latent_dim: int
    device: torch.device

    def decode(self, z: Tensor) -> Tensor:
        """Codes (batch, latent_dim) -> images (batch, channels, height, width)."""
        ...


@torch.no_grad()
def sample(
    denoise: Denoiser | LatentModel,
    n: int,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    seed: int = 0,
    *,
    spacing: Spacing | None = None,
    shape: Sequence[int] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    watch: Callable[[Step], None] | None = None,
    distributed: bool = False,
    **options: Any,
) -> Tensor:
    """Draw `n` samples.

    Args:
        denoise: a `Denoiser`; or a `LatentModel`, which takes no sampler, steps, spacing, shape, watch or options.
        n: how many samples.
        sampler: a name in `SAMPLERS`, or a function with the arguments of those in `ddpm.samplers`; by default that of
            `default_walk`.
        steps: moves of the sampler, 1 to the schedule's T; by default those of `default_walk`.
        seed: sample i of a seed is the same, bit for bit, whatever `n` is, on the same machine and chunk.
        spacing: spacing of the grid, see `ddpm.grids.timesteps`; by default that of `default_walk`.
        shape: shape of one sample; by default the denoiser's `image_shape`.
        chunk: samples denoised together. The last chunk is filled up, so that one sample costs as much as a chunk, also
            where chunk is larger than n. By default 16 images of 32 x 32 on a CPU, up to 512 samples of fewer numbers;
            256 on a GPU, and 500 for a `LatentModel`.
        progress: show a bar with an estimate of the time left.
        watch: called with every state of every chunk that this process draws, also of what fills up the last one.
        distributed: share the chunks among the processes of accelerate's launcher. All of them must make this call, and
            all get all samples: those that a single process would have drawn.
        options: the sampler's own, such as `eta` for ddim.

    Returns:
        `(n, *shape)`, float32, on the denoiser's device; images lie in about [-1, 1] and are not clipped.

    Raises:
        TypeError: an argument is of a wrong kind, or the sampler has no such option.
        ValueError: an argument is not legal, or a sampler of one's own ends before the grid does or in another shape.
        ModuleNotFoundError: `distributed` needs accelerate, of the extra ddpm[train].
    """
    if is_latent(denoise):
        given = {"sampler": sampler, "steps": steps, "spacing": spacing, "shape": shape, "watch": watch, **options}
        refuse_walk(given)
        return _decoded(denoise, n, seed, chunk, distributed)
    denoise = cast(Denoiser, denoise)  # as `schedule_of` sees to
    schedule = schedule_of(denoise)
    if watch is not None:
        function("watch", watch)
    n = positive_int("n", n)
    named = sampler if sampler is None or isinstance(sampler, str) else name_of(sampler)
    name, steps, spacing = default_walk(denoise, named, steps, spacing)
    run_sampler = sampler_named(name if sampler is None else sampler)
    check_options(name, run_sampler, options)
    if denoise.n_labels not in (None, n):
        raise ValueError(f"n is {n}; the denoiser was given {denoise.n_labels} labels, one for each sample")
    shape = shape if shape is not None else denoise.image_shape
    if shape is None:
        raise ValueError("shape is not given, and this denoiser does not know the shape of one sample")
    shape = integers("shape", shape, at_least=1)
    chunk = positive_int("chunk", chunk if chunk is not None else _default_chunk(denoise.device, shape))
    timesteps = schedule.timesteps(steps, spacing)
    check_student(denoise, name, steps, spacing)
    check_start(timesteps, schedule)
    scale = schedule.scale(timesteps[0])  # of noise alone; 1 where the variance is preserved
    samples = []
    share = _share(n, chunk, distributed)
    bar = tqdm(
        total=len(share.firsts) * steps, unit="step", desc=f"{name}-{steps}",
        disable=not (progress and share.is_main), delay=1,
    )  # fmt: skip
    with bar, denoise.many_calls():
        for first in share.firsts:
            randn_like = PerSampleNoise(seed, first)
            x = randn_like(torch.empty(chunk, *shape, dtype=torch.float32, device=denoise.device))
            states = run_sampler(
                denoise.of_samples(first, chunk), scale * x, timesteps, randn_like=randn_like, **options
            )
            states = watched(_to_the_end(states, name, timesteps[-1]), timesteps[0], bar, watch)
            samples.append(answer_like(f"the sampler {name}", final(states), x).to(x.dtype))
    return share.join(samples)


def _default_chunk(device: torch.device, shape: Sequence[int]) -> int:
    """How many samples of this shape are denoised together."""
    if device.type != "cpu":
        return 256
    return min(max(16, 2**14 // math.prod(shape)), 512)  # more would make a few points wait for many


def is_latent(model: Denoiser | LatentModel) -> TypeGuard[LatentModel]:
    """Whether a model draws a sample in one call, and not in a walk; a denoiser in a code's space may `decode`, too."""
    return isinstance(model, LatentModel) and not isinstance(model, Denoiser)


def refuse_walk(given: Mapping[str, Any]) -> None:
    """Raise `ValueError` where something is given that `sample` takes for a walk only, and not for a `LatentModel`."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is {value!r}; this model draws an image in one call and takes none")


def _decoded(model: LatentModel, n: int, seed: int, chunk: int | None, distributed: bool) -> Tensor:
    """Images (n, channels, height, width) of codes drawn from N(0, I)."""
    if not getattr(model, "codes_are_normal", True):  # which a model of the caller's own need not have
        warnings.warn(
            "a plain autoencoder has no density of codes; they are drawn from N(0, I) all the same",
            stacklevel=4,  # of `sample`, behind torch's wrapper
        )
    chunk = positive_int("chunk", 500 if chunk is None else chunk)
    share = _share(positive_int("n", n), chunk, distributed)
    empty = torch.empty(chunk, model.latent_dim, dtype=torch.float32, device=model.device)
    return share.join([model.decode(PerSampleNoise(seed, first)(empty)) for first in share.firsts])


class _Share(NamedTuple):
    """What one of several processes draws."""

    firsts: Sequence[int]  # number of the first sample of each of its chunks
    join: Callable[[list[Tensor]], Tensor]  # its chunks -> the n samples of all processes
    is_main: bool


def _share(n: int, chunk: int, distributed: bool) -> _Share:
    if not distributed:
        return _Share(range(0, n, chunk), lambda chunks: torch.cat(chunks)[:n], True)
    with needed("accelerate"):
        from accelerate import PartialState
        from accelerate.utils import gather

    state = PartialState(cpu=not torch.accelerator.is_available())
    rank, processes = state.process_index, state.num_processes
    each = -(-n // (chunk * processes))  # all processes draw as many chunks; what lies beyond n is cut off

    def join(chunks: list[Tensor]) -> Tensor:
        gathered: Tensor = gather(torch.stack(chunks))
        in_order: Tensor = gathered.unflatten(0, (processes, each)).transpose(0, 1).flatten(0, 2)
        return in_order[:n]

    return _Share([(i * processes + rank) * chunk for i in range(each)], join, state.is_main_process)


def _to_the_end(states: Iterator[Step], sampler: str, end: float) -> Iterator[Step]:
    """The states of a walk; after the last, `ValueError` unless the time of that one is the grid's end."""
    if not isinstance(states, Iterable):
        raise TypeError(f"the sampler {sampler} returns {type(states).__name__}; it must yield a Step after every move")
    t = end
    for state in states:
        t = state.t
        yield state
    if isinstance(t, int | float) and not math.isclose(t, end, abs_tol=1e-3):
        raise ValueError(
            f"the last Step of the sampler {sampler} is of time {t:g}, and the grid ends at {end:g}: either noise is "
            "left, or its Steps do not say when their x is"
        )


def watched(
    states: Iterator[Step], t: float, bar: "tqdm[Any]", watch: Callable[[Step], None] | None = None
) -> Iterator[Step]:
    """The states of a walk that begins at time t, as they come; the bar moves on when the time does."""
    for state in states:
        bar.update(state.t != t)  # annealed Langevin stays at a time for several states
        t = state.t
        if watch is not None:
            watch(state)
        yield state
