"""A diffusion model as the training loop sees it: its configuration, and its loss.

Training of Ho et al. (2020), algorithm 1: a time t, a noise eps and one network call for each image, with the loss ::

    L_simple = E || target - network(signal(t) x0 + noise(t) eps, t) ||^2                           (eq. 14)

of the network's prediction target: eps there, or another of `ddpm.targets`. A network with classes is told
each image's label, but for a share of them that is drawn anew in every step (Ho & Salimans 2022, algorithm 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.arguments import answer_like, check_labels, check_samples, exact, instance
from ddpm.denoiser import NetworkDenoiser
from ddpm.model_settings import DiffusionSettings
from ddpm.noise import StepRandomness
from ddpm.schedule import SCHEDULES, NoiseSchedule
from ddpm.settings import Precision, Target, one_of, real
from ddpm.targets import check_target, target_of
from ddpm.unet import UNet

__all__ = ["Diffusion", "DiffusionConfig", "bound_weights", "min_snr_weights", "time_probabilities"]


@dataclass(frozen=True)
class DiffusionConfig(DiffusionSettings):
    """The settings of a diffusion model, and what is built from them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule(self.noise_schedule(), self)  # some need a T that is large enough

    def noise_schedule(self) -> NoiseSchedule:
        """The schedule of this name and length."""
        return named_schedule(self)

    def network(self, image_size: tuple[int, int] | None = None) -> UNet:
        """A UNet with random weights, in the memory layout that convolutions are fastest in."""
        return UNet(self.unet, image_size).to(memory_format=torch.channels_last)

    def denoiser(
        self,
        precision: Precision,
        image_shape: tuple[int, int, int],
        classes: Sequence[str] = (),
        network: nn.Module | None = None,
        schedule: NoiseSchedule | None = None,
    ) -> NetworkDenoiser:
        """An untrained denoiser of this configuration.

        `classes` are the names of its classes, if it has any; `network` and `schedule` are of your own in place of the
        UNet and of the schedule that is named.
        """
        network = self.network(image_shape[1:]) if network is None else network
        schedule = self.noise_schedule() if schedule is None else schedule
        return NetworkDenoiser(network, schedule, self.target, precision, image_shape, classes, self.distilled_for)

    def task(self) -> "Diffusion":
        """What the training loop steps; `ValueError` for a student, which `ddpm.distillation` trains."""
        if self.distilled_for is not None:
            raise ValueError(
                f"distilled_for is {self.distilled_for}; ddpm.distillation trains such a model, with its teacher"
            )
        return Diffusion(self)


