"""The features in which distances are measured: those of one small frozen classifier of Fashion-MNIST, or your own."""

import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm import data
from ddpm.arguments import check_finite, function, instance
from ddpm.files import load_tensors

__all__ = [
    "FEATURES", "FEATURES_SHA256", "FeatureNetwork", "Features", "check_garments", "check_images", "check_real_images",
    "check_scale", "classify", "feature_network", "features", "features_in_words", "features_of", "frozen",
]  # fmt: skip

Network = TypeVar("Network", bound=nn.Module)
#: A function of your own that makes features: images (n, ...) in [-1, 1] -> (n, d).
Features = Callable[[Tensor], Tensor]

FEATURES = 64  # the dimension
# The network is frozen: with another one, every distance would be another metric.
FEATURES_SHA256 = "4fed2b4c34d01f32ebd2431f4834af6ed3be64fc08ff9bfe01de7a4f8c352733"


class FeatureNetwork(nn.Module):
    """A small classifier of Fashion-MNIST. Its last 64 features, whitened, are the space of every distance here.

    Images (batch, 1, 32, 32) in [-1, 1] -> features (batch, 64). `logits` gives the ten class scores.
    """

    def __init__(self) -> None:
        super().__init__()

        def convolution(channels_in: int, channels_out: int) -> nn.Sequential:
            conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())

        self.body = nn.Sequential(
            convolution(1, 32),
            nn.MaxPool2d(2),
            convolution(32, 64),
            convolution(64, 64),
            nn.MaxPool2d(2),
            convolution(64, 128),
            convolution(128, 128),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, FEATURES),
        )
        self.head = nn.Linear(FEATURES, 10)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("whitening", torch.eye(FEATURES))

    def forward(self, images: Tensor) -> Tensor:
        whitened: Tensor = (self.body(images) - self.mean) @ self.whitening
        return whitened

    def logits(self, images: Tensor) -> Tensor:
        """Class scores (batch, 10)."""
        scores: Tensor = self.head(F.relu(self.body(images)))
        return scores


@cache
def feature_network() -> FeatureNetwork:
    """The frozen network that ships with the package, on the CPU, in float32."""
    return frozen(FeatureNetwork, "features.safetensors", FEATURES_SHA256)


def frozen(network: type[Network], file: str, sha256: str) -> Network:
    """A network with the weights of a file that ships with the package, of this hash, on the CPU, in float32."""
    with torch.device("cpu"):
        made = network().to(torch.float32)
    made.load_state_dict(load_tensors(data.ASSETS / file, sha256))
    return made.eval().requires_grad_(False)


def check_garments(name: str, images: Tensor, otherwise: str = "") -> None:
    """Raise an error unless the frozen network can look at these images; `otherwise` says what to do with others.

    Raises:
        TypeError: they are no tensor.
        ValueError: they are not floating point (n, 1, 32, 32), or hold NaN or infinity.
    """
    instance(name, images, Tensor)
    if images.ndim != 4 or images.shape[1:] != (1, 32, 32) or not images.is_floating_point():
        raise ValueError(
            f"{name} are {images.dtype} of shape {tuple(images.shape)}; features takes floats (n, 1, 32, 32){otherwise}"
        )
    check_finite(name, images)


def features(images: Tensor) -> Tensor:
    """Images (n, 1, 32, 32) in [-1, 1] -> whitened features (n, 64), computed on the CPU in chunks.

    Raises:
        ValueError: images of another shape or dtype, or with values that are not finite.
    """
    check_garments("images", images)
    return torch.cat([feature_network()(chunk) for chunk in images.float().cpu().split(500)])


def classify(images: Tensor) -> Tensor:
    """Images (n, 1, 32, 32) in [-1, 1] -> the class that the frozen classifier sees in each, int64 (n,).

    Raises:
        ValueError: images of another shape or dtype, or with values that are not finite.
    """
    check_garments("images", images)
    return torch.cat([feature_network().logits(chunk).argmax(1) for chunk in images.float().cpu().split(500)])


