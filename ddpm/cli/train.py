"""`ddpm train`."""

import json
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm.cli.options import first, launched

if TYPE_CHECKING:
    from PIL import Image

    from ddpm.data import Dataset
    from ddpm.pictures import Pictures

DEFAULTS = {
    "model": "diffusion", "data": "fashion-mnist", "data_folder": None, "image_size": None, "channels": None,
    "workers": 2, "init": None, "samples": True, "track": ("tensorboard",),
}  # fmt: skip


def train(
    out: Annotated[Path, typer.Option(help="The run's folder. The same command again in the same folder resumes it.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings from a file: another run's config.json, or a .toml or .json with these options' names and "
            "any other setting of the model. Options on the command line override it."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="diffusion, autoencoder, vae or gan.", show_default="diffusion")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="fashion-mnist (60,000 images), fashion-mnist-embedded, mnist, kmnist, cifar10, cifar100, or "
            "folder:PATH with pictures of any size and colours.",
            show_default="fashion-mnist",
        ),
    ] = None,
    data_folder: Annotated[Path | None, typer.Option(help="Where a named set's files lie.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Of pictures from a folder: height and width, a multiple of 8.", show_default="32"),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Of pictures from a folder: 1 makes them grey, 3 RGB.", show_default="3")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that read pictures.", show_default="2")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", show_default="5000")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step, over all processes.", show_default="64")
    ] = None,
    base_channels: Annotated[
        int | None,
        typer.Option(help="Width of the network's first level, a multiple of 8.", show_default="32"),
    ] = None,
    blocks_per_level: Annotated[
        int | None, typer.Option(help="Residual blocks a level on the UNet's way down.", show_default="1")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Noise schedule: linear, cosine or sigmoid.", show_default="linear")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="What a diffusion network predicts: eps, x0 or v.", show_default="v")
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(
            help="Of squared errors: simple (all alike) or bound (the likelihood's; needs uniform times).",
            show_default="simple",
        ),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(
            help="How times are drawn: lognormal (log noise / signal near -0.9) or uniform.", show_default="lognormal"
        ),
    ] = None,
    uniform_share: Annotated[
        float | None,
        typer.Option(help="Of lognormal times, the share drawn uniformly: the noisiest need it.", show_default="0.1"),
    ] = None,
    latent_dim: Annotated[
        int | None, typer.Option(help="Numbers in an autoencoder's code or a GAN's noise.", show_default="32")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="An autoencoder's, plain or variational: mse or bce.", show_default="mse")
    ] = None,
    game: Annotated[
        str | None, typer.Option(help="A GAN's: non-saturating or minimax.", show_default="non-saturating")
    ] = None,
    r1: Annotated[float | None, typer.Option(help="Weight of a GAN's gradient penalty.", show_default="1")] = None,
    optimiser: Annotated[
        str | None,
        typer.Option(help="muon, adamw, adam, sgd or rmsprop.", show_default="the model's: muon for diffusion"),
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="Of adamw, adam (beta 1) and sgd.", show_default="0.9; a GAN's 0")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled.", show_default="0.01")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of a gradient.", show_default="1.0")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Its peak rate.", show_default="the model's: 2e-3 for diffusion")
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(help="Steps to reach it.", show_default="200; 50 for diffusion"),
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(help="Of the rate from there on: cosine or linear to 0, or constant.", show_default="cosine"),
    ] = None,
    ema: Annotated[
        list[float] | None,
        typer.Option(
            help="Decay of the averaged weights, which are the ones kept. Given several times: the first is kept as "
            "the run's model, every other one as a model in a folder of its own, OUT/ema-0.9999.",
            show_default="0.999",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order of images, times and noise.", show_default="0")
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints; a killed run loses at most these.", show_default="500"),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(help="Newest checkpoints that are kept, besides the one with the least loss.", show_default="2"),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto: bfloat16 where the hardware has it; or float32.", show_default="auto"),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from this model's weights (a name or a run's folder).")
    ] = None,
    samples: Annotated[
        bool | None,
        typer.Option(
            help="Draw sixteen images at every checkpoint, into OUT/samples and the trackers.", show_default="samples"
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Besides OUT/log.jsonl, a line a step: tensorboard (tensorboard --logdir OUT), wandb (Weights & "
            "Biases, if installed) or none; several times for several.",
            show_default="tensorboard",
        ),
    ] = None,
) -> None:
    """Train a model, or go on where the run in --out stopped.

    The defaults are the recommended recipe of each kind (ddpm.recipes). The one of Ho et al. (2020) is --target eps
    --times uniform --optimiser adamw --learning-rate 1e-3 --warmup 200.

    Ctrl-C or SIGTERM saves and ends it; a kill loses the steps since the last checkpoint. On several GPUs or machines:
    accelerate launch -m ddpm train ...
    """
    from ddpm import pretrained
    from ddpm.recipes import recipe
    from ddpm.signals import Stopped
    from ddpm.training import train as run

    _, speaks = launched()
    given = {
        "model": model, "data": data, "data_folder": data_folder, "image_size": image_size, "channels": channels,
        "workers": workers, "steps": steps, "batch_size": batch_size, "base_channels": base_channels,
        "blocks_per_level": blocks_per_level, "schedule": schedule, "target": target, "weighting": weighting,
        "times": times, "uniform_share": uniform_share, "latent_dim": latent_dim, "loss": loss, "game": game, "r1": r1,
        "optimiser": optimiser, "momentum": momentum, "weight_decay": weight_decay, "clip": clip,
        "learning_rate": learning_rate, "warmup": warmup, "decay": decay, "ema": tuple(ema) if ema else None,
        "seed": seed, "checkpoint_every": checkpoint_every, "keep": keep, "precision": precision, "init": init,
        "samples": samples, "track": track,
    }  # fmt: skip
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = DEFAULTS | (settings_of(config, settings) if config else {}) | settings
    kind, init, samples, track = (settings.pop(name) for name in ("model", "init", "samples", "track"))
    source = {name: settings.pop(name) for name in ("data", "data_folder", "image_size", "channels", "workers")}
    trackers = [name for name in ([track] if isinstance(track, str) else track) if name != "none"]
    recipe(kind, **settings)  # what is wrong with them is said before a long reading
    weights = pretrained.model_folder(init) / "model.safetensors" if init is not None else None

    def chosen_for(shape: tuple[int, int, int]) -> tuple[Any, Any]:
        fit = {"channels": shape[0]} if kind == "diffusion" else {"image_shape": shape}
        chosen = recipe(kind, **settings | fit)
        chosen[0].task().check_images(shape)
        return chosen

    with first():
        dataset = _data(**source, quiet=not speaks, check=chosen_for)
    chosen = chosen_for(dataset.shape)

    def picture(folder: Path) -> "Image.Image":
        return _progress(folder, dataset)

    try:
        run(
            chosen[0], dataset, chosen[1], out,
            init=weights, workers=source["workers"], trackers=trackers, picture=picture if samples else None,
        )  # fmt: skip
    except Stopped as stopped:
        if speaks:
            typer.echo(f"{stopped}; the same command goes on from there")
        return
    if speaks:
        typer.echo(f"done: {out / 'model.safetensors'}")