class Diffusion:
    """The training task of a diffusion model.

    Args:
        config: the model's settings.
        network: one of your own to train in place of the UNet, of whose settings only those count then that say which
            images and labels there are: `channels`, `classes`, and `channel_multipliers` with `resample_last`, by
            which sides must divide. It is called with images and times t - 1 (batch,), and if there are classes with
            labels (batch,), where `classes` itself is the null label; a denoiser that is told no class calls it without
            labels, which must mean the same. It answers the target. Times are floats, whole in training and any real
            numbers in sampling.
        schedule: one of your own to train on in place of that which the configuration names, of as many times.

    Attributes:
        loss_weights: (T + 1,) weights of the squared error at times 0 to T, float64; None where all are 1.
        probabilities: (T,) probabilities with which times 1 to T are drawn, float64.

    Raises:
        TypeError: `network` is no torch module, or `schedule` no `NoiseSchedule`.
        ValueError: the configuration's T, target or weighting is not the schedule's.
    """

    def __init__(
        self, config: DiffusionConfig, network: nn.Module | None = None, schedule: NoiseSchedule | None = None
    ) -> None:
        self.schedule = config.noise_schedule() if schedule is None else check_schedule(schedule, config)
        self.target = config.target
        self.loss_weights = loss_weights(config, self.schedule)
        self.probabilities = time_probabilities(config, self.schedule)
        self.config, self.classes = config, config.unet.classes
        self.own_network = None if network is None else type(instance("network", network, nn.Module)).__name__
        self.parts: dict[str, nn.Module] = {"unet": config.network() if network is None else network}

    @property
    def own_schedule(self) -> NoiseSchedule | None:
        """The schedule where it is not the one that the configuration names."""
        return None if self.schedule == named_schedule(self.config) else self.schedule

    def loss(self, part: str, images: Tensor, randomness: StepRandomness, labels: Tensor | None = None) -> Tensor:
        """Mean squared error between the network's output and its target, weighted by time, a scalar.

        Images are (batch, channels, height, width), in [-1, 1] as `normalise` makes them, which is not checked; labels
        are (batch,), of a network with classes.

        Raises:
            TypeError: the network answers no tensor, or images or labels are of another type.
            ValueError: the network does not answer in the images' shape, or images or labels are not legal.
        """
        check_samples("images", images, batch=randomness.count)
        images = images.float()  # bfloat16 where a network has made them under autocast
        up_to = self.probabilities.cumsum(0)[:-1]  # the probability of times up to 1, 2, ..., T - 1
        t = 1 + torch.searchsorted(up_to, randomness.stratified(), right=True)  # (batch,), integers 1..T
        eps = randomness.normal(*images.shape[1:]).to(images.device)
        signal, noise = self.schedule.coefficients(t, images)  # (batch, 1, 1, 1)
        x_t = signal * images + noise * eps  # Ho et al. 2020, eq. 4
        network = self.parts[one_of("part", part, list(self.parts))]
        seen = self.labels_seen(labels, randomness, images.device)
        answer = network(x_t, (t - 1).to(images), *seen)  # t - 1 is diffusers' index
        output = answer_like("network", answer, x_t).float()
        target = target_of(self.target, images, eps, signal, noise)
        if self.loss_weights is None:
            return F.mse_loss(output, target)  # eq. 14
        errors: Tensor = (output - target).square().flatten(1).mean(1)
        return (self.loss_weights[t].to(errors) * errors).mean()

    def check_probabilities_and_weights(self) -> None:
        """Raise `ValueError` unless probabilities and weights, which a subclass may have set, can be those of times."""
        T = self.schedule.T
        for name, values, n in (("probabilities", self.probabilities, T), ("loss_weights", self.loss_weights, T + 1)):
            if values is None:
                continue
            if values.shape != (n,):
                raise ValueError(f"{name} have shape {tuple(values.shape)}; it must be ({n},)")
            low, high = values[-T:].aminmax()  # the weight at time 0 is unused
            if not 0 <= low <= high < math.inf:
                raise ValueError(f"{name} run from {low:g} to {high:g}; legal is 0 and more, finite")
        if abs((total := self.probabilities.sum().item()) - 1) > 1e-6:
            raise ValueError(f"probabilities sum to {total:.4g}; they must sum to 1")

    def labels_seen(
        self, labels: Tensor | None, randomness: StepRandomness, device: torch.device
    ) -> tuple[Tensor, ...]:
        """What a network is called with besides images and times: nothing, or the labels (batch,) that it sees.

        A share of them, drawn at random, is replaced by the null label (Ho & Salimans 2022, algorithm 1).
        """
        if self.classes is None:
            return ()
        if labels is None:
            raise ValueError("labels are not given; a network with classes is trained with those of the images")
        check_labels(labels, randomness.count, self.classes - 1)
        is_dropped = randomness.uniform() < self.config.label_dropout
        return (labels.masked_fill(is_dropped.to(labels.device), self.classes).to(device),)


def named_schedule(config: DiffusionSettings) -> NoiseSchedule:
    """The schedule of the name and length that a configuration says, whatever a derived class answers for it."""
    return SCHEDULES[config.schedule](config.T)


