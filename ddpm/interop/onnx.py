"""A network as an ONNX file, which onnxruntime runs without torch, also in a browser."""

import copy
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddpm.arguments import instance
from ddpm.denoiser import NetworkDenoiser
from ddpm.extras import check_installed
from ddpm.files import check_place, expanded, write_atomically
from ddpm.messages import first_line

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["export_onnx", "onnx_file"]


def export_onnx(denoise: NetworkDenoiser, path: str | Path) -> None:
    """Write a trained network as an ONNX file, in float32.

    Its inputs are `x` (batch, channels, height, width), float32; `index` (batch,), float32, the time less 1; and of a
    network with classes `labels` (batch,), int64, where the number of classes means none. Its output is `answer`, in
    x's shape: the prediction target. The file's metadata, JSON, say how to sample with it: "target", "alpha_bar" (its
    table), "image_shape", "classes" and "distilled_for". Weights that float16 holds exactly are stored so.

    Args:
        denoise: a trained network that knows the shape of its images.
        path: the file; it appears only when all of it is written.

    Raises:
        ValueError: the network cannot be exported, its schedule is no table of alpha_bar, or no file can be written
            there. Nothing is written.
        TypeError: `denoise` is no `NetworkDenoiser`.
        ModuleNotFoundError: the extra ddpm[onnx] is not installed.
    """
    path = expanded(path)
    check_place("path", path)
    write_atomically(path, onnx_file(denoise))


def onnx_file(denoise: NetworkDenoiser) -> bytes:
    """The content of the file that `export_onnx` writes."""
    if instance("denoise", denoise, NetworkDenoiser).image_shape is None:
        raise ValueError("denoise must know its image_shape")
    if not denoise.schedule.preserves_variance:
        raise ValueError(
            f"schedule is {denoise.schedule}; the file holds a table of alpha_bar, so it must keep the variance"
        )
    model = _traced(denoise)
    facts = {
        "target": denoise.target,
        "alpha_bar": denoise.schedule.alpha_bar.tolist(),
        "image_shape": denoise.image_shape,
        "classes": denoise.classes,
        "distilled_for": denoise.distilled_for,
    }
    for name, value in facts.items():
        model.metadata_props.add(key=name, value=json.dumps(value))
    _halve(model)
    content: bytes = model.SerializeToString()
    return content


def _traced(denoise: NetworkDenoiser) -> "ModelProto":
    """The network's graph and weights."""
    for package in ("onnx", "onnxscript"):
        check_installed(package)
    network, batch = copy.deepcopy(denoise.network).to("cpu", torch.float32), torch.export.Dim("batch")
    shape = (2, *(denoise.image_shape or ()))
    inputs = {name: torch.zeros(size, dtype=torch.float32, device="cpu") for name, size in (("x", shape), ("index", 2))}
    if denoise.classes:
        inputs["labels"] = torch.zeros(2, dtype=torch.int64, device="cpu")
    arguments, shapes = tuple(inputs.values()), tuple({0: batch} for _ in inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own code
        try:
            # not traced but compiled, as einops keeps the shapes that it has seen
            graph = torch.export.export(network, arguments, dynamic_shapes=shapes, strict=True)
            program = torch.onnx.export(
                graph, arguments, dynamo=True, verbose=False, input_names=list(inputs), output_names=["answer"],
                dynamic_shapes=tuple({0: "batch"} for _ in inputs),
            )  # fmt: skip
        except Exception as error:  # whatever a network of one's own brings about
            raise ValueError(f"the network cannot be exported to ONNX: {first_line(error)}") from error
    model: ModelProto = program.model_proto  # type: ignore[union-attr]
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        part.ClearField("metadata_props")  # where in which file each node was made
    return model


def _halve(model: "ModelProto") -> None:
    """Store the weights that float16 holds exactly so, each with a node that casts it back to float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts: list[Any] = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        exact = numpy_helper.to_array(weight)
        half = exact.astype(np.float16)
        if exact.size < 64 or not np.array_equal(half.astype(np.float32), exact):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
