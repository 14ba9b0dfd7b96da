"""The features in which every distance is measured: those of one small frozen classifier of Fashion-MNIST."""

from functools import cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm import data
from ddpm.arguments import check_finite, instance
from ddpm.files import load_tensors

__all__ = [
    "FEATURES", "FEATURES_SHA256", "FeatureNetwork", "check_garments", "classify", "feature_network", "features",
    "frozen",
]  # fmt: skip

Network = TypeVar("Network", bound=nn.Module)

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


def check_garments(name: str, images: Tensor) -> None:
    """Raise an error unless the frozen network can look at these images.

    Raises:
        TypeError: they are no tensor.
        ValueError: they are not floating point (n, 1, 32, 32), or hold NaN or infinity.
    """
    instance(name, images, Tensor)
    if images.ndim != 4 or images.shape[1:] != (1, 32, 32) or not images.is_floating_point():
        raise ValueError(
            f"{name} are {images.dtype} of shape {tuple(images.shape)}; features takes floats (n, 1, 32, 32)"
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