def check_schedule(schedule: NoiseSchedule, config: DiffusionConfig) -> NoiseSchedule:
    """A schedule that a model of these settings can be trained on; raises what `Diffusion` does where it cannot."""
    if instance("schedule", schedule, NoiseSchedule).T != config.T:
        raise ValueError(f"schedule is {schedule}; the configuration's T is {config.T}, and must be the schedule's")
    check_target(config.target, schedule)
    if config.weighting == "min_snr" and schedule.signal(schedule.T) == 0:
        name = repr(config.schedule) if schedule == named_schedule(config) else repr(schedule)
        raise ValueError(f"weighting is 'min_snr', which is 0 at T; schedule {name} has no signal there")
    return schedule


def loss_weights(config: DiffusionConfig, schedule: NoiseSchedule) -> Tensor | None:
    """(T + 1,) weights of the squared error at times 0 to T, float64; None where all are 1."""
    if config.weighting == "simple":
        return None
    if config.weighting == "bound":
        return bound_weights(schedule, config.target)
    return min_snr_weights(schedule, config.target, config.snr_gamma)


def min_snr_weights(schedule: NoiseSchedule, target: Target, gamma: float = 5.0) -> Tensor:
    """(T + 1,) weights of the target's squared error at times 0 to T, float64; that at 0 is unused.

    Those of Hang et al. (2023): the squared error of x0 counts SNR times, as in L_simple of eps, but at most gamma
    times, so that the times of little noise do not outweigh the others.
    """
    signal, noise = coefficients_of_all_times(schedule, target)
    snr = (signal / noise).square()
    return snr.clamp(max=real("gamma", gamma, above=0)) * x0_error(target, signal, noise).square()


def bound_weights(schedule: NoiseSchedule, target: Target) -> Tensor:
    """(T + 1,) weights of the target's squared error at times 0 to T, float64; that at 0 is unused.

    With them the mean over uniform times 1..T is the variational bound in nats a dimension, up to what no network
    changes: T (SNR(t - 1) - SNR(t)) / 2 times the squared error of x0, and T (1 + SNR(1)) / 2 at t = 1, where the
    decoder has the variance 1 / (1 + SNR(1)), which is noise(1)^2 where the variance is preserved.
    """
    signal, noise = coefficients_of_all_times(schedule, target)
    snr = (signal / noise).square()
    of_x0 = torch.cat([snr.new_zeros(1), 1 + snr[1:2], snr[1:-1] - snr[2:]]) * schedule.T / 2
    return of_x0 * x0_error(target, signal, noise).square()


def coefficients_of_all_times(schedule: NoiseSchedule, target: Target) -> tuple[Tensor, Tensor]:
    """The signal and the noise (T + 1,) at times 0 to T, float64; `ValueError` where the target needs another."""
    check_target(target, instance("schedule", schedule, NoiseSchedule))
    return schedule.signal_and_noise(exact("t", range(schedule.T + 1)))


def x0_error(target: Target, signal: Tensor, noise: Tensor) -> Tensor:
    """By how much the predicted x0 is wrong where the network's answer is wrong by 1."""
    return {"x0": torch.ones_like(noise), "eps": noise / signal, "v": noise, "flow": noise}[target]


def time_probabilities(config: DiffusionConfig, schedule: NoiseSchedule | None = None) -> Tensor:
    """(T,) probabilities with which training draws the times 1 to T, float64.

    `schedule` is one of your own in place of that which the configuration names.
    """
    instance("config", config, DiffusionConfig)
    schedule = config.noise_schedule() if schedule is None else check_schedule(schedule, config)
    uniform = torch.full((schedule.T,), 1 / schedule.T, dtype=torch.float64, device="cpu")
    if config.times == "uniform":
        return uniform
    log_sigma = exact("sigma", [schedule.sigma(t) for t in range(1, schedule.T + 1)]).log()
    middles = (log_sigma[1:] + log_sigma[:-1]) / 2  # a time has the mass from halfway to its neighbours
    below = torch.special.ndtr((middles - config.log_sigma_mean) / config.log_sigma_std)
    lognormal = torch.cat([below.new_zeros(1), below, below.new_ones(1)]).diff()
    return torch.lerp(lognormal, uniform, config.uniform_share)
