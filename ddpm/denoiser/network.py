"""A trained network as a denoiser: how it is called, and what its answer is below time 1."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ddpm.arguments import answer_like, class_names, instance
from ddpm.denoiser.interface import Conditional
from ddpm.fast import in_walk, prepared
from ddpm.schedule import NoiseSchedule
from ddpm.settings import PRECISIONS, Precision, integers, one_of, positive_int
from ddpm.shapes import per_sample
from ddpm.targets import Prediction, Target, check_target, prediction_of
from ddpm.unet import UNet

__all__ = ["NetworkDenoiser"]


class NetworkDenoiser(Conditional):
    """A trained network as a `Denoiser`.

    Below time 1, where no network is trained, the density is taken to be as smooth as at time 1: there
    x / signal(t) has the score that the network sees in it at time 1. So eps and the step to x0 shrink to nothing as t
    goes to 0, whatever the target. Where the data's density is smooth over a width of sigma(1), this is right to second
    order in that width; finer detail, such as an image's grey levels, is not seen.

    Args:
        network: called with images and times t - 1 (batch,), diffusers' index; answers the target. One that was cast to
            another floating-point type computes in that. It is put into evaluation mode; whoever trains it further
            calls `network.train()` again.
        schedule: the schedule it was trained on.
        target: its prediction target: "eps", "x0", "v" or "flow".
        precision: of a network in float32: "float32", or "auto" for bfloat16 where this device computes it in hardware.
        image_shape: (channels, height, width) it was trained on, for those who sample from it.
        classes: names of the classes that it was trained with. Once `given` has told one, the network is called with
            labels (batch,), too.
        distilled_for: of a student, the network calls that it was distilled for.

    Raises:
        TypeError: `network` is no torch module, `schedule` no `NoiseSchedule`, or `classes` are no names.
        ValueError: another argument is not legal.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        target: Target = "eps",
        precision: Precision = "float32",
        image_shape: tuple[int, int, int] | None = None,
        classes: Sequence[str] = (),
        distilled_for: int | None = None,
    ) -> None:
        instance("network", network, nn.Module)
        self.classes = class_names(classes)
        self.schedule = instance("schedule", schedule, NoiseSchedule)
        self.target = check_target(target, schedule)
        self.precision = one_of("precision", precision, PRECISIONS)
        self.image_shape = None if image_shape is None else integers("image_shape", image_shape, at_least=1)
        self.distilled_for = None if distilled_for is None else positive_int("distilled_for", distilled_for)
        if isinstance(network, UNet) and len(self.classes) != (network.config.classes or 0):
            raise ValueError(
                f"classes are {self.classes}; the network was made for {network.config.classes or 0} classes"
            )
        self.network = network.eval()

    def __repr__(self) -> str:
        shape = self.image_shape or "of any shape"
        classes = f", classes {', '.join(self.classes)}" if self.classes else ""
        network = type(self.network).__name__
        return f"<NetworkDenoiser: {network}, images {shape}, target {self.target}, T = {self.schedule.T}{classes}>"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the network's weights are; the CPU if it has none."""
        weight = next(self.network.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    @property
    def sixteen_bits(self) -> bool:  # type: ignore[override]
        """Whether the network was cast to sixteen bits."""
        return any(weight.dtype in (torch.float16, torch.bfloat16) for weight in self.network.parameters())

    def in_bfloat16(self, device: torch.device) -> bool:
        """Whether convolutions and matrix products are bfloat16 there: with "auto", where the weights are float32."""
        weight = next(self.network.parameters(), None)
        return (weight is None or weight.dtype == torch.float32) and super().in_bfloat16(device)

    def many_calls(self) -> AbstractContextManager[None]:
        """A context for a whole walk: weights become bfloat16 once, and a GPU's kernels are recorded once."""
        device = self.device
        in_bfloat16 = self.in_bfloat16(device)
        return prepared(self.network, in_bfloat16) if in_bfloat16 or device.type == "cuda" else nullcontext()

    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        self.schedule.check_time(t)
        if not isinstance(t, Tensor):
            return self._at(x, t) if t >= 1 else self._carried_down(x, t, 1)[1]
        if not t.is_floating_point():
            return self._at(x, t)
        at_t, below = self._carried_down(x, t.clamp(max=1), t.clamp(min=1))
        is_below = per_sample(t < 1, x).to(x.device)
        return Prediction(*(torch.where(is_below, b, a) for a, b in zip(at_t, below, strict=True)))

    def _at(self, x: Tensor, t: float | Tensor) -> Prediction:
        """What the network sees in x_t at times from 1 up."""
        signal, noise = self.schedule.coefficients(t, x)
        if isinstance(t, Tensor):
            times = t.to(x.device, torch.float32).expand(len(x))
        else:
            times = torch.full((len(x),), float(t), dtype=torch.float32, device=x.device)
        dtype = next(self.network.parameters(), x).dtype
        in_bfloat16 = self.in_bfloat16(x.device)
        network = in_walk(self.network, in_bfloat16)
        with torch.autocast(x.device.type, torch.bfloat16) if in_bfloat16 else nullcontext():
            labels = self.labels_for(x)
            output = network(x.to(dtype), times - 1, *(() if labels is None else (labels,)))
        return prediction_of(self.target, answer_like("network", output, x).to(x.dtype), x, signal, noise)

    def _carried_down(self, x: Tensor, low: float | Tensor, high: float | Tensor) -> tuple[Prediction, Prediction]:
        """What the network sees at `high` >= 1 in x, scaled from `low` <= 1 to time 1; and what that says at `low`."""
        signal, noise = self.schedule.coefficients(low, x)
        signal_1, sigma_1 = self.schedule.signal(1), self.schedule.sigma(1)
        seen = self._at(x * (signal_1 / signal), high)
        eps = noise / signal / sigma_1 * seen.eps  # the score of x / signal is -eps / sigma
        return seen, prediction_of("eps", eps, x, signal, noise)
