"""What a set of generated images is worth: distances in the features of one small frozen classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 64


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
