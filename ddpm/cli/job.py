"""What `ddpm train` and `ddpm distill` share: the settings of a job, its images, and what it draws on the way."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm.cli.picture import picture_of
from ddpm.settings import check, flag, non_negative_int, one_of, positive_int

if TYPE_CHECKING:
    from PIL import Image

    from ddpm.data import Dataset
    from ddpm.data.pictures import Pictures

__all__ = ["JobSettings", "Shape", "draw_progress", "load_data"]

#: (channels, height, width) of an image.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class JobSettings:
    """What `ddpm train` asks besides the settings of the model and of its training.

    Attributes:
        model: kind of model: diffusion, autoencoder, vae or gan.
        data: data set: fashion-mnist (60,000 images), fashion-mnist-embedded, mnist, kmnist, cifar10, cifar100, or
            folder:PATH with pictures of any size and colours.
        data_folder: folder that holds the files of a named data set.
        image_size: height and width that pictures from a folder are brought to (32 by default): a multiple of 4 for
            diffusion and of 8 for the other models, unless a file for --config gives them other levels. In Python,
            ddpm.data.pictures.load_folder also takes a height that is not the width.
        channels: channels of pictures from a folder: 1 makes them grey, 3 RGB (the default).
        workers: processes that read pictures while the device computes.
        conditional: tell the network each image's class, so that it can draw the one that is asked for. The classes of
            folder:PATH are its subfolders.
        init: start from the weights of this model (a name, a run's folder, or a file like its model.safetensors). With
            --conditional it may be one that was told no classes.
        samples: draw sixteen images at every checkpoint, into OUT/samples and the trackers.
        track: trackers besides OUT/log.jsonl, which has a line for each step: tensorboard (tensorboard --logdir OUT),
            wandb (Weights & Biases, if installed) or none. Give the option several times for several trackers.
    """

    model: str = "diffusion"
    data: str = "fashion-mnist"
    data_folder: str | None = None
    image_size: int | None = None
    channels: int | None = None
    workers: int = 2
    conditional: bool = False
    init: str | None = None
    samples: bool = True
    track: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            raise TypeError(f"data is {self.data!r}; it must be a name or folder:PATH")
        check(self, _optional(_path), "data_folder", "init")
        check(self, _optional(positive_int), "image_size", "channels")
        check(self, non_negative_int, "workers")
        check(self, flag, "conditional", "samples")
        if self.conditional and self.model != "diffusion":
            raise ValueError(f"conditional is True; model {self.model!r} is told no classes, only diffusion is")
        check(self, _names, "track")

    @property
    def size(self) -> int:
        """Height and width of pictures from a folder."""
        return 32 if self.image_size is None else self.image_size

    @property
    def trackers(self) -> list[str]:
        """Names of accelerate's trackers."""
        return [name for name in self.track if name != "none"]


def _optional(rule: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """A rule that also takes None."""
    return lambda name, value: None if value is None else rule(name, value)


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; it must be a path or a name")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    """`value` as a tuple; it must be a name or a list of names."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise ValueError(f"{name} is {value!r}; it must be a name or a list of names")
    return tuple(names)


def load_data(job: JobSettings, quiet: bool, check_shape: Callable[[Shape], object]) -> "Dataset | Pictures":
    """The images of a job; `check_shape` raises, before a long reading, where the model does not take their shape."""
    from ddpm.data import NAMES, load
    from ddpm.data.pictures import load_folder

    if job.data.startswith("folder:"):
        if job.data_folder is not None:
            raise ValueError(f"data_folder is {job.data_folder!r}; data is {job.data!r}, which names its folder itself")
        shape = (3 if job.channels is None else job.channels, job.size, job.size)
        check_shape(shape)
        return load_folder(job.data.removeprefix("folder:"), shape, workers=job.workers, quiet=quiet)
    if job.data not in NAMES and os.path.isdir(job.data):
        raise ValueError(f"data is {job.data!r}, which is a folder; did you mean folder:{job.data}?")
    for name, value in (("image_size", job.image_size), ("channels", job.channels)):
        if value is not None:
            raise ValueError(f"{name} is {value}; only pictures of --data folder:PATH are brought to it")
    one_of("data", job.data, (*NAMES, "folder:PATH"))
    return load(job.data, "train", job.data_folder, quiet=quiet)


def draw_progress(folder: Path, dataset: "Dataset | Pictures") -> "Image.Image":
    """Sixteen images drawn by a run's model, of a conditional one of its classes in turn.

    For a plain autoencoder, which draws none, eight reconstructions.
    """
    import torch

    import ddpm
    from ddpm.autoencoder import Autoencoder
    from ddpm.data import denormalise, normalise

    model = ddpm.load(folder.resolve())  # an absolute path, which no shipped model is called
    if type(model) is Autoencoder:
        some = range(min(8, len(dataset)))
        originals = torch.stack([dataset[i][0] for i in some])
        x = normalise(originals).to(model.device)
        images = torch.stack([x, model.decode(model.encode(x))], dim=1).flatten(0, 1)
    else:
        if model.classes:
            model = model.given([i % len(model.classes) for i in range(16)])
        images = ddpm.sample(model, 16, chunk=16, progress=False)
    return picture_of(denormalise(images).cpu(), 4)
