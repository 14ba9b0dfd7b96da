"""Hashes of short trainings and of samples, computed by the plainest kernels: python -m tests.bits prints them as JSON.

Written when the training loop was rewritten, from the code before: the rewriting changed no bit. A change that means to
change what training or sampling computes writes them again, `python -m tests.bits > tests/bits.json`, and says so.
`python -m tests.bits --add` puts them beside those of machines whose kernels give other bits.
"""

import hashlib
import json
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

import ddpm
from ddpm import data
from ddpm.training import recipe, train
from ddpm.walks import SAMPLERS

#: One thread, and no wider instructions than AVX2. Makers' processors still differ in the last bits: see `kernels`.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2",
    "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
TRAININGS = {
    "diffusion": {"head_channels": 8, "dropout": 0.1},
    "autoencoder": {},
    "vae": {},
    "gan": {},
}
MODELS = ("fashion-mnist", "equal-diffusion")
#: Settings that came later, whose defaults change no bit. None is the last of its part of a record.
NEWER = ("micro_batch_size", "flip", "snr_gamma")
WRITTEN = Path(__file__).with_name("bits.json")


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def kernels():
    """Torch's own kernels on numbers of their own: where these differ, so does everything else."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, 32, 32, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(16, 8, 3, 3, generator=generator).requires_grad_()
    h = F.group_norm(F.conv2d(x, weight, padding=1), 2)
    q = F.silu(h).flatten(2).transpose(1, 2)
    attended = torch.softmax(q @ q.transpose(1, 2) / 4, dim=-1) @ q
    loss = attended.square().mean() + torch.sin(attended).exp().mean()
    loss.backward()
    return digest(b"".join(t.detach().contiguous().numpy().tobytes() for t in (loss, x.grad, weight.grad)))


def training(kind, settings):
    """The record of five steps, and the hashes of the other files that they leave behind."""
    full = data.load("fashion-mnist-embedded", "train", quiet=True)
    images = replace(full, images=full.images[:50], labels=full.labels[:50])
    small = {"base_channels": 8, "steps": 5, "batch_size": 4, "checkpoint_every": 2, "precision": "float32"}
    model, config = recipe(kind, **settings, **small)
    with tempfile.TemporaryDirectory() as folder:
        train(model, images, config, folder, progress=False)
        run = Path(folder)
        record = as_written((run / "config.json").read_text())
        names = ("model.safetensors", "log.jsonl", "checkpoints/step-00000005.safetensors")
        return digest(record.encode()), {name: digest((run / name).read_bytes()) for name in names}


def as_written(record):
    """A run's record with the settings that there were when the hashes were written, by their names then.

    Records knew no hash of the images then. The hash of the weights goes, too: all else is the same whatever the
    processor is. This holds for `best` as well while losses differ by more than processors round.
    """
    left_out = tuple(f'"{name}": ' for name in (*NEWER, "sha256"))
    kept = [line for line in record.splitlines(keepends=True) if not line.lstrip().startswith(left_out)]
    without_pixels = re.sub(r',\s*"images_sha256": "\w*"', "", "".join(kept))
    return without_pixels.replace('"time_conditioning"', '"time"')  # its name in version 0.1.0


def samples(name):
    """Three images by every sampler."""
    model = ddpm.load(name, "float32", "cpu")
    drawn = {walk: ddpm.sample(model, 3, walk, 5, 3, chunk=4, progress=False) for walk in SAMPLERS}
    return {walk: digest(images.numpy().tobytes()) for walk, images in drawn.items()}


def main():
    torch.set_num_threads(1)
    trained = {kind: training(kind, settings) for kind, settings in TRAININGS.items()}
    own = {
        "trainings": {kind: files for kind, (_, files) in trained.items()},
        "samples": {name: samples(name) for name in MODELS},
    }
    records = {kind: record for kind, (record, _) in trained.items()}
    bits = {"torch": torch.__version__, "records": records, "kernels": {kernels(): own}}
    if "--add" in sys.argv[1:]:
        written = json.loads(WRITTEN.read_text())
        before = written["kernels"].get(kernels(), {"trainings": {}, "samples": {}})
        assert written["torch"] == bits["torch"], "another torch: the hashes that are there are of its kernels"
        assert written["records"] == bits["records"], "the records have changed: write all of it again"
        changed = [
            name
            for what in before
            for name, hashes in before[what].items()
            if not hashes.items() <= own[what][name].items()
        ]
        assert not changed, f"what {', '.join(changed)} computes has changed: write all of it again"
        bits["kernels"] = written["kernels"] | bits["kernels"]
        WRITTEN.write_text(json.dumps(bits, indent=1) + "\n")
    else:
        print(json.dumps(bits, indent=1))


if __name__ == "__main__":
    main()
