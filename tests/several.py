"""What several processes do together; `launched` starts it: python -m tests.several WHAT FOLDER."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import ddpm
from ddpm import data
from ddpm.data.pictures import load_folder
from ddpm.files import save_tensors
from ddpm.gan import GANConfig
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from tests.until import until

CONFIG = TrainingConfig(steps=50, batch_size=8, warmup=5, checkpoint_every=50, precision="float32")


class Small:
    """A small network in float64."""

    classes = None

    def __init__(self):
        layers = torch.nn.Linear(1024, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)
        self.parts = {"net": torch.nn.Sequential(*layers).double()}

    def loss(self, part, images, randomness):
        target = randomness.normal(4).double()
        return (self.parts[part](images.double().flatten(1)) - target).square().mean()


@dataclass
class SmallConfig:
    """Of nothing."""

    kind = "small"

    def check_images(self, shape):
        """Any will do."""

    def task(self):
        """What the training loop steps."""
        return Small()


def started(processes, *command):
    """Start `python -m command` in so many processes of a thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    run = [sys.executable, *(launcher if processes > 1 else []), "-m", *map(str, command)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(run, **pipes, env=environment, start_new_session=True)


def wait_for(log, process):
    """Wait until a training has written its first line, or has ended."""
    try:
        until(lambda: (log.exists() and log.read_bytes()) or process.poll() is not None, seconds=240)
    except AssertionError:
        process.kill()
        raise


def launched(processes, *command):
    """What such processes printed when all have ended well."""
    process = started(processes, *command)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def main(what, folder):
    """Do it, and keep what every process has in the end."""
    if what in ("train", "apart"):
        dataset = data.load("fashion-mnist-embedded", "train", quiet=True)
        out = folder / os.environ["RANK"] if what == "apart" else folder
        train(SmallConfig(), dataset, CONFIG, out, progress=False)
        return
    if what == "stream":
        pictures = load_folder(folder / "pictures", (1, 32, 32), memory=1000)
        train(SmallConfig(), pictures, replace(CONFIG, steps=10**6), folder / "run", progress=False, workers=2)
    torch.manual_seed(0)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    denoise, gan = ddpm.load("fashion-mnist", "float32"), GANConfig().network()
    images = ddpm.sample(denoise, 40, "ancestral", 3, 5, chunk=8, progress=False, distributed=several)
    fakes = ddpm.sample(gan, 70, seed=5, chunk=32, distributed=several)
    save_tensors(folder / f"{os.environ.get('RANK', '0')}.safetensors", {"images": images, "fakes": fakes})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
