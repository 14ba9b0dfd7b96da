"""`ddpm export`."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import ModelOption, check_out

__all__ = ["export"]


FORMATS = ("diffusers", "onnx")


def export(
    out: Annotated[
        Path,
        typer.Argument(help="For diffusers a folder, one that is empty or not there yet; for onnx a file (.onnx)."),
    ],
    model: ModelOption = "fashion-mnist",
    to: Annotated[str, typer.Option(help=f"Library whose format is written: {', '.join(FORMATS)}.")] = "diffusers",
) -> None:
    """Write a trained diffusion model as another library opens it.

    diffusers opens the folder offline, DDIMPipeline.from_pretrained("OUT"); it holds the model's card, too. The file
    for onnx holds the network and the facts that sampling needs; onnxruntime runs it without torch.
    """
    from ddpm import model_files, pretrained
    from ddpm.denoiser import NetworkDenoiser
    from ddpm.files import expanded
    from ddpm.interop import export_diffusers
    from ddpm.interop.onnx import export_onnx
    from ddpm.settings import one_of

    out = expanded(out)
    if one_of("to", to, FORMATS) == "onnx":
        check_out(out, ".onnx")
    described = (model_files.model_folder(model) / "card.md").is_file()
    trained = pretrained.load(model)
    if not isinstance(trained, NetworkDenoiser):
        raise ValueError(f"model is {model!r}; only diffusion models are exported")
    if to == "onnx":
        export_onnx(trained, out)
    else:
        export_diffusers(trained, out, model_files.card(model) if described else "")
    typer.echo(f"done: {out}")
