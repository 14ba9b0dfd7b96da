"""`ddpm export`."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import ModelOption

__all__ = ["export"]


def export(
    directory: Annotated[Path, typer.Argument(help="Folder to write: one that is empty or not there yet.")],
    model: ModelOption = "fashion-mnist",
    to: Annotated[str, typer.Option(help="Library whose format is written: diffusers.")] = "diffusers",
) -> None:
    """Write a trained model and its card as a folder that another library opens.

    diffusers opens it offline: DDIMPipeline.from_pretrained("DIRECTORY")
    """
    from ddpm import pretrained
    from ddpm.denoiser import NetworkDenoiser
    from ddpm.interop import export_diffusers

    if to != "diffusers":
        raise ValueError(f"to is {to!r}; legal is diffusers")
    described = (pretrained.model_folder(model) / "card.md").is_file()
    trained = pretrained.load(model)
    if not isinstance(trained, NetworkDenoiser):
        raise ValueError(f"model is {model!r}; diffusers has pipelines of diffusion models only")
    export_diffusers(trained, directory, pretrained.card(model) if described else "")
    typer.echo(f"done: {directory}")
