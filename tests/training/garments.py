"""The images that tests of training share."""

from dataclasses import replace

from ddpm import data


def first_images(n):
    """The first garments of the data set that ships with the package."""
    full = data.load("fashion-mnist-embedded", "train", quiet=True)
    return replace(full, images=full.images[:n], labels=full.labels[:n])
