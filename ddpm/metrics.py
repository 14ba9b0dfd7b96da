"""What generated images are worth: distances in the features of one small frozen classifier, and image fidelity."""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance

from ddpm import data
from ddpm.files import load_tensors

FEATURES = 64
# The network and its moments are frozen: others would be another metric.
MOMENTS_SHA256 = "4716e6ce9641023913c96d34286552149e6072fd0b0ea127b2343b04c4cba420"
FEATURES_SHA256 = "4fed2b4c34d01f32ebd2431f4834af6ed3be64fc08ff9bfe01de7a4f8c352733"


class FeatureNetwork(nn.Module):
    """A small classifier of Fashion-MNIST whose last 64 features, whitened, are the space of every distance here.

    Images (batch, 1, 32, 32) in [-1, 1] -> features (batch, 64). `logits` gives the ten class scores.
    """

    num_features = FEATURES  # torchmetrics asks

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
        return (self.body(images) - self.mean) @ self.whitening

    def logits(self, images: Tensor) -> Tensor:
        """Class scores (batch, 10)."""
        return self.head(F.relu(self.body(images)))


@cache
def feature_network() -> FeatureNetwork:
    """The frozen network that ships with the package, on the CPU, in float32."""
    network = FeatureNetwork()
    network.load_state_dict(load_tensors(data.ASSETS / "features.safetensors", FEATURES_SHA256))
    return network.eval().requires_grad_(False)


def features(images: Tensor) -> Tensor:
    """Images (n, 1, 32, 32) in [-1, 1] -> whitened features (n, 64), on the CPU, in chunks."""
    if images.ndim != 4 or images.shape[1:] != (1, 32, 32) or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; features takes floats (n, 1, 32, 32)"
        )
    return torch.cat([feature_network()(chunk) for chunk in images.float().cpu().split(500)])


def classify(images: Tensor) -> Tensor:
    """Images (n, 1, 32, 32) in [-1, 1] -> the class each looks like to the frozen classifier, int64 (n,)."""
    return torch.cat([feature_network().logits(chunk).argmax(1) for chunk in images.float().cpu().split(500)])


@dataclass(frozen=True)
class Distance:
    """A Frechet distance with what it means nothing without, and how far another draw of images would move it."""

    value: float
    spread: float  # standard deviation over bootstrap draws of the generated images
    generated: int
    real: int
    split: str
    weights: str
    floor: float

    def __str__(self) -> str:
        return (
            f"Frechet distance {self.value:.2f} (bootstrap sd {self.spread:.2f}) in features {FEATURES_SHA256[:8]} "
            f"(frozen classifier, 64, whitened); {self.generated:,} generated against {self.real:,} real {self.split} "
            f"images; {self.weights} weights; floor, {self.generated:,} real train images against the same: "
            f"{self.floor:.2f}"
        )


def frechet_distance(images: Tensor, *, weights: str) -> Distance:
    """Frechet distance (Heusel et al. 2017, eq. 6) of images to Fashion-MNIST in the frozen features.

    Computed by torchmetrics.

    Args:
        images: (n, 1, 32, 32) in about [-1, 1], n from 65 to 60,000; clipped to [-1, 1], as a saved image would be.
            Compared with all 10,000 test images, through their frozen moments.
        weights: which weights made the images ("EMA", "last", "none"), for the record.
    """
    n = len(images)
    if not FEATURES < n <= 60_000:
        raise ValueError(
            f"images are {n}; legal are {FEATURES + 1} to 60,000: more than features, no more than real ones"
        )
    name = "fashion-mnist-embedded" if n <= 10_000 else "fashion-mnist"
    train = data.load(name, "train", quiet=True).images
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    floor = _distance(features(data.normalise(train[chosen])))
    real = int(_moments()["test.n"])
    generated = features(images.clamp(-1, 1))
    generator = torch.Generator().manual_seed(0)
    draws = [_distance(generated[torch.randint(n, (n,), generator=generator)]) for _ in range(20)]
    return Distance(_distance(generated), torch.tensor(draws).std().item(), n, real, "test", weights, floor)


@cache
def _moments() -> dict[str, Tensor]:
    return load_tensors(data.ASSETS / "moments.safetensors", MOMENTS_SHA256)


def _distance(generated: Tensor) -> float:
    metric = FrechetInceptionDistance(feature=_Identity(), reset_real_features=False).set_dtype(torch.float64)
    n, mean, covariance = (_moments()[f"test.{name}"] for name in ("n", "mean", "covariance"))
    metric.real_features_num_samples = n
    metric.real_features_sum = n * mean
    metric.real_features_cov_sum = (n - 1) * covariance + n * torch.outer(mean, mean)
    metric.update(generated.double(), real=False)
    return metric.compute().item()


class _Identity(nn.Module):
    """torchmetrics' feature extractor, for features that are extracted already."""

    num_features = FEATURES

    def forward(self, x: Tensor) -> Tensor:
        return x


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair of images (n, c, h, w) in [-1, 1], (n,)."""
    pairs = zip(a, b, strict=True)
    return torch.stack([peak_signal_noise_ratio(x, y, data_range=2.0) for x, y in pairs])


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each pair of images (n, c, h, w) in [-1, 1], (n,)."""
    similarity = structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    assert isinstance(similarity, Tensor)  # a pair only where contrast or the full image is asked for
    return similarity