def check_images(name: str, images: Tensor, own: Features | None) -> None:
    """Raise an error unless features of your own, or the frozen ones if `own` is None, can be made of these images.

    Raises:
        TypeError: they are no tensor of floating-point values, or `own` is no function.
        ValueError: there are none, they hold NaN or infinity, or are no garments where the features are frozen.
    """
    if own is None:
        check_garments(name, images, "; for others, features= takes a function of your own")
    else:
        function("features", own)
        if not instance(name, images, Tensor).is_floating_point():
            raise TypeError(f"{name} are {images.dtype}; they must be floating point, in [-1, 1]")
        if images.ndim < 2:
            raise ValueError(f"{name} have shape {tuple(images.shape)}; it must be (n, ...)")
        check_finite(name, images)
    if not len(images):
        raise ValueError(f"{name} are 0; legal is at least 1")


def _calls_to_the_user() -> int:
    """How many calls up, from the function that asks, the first line outside of this package stands."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == "ddpm":
        frame, level = frame.f_back, level + 1
    return level


def check_scale(name: str, images: Tensor) -> None:
    """Raise `ValueError` unless real images lie in [-1, 1], and warn where they seem to lie in [0, 1].

    There the darkest pixel of all is nearly black. Images in [-1, 1] have such a least value, from 0 to 0.1, only where
    the darkest pixel of all is a middle grey. As in `check_range`, on a GPU nothing is checked.
    """
    data.check_range(images)
    if images.device.type == "cpu" and 0 <= (least := images.min().item()) < 0.1:
        warnings.warn(
            f"{name} have no value below {least:g}: if they are images in [0, 1], bring them to [-1, 1] by "
            "2 * images - 1",
            stacklevel=_calls_to_the_user(),
        )


def check_real_images(real: Tensor | None, own: Features | None) -> None:
    """Raise an error unless images can be compared with these; None, the test images, is for the frozen features alone.

    Raises:
        TypeError: what `check_images` raises.
        ValueError: that, too, or they are not in [-1, 1], or None beside features of your own.
    """
    if real is not None:
        check_images("real", real, own)
        check_scale("real", real)
    elif own is not None:
        raise ValueError("real is None; in features of your own images are compared with real ones of your own")


@torch.no_grad()
def features_of(images: Tensor, own: Features | None) -> Tensor:
    """Images (n, ...), which are clipped to [-1, 1] as saved ones are -> their features (n, d) on the CPU.

    Args:
        images: those that `check_images` lets through.
        own: a function of your own, or None for the frozen features. It is called with at most 100 images at a time,
            in float32. A torch module is put into evaluation mode, and called where its weights are.

    Raises:
        TypeError: `own` answers no tensor.
        ValueError: its answer has another shape than (n, d), or holds NaN or infinity.
    """
    images = images.clamp(-1, 1)
    if own is None:
        return features(images)
    place = images.device
    if isinstance(own, nn.Module):
        own.eval()
        place = next(own.parameters(), images).device
    return torch.cat([_checked(own(chunk.float().to(place)), chunk) for chunk in images.split(100)])


def _checked(answer: Tensor, images: Tensor) -> Tensor:
    """What features of your own answered, float32 (n, d) on the CPU."""
    if not isinstance(answer, Tensor):
        raise TypeError(f"features answers {type(answer).__name__}; it must be a tensor (n, d)")
    if answer.ndim != 2 or len(answer) != len(images):
        raise ValueError(f"features answers {tuple(answer.shape)} at {len(images)} images; it must be (n, d)")
    check_finite("features", answer)
    return answer.cpu().float()


def features_in_words(own: Features | None, d: int) -> str:
    """The name of these features, of which there are d, for a measure to say with its value."""
    if own is None:
        return f"features {FEATURES_SHA256[:8]} (frozen classifier, {d}, whitened)"
    return f"features of {getattr(own, '__name__', type(own).__name__)} ({d})"
