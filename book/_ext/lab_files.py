"""Makes the files that the lab loads: shipped networks as ONNX, and what runs them, each a script of base64.

A page that is opened as a file may fetch nothing but scripts. A network is exported once and kept in `_build/lab` until
its weights change.
"""

import base64
import json
import re
from pathlib import Path

import ddpm
from ddpm import pretrained
from ddpm.companion.checkout import ROOT
from ddpm.files import write_atomically
from ddpm.interop.onnx import onnx_file

LAB = Path(__file__).parents[1] / "_static" / "lab"
KEPT = ROOT / "_build" / "lab"
RUNTIME = ("ort-wasm-simd-threaded.wasm.gz", "ort-wasm-simd-threaded.mjs")


def networks():
    """The names of the networks that the garments' bench offers."""
    (listed,) = re.findall(r"const MODELS = \{(.+?)\};", (LAB / "garments.js").read_text(encoding="utf-8"), re.DOTALL)
    return re.findall(r'"(\S+)":', listed)


def exported(name):
    """A shipped network as ONNX."""
    weights = json.loads((pretrained.MODELS / name / "config.json").read_text(encoding="utf-8"))["sha256"]
    file = KEPT / f"{name}-{weights[:12]}.onnx"
    if not file.exists():
        write_atomically(file, onnx_file(ddpm.load(name, "float32", device="cpu")))
    return file.read_bytes()


def write_files(app, error):
    """Write the scripts beside the others of the lab, once the pages are built."""
    if error is not None or app.builder.format != "html":
        return
    contents = {name: (LAB / "vendor" / name).read_bytes() for name in RUNTIME}
    contents |= {f"{name}.onnx": exported(name) for name in networks()}
    for name, content in contents.items():
        text = base64.b64encode(content).decode()
        script = Path(app.outdir) / "_static" / "lab" / "files" / f"{name}.js"
        write_atomically(script, f'labFiles["{name}"] = "{text}";\n'.encode())


def setup(app):
    """Register `write_files` with Sphinx."""
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
