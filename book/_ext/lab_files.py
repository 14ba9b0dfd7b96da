"""Makes the files that the lab loads: shipped networks as ONNX, and what runs them, as scripts.

A page that is opened as a file may not read other files but by scripts, so each is one that holds base64. A network is
exported once, and kept in `_build/lab` until it or the export changes.
"""

import base64
import gzip
import hashlib
import importlib.util
import json
import lzma
from pathlib import Path

from sphinx.errors import ExtensionError

import ddpm
from ddpm import model_files, pretrained
from ddpm.companion.checkout import ROOT
from ddpm.files import write_atomically
from ddpm.interop import onnx

#: The networks of the garments' bench, the first of them chosen: what they are called, and in how many steps they draw.
NETWORKS = {
    "fashion-mnist-4-calls": ("student, 4 calls", 4),
    "fashion-mnist": ("its teacher", 20),
    "fashion-mnist-classes": ("told classes", 20),
    "equal-diffusion": ("small model", 20),
}
RUNTIME = Path(__file__).parent / "onnxruntime-web"
KEPT = ROOT / "_build" / "lab"


def check(app):
    """Refuse to build pages whose lab would lack its networks."""
    if app.builder.name == "html" and not importlib.util.find_spec("onnxscript"):
        raise ExtensionError("the lab needs onnxscript; it comes with the package's extra [book]")


def exported(name):
    """A shipped network as ONNX."""
    parts = (model_files.MODELS / name / "config.json", Path(onnx.__file__))
    version = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    file = KEPT / f"{name}-{version}.onnx"
    if not file.exists():
        write_atomically(file, onnx.onnx_file(ddpm.load(name, "float32", device="cpu")))
    return file.read_bytes()


def files():
    """The scripts' names and content."""
    scripts = {"ort.wasm.min.js": (RUNTIME / "ort.wasm.min.js").read_bytes()}
    scripts["LICENSE-onnxruntime.txt"] = (RUNTIME / "LICENSE").read_bytes()
    wasm = lzma.decompress((RUNTIME / "ort-wasm-simd-threaded.wasm.xz").read_bytes())
    contents = {
        "ort-wasm-simd-threaded.mjs": (RUNTIME / "ort-wasm-simd-threaded.mjs").read_bytes(),
        "ort-wasm-simd-threaded.wasm.gz": gzip.compress(wasm, mtime=0),  # browsers unpack gzip, but not xz
    }
    offered = {}
    for name, (title, steps) in NETWORKS.items():
        contents[f"{name}.onnx"] = network = exported(name)
        megabytes = max(1, round(len(network) * 4 / 3 / 1e6))  # of base64
        classes = pretrained.facts(name).classes
        offered[name] = {"title": title, "megabytes": megabytes, "steps": steps, "classes": classes}
    for name, content in contents.items():
        scripts[f"{name}.js"] = f'labFiles["{name}"] = "{base64.b64encode(content).decode()}";\n'.encode()
    scripts["networks.js"] = f"labNetworks = {json.dumps(offered)};\n".encode()
    return scripts


def write_files(app, error):
    """Write the scripts beside the others of the lab, once the pages are built."""
    if error is None and app.builder.name == "html":
        for name, content in files().items():
            write_atomically(Path(app.outdir) / "_static" / "lab" / "files" / name, content)


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", check)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
