"""Images and points in the plane: data sets by name, toys, and the scaling to [-1, 1]."""

from ddpm.data.scaling import check_range, denormalise, normalise
from ddpm.data.sets import ASSETS, CLASSES, DEBIAN_FOLDER, NAMES, TORCHVISION, Dataset, Split, cache_folder, load
from ddpm.data.toys import TOYS, toy

__all__ = [
    "ASSETS", "CLASSES", "DEBIAN_FOLDER", "NAMES", "TORCHVISION", "TOYS", "Dataset", "Split", "cache_folder",
    "check_range", "denormalise", "load", "normalise", "toy",
]  # fmt: skip