def settings_of(path: Path, given: Collection[str] = ()) -> dict[str, Any]:
    """The settings in a file, flat: a run's config.json, or a .toml or .json with a setting a line.

    Args:
        path: the file.
        given: names of settings that are known already; of some records they are needed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        settings = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"config is {str(path)!r}, which cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"config is {str(path)!r}; it must hold names and values")
    if all(isinstance(settings.get(part), dict) for part in ("model", "training", "data")):  # a run's own record
        model, data = dict(settings["model"]), settings["data"]
        kind = "vae" if model.pop("variational", False) else settings.get("kind", "diffusion")
        shape = dict(zip(("channels", "image_size"), data["image_shape"], strict=False))
        for name in ("image_shape", "channels"):  # the data's
            model.pop(name, None)
        unet = {name: value for name, value in model.pop("unet", {}).items() if name != "channels"}
        of_folder = data["name"].startswith("folder:")
        began = {"data": ("pictures from a folder", of_folder), "init": ("other weights", "init" in settings)}
        for name, (what, so) in began.items():
            if so and name not in given:
                raise ValueError(f"config is {str(path)!r}, a run that began with {what}; name them with --{name}")
        of_data = shape if of_folder else {"data": data["name"]}
        settings = {"model": kind} | unet | model | settings["training"] | of_data
    return {name.replace("-", "_"): tuple(v) if isinstance(v, list) else v for name, v in settings.items()}


def _data(
    data: str,
    data_folder: str | Path | None,
    image_size: int | None,
    channels: int | None,
    workers: int,
    quiet: bool,
    check: Callable[[tuple[int, int, int]], object],
) -> "Dataset | Pictures":
    from ddpm.data import load
    from ddpm.pictures import load_folder
    from ddpm.schedule import positive_int

    if not isinstance(data, str):
        raise TypeError(f"data is {data!r}; it must be a name or folder:PATH")
    if data.startswith("folder:"):
        if data_folder is not None:
            raise ValueError(f"data_folder is {str(data_folder)!r}; data is {data!r}, which names its folder itself")
        size = positive_int("image_size", 32 if image_size is None else image_size)
        shape = (3 if channels is None else channels, size, size)
        check(shape)
        return load_folder(data.removeprefix("folder:"), shape, workers=workers, quiet=quiet)
    for name, value in (("image_size", image_size), ("channels", channels)):
        if value is not None:
            raise ValueError(f"{name} is {value}; only pictures of --data folder:PATH are brought to it")
    return load(data, "train", data_folder, quiet=quiet)


def _progress(folder: Path, dataset: "Dataset | Pictures") -> "Image.Image":
    """Sixteen images that a run's model draws; of a plain autoencoder, which draws none, eight with their copies."""
    import torch
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import make_grid

    import ddpm
    from ddpm.autoencoder import Autoencoder
    from ddpm.data import denormalise, normalise
    from ddpm.denoiser import NetworkDenoiser
    from ddpm.pictures import Pictures

    model = ddpm.load(folder.resolve())  # which is no shipped model's name
    if type(model) is Autoencoder:
        some = range(min(8, len(dataset)))
        originals = torch.stack([dataset[i] if isinstance(dataset, Pictures) else dataset.images[i] for i in some])
        x = normalise(originals).to(model.device)
        images = torch.stack([x, model.decode(model.encode(x))], dim=1).flatten(0, 1)
    else:
        how: dict[str, Any] = {"steps": 20} if isinstance(model, NetworkDenoiser) else {}
        images = ddpm.sample(model, 16, chunk=16, progress=False, **how)
    return to_pil_image(make_grid(denormalise(images).cpu(), 4))
