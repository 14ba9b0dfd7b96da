"""`ddpm train`."""

import json
import os
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm.cli.launch import launched, may_be_stopped, one_process_first
from ddpm.cli.options import ThreadsOfRunOption
from ddpm.cli.picture import picture_of
from ddpm.cli.settings import with_settings, with_tuples
from ddpm.settings import check, flag, non_negative_int, one_of, positive_int
from ddpm.training.record import RENAMED, upgraded

if TYPE_CHECKING:
    from PIL import Image

    from ddpm.data import Dataset
    from ddpm.data.pictures import Pictures

__all__ = ["JobSettings", "settings_of", "train"]

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


#: The settings of models and trainings that are options; all others can stand in a file for --config.
OPTIONS = (
    "steps", "batch_size", "micro_batch_size", "flip", "base_channels", "blocks_per_level", "schedule", "target",
    "weighting", "snr_gamma", "times", "log_sigma_mean", "log_sigma_std", "uniform_share", "label_dropout",
    "latent_dim", "loss", "game", "r1",
    "optimiser", "momentum", "weight_decay", "clip", "learning_rate", "warmup", "decay",
    "ema", "seed", "checkpoint_every", "keep", "precision",
)  # fmt: skip


@with_settings(JobSettings, OPTIONS)
def train(
    out: Annotated[Path, typer.Option(help="The run's folder. The same command again in the same folder resumes it.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Read settings from a file: another run's config.json, or a .toml or .json file with the names of "
            "these options and any other setting of the model. Options on the command line override it."
        ),
    ] = None,
    threads: ThreadsOfRunOption = None,
    **settings: Any,  # the options that `with_settings` makes; None where one is not given
) -> None:
    """Train a model, or go on where the run in --out stopped.

    The defaults are the recommended recipe for each kind of model (ddpm.training.recipes). The recipe of Ho et al.
    (2020) is --target eps --times uniform --optimiser adamw --learning-rate 1e-3 --warmup 200.

    Ctrl-C or SIGTERM saves the run and ends it; a kill loses the steps since the last checkpoint. On several GPUs or
    machines: accelerate launch -m ddpm train ...
    """
    from ddpm.training.recipes import check_optimiser_settings, recipe

    is_main = launched().is_main
    given = {name: value for name, value in {**settings, "threads": threads}.items() if value is not None}
    in_file = settings_of(config, given) if config is not None else {}
    job, chosen = job_of(in_file | given)
    refuse_what_is_no_option(chosen)
    if "label_dropout" in given and not job.conditional:
        raise ValueError(f"label_dropout is {given['label_dropout']:g}; it needs --conditional, which tells labels")
    of_data = {} if job.model == "diffusion" else {"image_shape": (1, job.size, job.size)}
    _, training = recipe(job.model, **chosen | of_data)  # refuses wrong ones before torch is loaded and images are read
    check_optimiser_settings(training.optimiser, given)

    from ddpm.extras import check_installed
    from ddpm.files import check_place, expanded
    from ddpm.model_files import weights_file
    from ddpm.training import loop
    from ddpm.training.trackers import check_trackers

    out = expanded(out)
    check_installed("accelerate")
    check_trackers(job.trackers, out)
    weights = weights_file("init", job.init, or_file=True) if job.init is not None else None
    if is_main:
        check_place("out", out / "config.json")  # before a long reading

    def configs_for(shape: Shape, classes: int | None) -> tuple[Any, Any]:
        of_network = {"channels": shape[0], "classes": classes}
        return recipe(job.model, **chosen | (of_network if job.model == "diffusion" else {"image_shape": shape}))

    def check_shape(shape: Shape) -> None:
        configs_for(shape, 2 if job.conditional else None)[0].check_images(shape)

    with one_process_first():
        dataset = load_data(job, quiet=not is_main, check_shape=check_shape)
    if job.conditional and len(dataset.classes) < 2:
        found = f"one class, {dataset.classes[0]!r}" if dataset.classes else "no classes"
        raise ValueError(f"conditional is True; {job.data} has {found}; two or more subfolders must hold all pictures")
    model, training = configs_for(dataset.shape, len(dataset.classes) if job.conditional else None)

    picture = partial(draw_progress, dataset=dataset) if job.samples else None
    with may_be_stopped():
        loop.train(
            model, dataset, training, out,
            init=weights, workers=job.workers, trackers=job.trackers, picture=picture,
        )  # fmt: skip
        if is_main:
            typer.echo(f"done: {out / 'model.safetensors'}")


def refuse_what_is_no_option(settings: dict[str, Any]) -> None:
    """Raise `ValueError` where a file sets what the data or a teacher says."""
    if "image_shape" in settings:
        raise ValueError(
            f"image_shape is {settings['image_shape']}; the data says it, and --image-size and --channels for pictures"
        )
    if "classes" in settings:
        raise ValueError(f"classes is {settings['classes']}; the data says how many, and --conditional tells them")
    if settings.get("distilled_for") is not None:
        raise ValueError(
            f"distilled_for is {settings['distilled_for']}; ddpm distill trains such a model, with its teacher"
        )


def job_of(settings: dict[str, Any]) -> tuple[JobSettings, dict[str, Any]]:
    """The job's own settings, and the others: those of the model and of its training."""
    own = {field.name: settings[field.name] for field in fields(JobSettings) if field.name in settings}
    others = {name: value for name, value in settings.items() if name not in own}
    return JobSettings(**own), with_tuples(others)


def settings_of(path: Path, given: Collection[str] = ()) -> dict[str, Any]:
    """The settings in a file, flat: a run's config.json, or a .toml or .json with a setting a line.

    Args:
        path: the file.
        given: names of settings that are known already; some records need them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors put a mark at the beginning
        settings = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"config is {str(path)!r}, which cannot be read: its encoding must be UTF-8") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"config is {str(path)!r}, which cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"config is {str(path)!r}; it must hold names and values")
    if isinstance(settings.get("model"), dict):  # a record; in a file of settings it is a name
        if "training" not in settings:  # what ddpm.save writes
            raise ValueError(f"config is {str(path)!r}, a saved network's; it says nothing of a training")
        try:
            settings = _settings_of_record(path, settings, given)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"config is {str(path)!r}, a run's record that is damaged: {error!r}") from error
    return with_tuples({RENAMED.get(name, name).replace("-", "_"): value for name, value in settings.items()})


def _settings_of_record(path: Path, record: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    for part in ("training", "data"):
        if not isinstance(record.get(part), dict):
            raise ValueError(f"config is {str(path)!r}, a run's record that is damaged: its {part} is no table")
    record = upgraded(record)
    if own := [name for name in ("own_network", "own_schedule", "own_task") if name in record]:
        raise ValueError(f"config is {str(path)!r}, of a run with an {own[0]}, which only ddpm.training.train can have")
    model, data = dict(record["model"]), record["data"]
    of_folder = data["name"].startswith("folder:")
    for name, what, so in (("data", "pictures from a folder", of_folder), ("init", "other weights", "init" in record)):
        if so and name not in given:
            raise ValueError(f"config is {str(path)!r}, a run that began with {what}; name them with --{name}")
    kind = "vae" if model.pop("variational", False) else record.get("kind", "diffusion")
    model |= model.pop("unet", {})
    conditional = {"conditional": True} if model.get("classes") else {}
    for name in ("image_shape", "channels", "classes"):  # the data's
        model.pop(name, None)
    channels, size, width = data["image_shape"]
    if of_folder and width != size:
        shape = f"{size} x {width}"
        raise ValueError(f"config is {str(path)!r}, a run on pictures of {shape}; --image-size makes squares alone")
    training = dict(record["training"])
    training.pop("threads", None)  # the machine's
    of_data = {"channels": channels, "image_size": size} if of_folder else {"data": data["name"]}
    return {"model": kind, **model, **training, **of_data, **conditional}


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
