"""What single steps of a training draw, average and say."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ddpm.autoencoder import AutoencoderConfig
from ddpm.data import normalise
from ddpm.diffusion import DiffusionConfig
from ddpm.distillation import Distillation
from ddpm.gan import GANConfig
from ddpm.training import train
from ddpm.training.config import TrainingConfig
from ddpm.training.launcher import make_accelerator
from ddpm.training.signals import Stopped, StopSignals
from ddpm.training.state import TrainingState
from ddpm.training.step import over_processes, train_step
from tests.folders import log_of
from tests.networks import SMALL_UNET, stirred


class Dropping:
    """A weight and dropout after it, and which of a hundred numbers the dropout let through in each step."""

    def __init__(self):
        self.parts = {"net": torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.5))}
        self.passed = []

    def loss(self, part, images, randomness):
        answer = self.parts[part](images.new_ones(100, 1))
        self.passed.append((answer != 0).tolist())
        return answer.square().mean()


def test_dropout_is_a_function_of_seed_and_step():
    accelerator, passed = make_accelerator(Path("unused"), ()), []
    for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0)):
        task, config = Dropping(), TrainingConfig(batch_size=2, seed=seed)
        state = TrainingState(task.parts, config, accelerator)
        images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8, device=accelerator.device)
        train_step(task, state, images, step, config, accelerator, StopSignals())
        passed += task.passed
    first, next_step, other_seed, again = passed
    assert first == again
    assert first not in (next_step, other_seed)


def test_each_process_drops_other_numbers():
    """In step 0 of seed 0, on the rows of its own."""
    task, config, here = Dropping(), TrainingConfig(batch_size=2), make_accelerator(Path("unused"), ())
    state = TrainingState(task.parts, config, here)
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8, device=here.device)
    for rank in (0, 1, 1):
        process = SimpleNamespace(
            num_processes=2, process_index=rank, device=here.device, backward=here.backward,
            clip_grad_norm_=here.clip_grad_norm_, reduce=here.reduce,
        )  # fmt: skip
        train_step(task, state, images, 0, config, process, StopSignals())
    first, second, again = task.passed
    assert first != second
    assert second == again


def moved(config, model, images, labels=None):
    """How far every weight of a model moves in a step from the same random weights, in float64, and the losses."""
    torch.manual_seed(0)
    task, accelerator = model.task(), make_accelerator(Path("unused"), ())
    state = TrainingState(task.parts, config, accelerator)
    before = {name: value.clone() for name, value in state.weights.items()}
    there = images.to(accelerator.device)
    line = train_step(task, state, there, 0, config, accelerator, StopSignals(), labels).line
    return torch.cat([(state.weights[name] - before[name]).double().flatten() for name in before]), line


STUDENT = DiffusionConfig(SMALL_UNET, target="v", distilled_for=2, distilled_from=8)
KINDS = {
    "diffusion": DiffusionConfig(SMALL_UNET, target="v", weighting="min_snr"),
    "diffusion, told classes": DiffusionConfig(replace(SMALL_UNET, classes=10)),
    "student": SimpleNamespace(task=lambda: Distillation(STUDENT, stirred(STUDENT.network(), 0.05), midpoint=True)),
    "vae": AutoencoderConfig(base_channels=8, variational=True, loss="logistic"),
    "gan": GANConfig(base_channels=8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_pieces_takes_the_step_of_the_whole(kind, images):
    """Pieces of five, five and two of twelve images; a mean of the pieces' means would weigh the last two too much."""
    config = TrainingConfig(batch_size=12, optimiser="sgd", warmup=0, clip=1e9, precision="float32", flip=True)
    labels = images.labels[:12].long() if kind.endswith("classes") else None
    whole, line = moved(config, KINDS[kind], images.images[:12], labels)
    pieces, line_of_pieces = moved(replace(config, micro_batch_size=5), KINDS[kind], images.images[:12], labels)
    assert (pieces - whole).norm() < 1e-4 * whole.norm()
    assert line_of_pieces == pytest.approx(line, rel=1e-4)
    alone, _ = moved(config, KINDS[kind], images.images[:12].flip(0), None if labels is None else labels.flip(0))
    assert (alone - whole).norm() > 1e-2 * whole.norm()  # the images do count


class Watching(Dropping):
    """The same, and the images of every call."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def loss(self, part, images, randomness):
        self.seen.append(images)
        return super().loss(part, images, randomness)


def test_grey_levels_are_brought_to_the_range_and_floats_are_learnt_as_they_are(images):
    accelerator, task, config = make_accelerator(Path("unused"), ()), Watching(), TrainingConfig(batch_size=50)
    state, there = TrainingState(task.parts, config, accelerator), images.images.to(accelerator.device)
    latents = 5 * normalise(there)  # as far from 0 as some latents are
    for given in (there, latents):
        train_step(task, state, given, 0, config, accelerator, StopSignals())
    seen_grey, seen_latents = task.seen
    assert torch.equal(seen_grey, normalise(there))
    assert torch.equal(seen_latents, latents)


@pytest.mark.parametrize("micro_batch_size", [None, 7])
def test_about_half_of_the_images_are_mirrored_and_others_in_every_step(images, micro_batch_size):
    accelerator, task = make_accelerator(Path("unused"), ()), Watching()
    config = TrainingConfig(batch_size=50, flip=True, micro_batch_size=micro_batch_size)
    state, there = TrainingState(task.parts, config, accelerator), images.images.to(accelerator.device)
    mirrored = []
    for step in range(40):
        task.seen.clear()
        train_step(task, state, there, step, config, accelerator, StopSignals())
        is_mirrored = (torch.cat(task.seen) == normalise(there.flip(-1))).flatten(1).all(1)
        is_plain = (torch.cat(task.seen) == normalise(there)).flatten(1).all(1)
        assert (is_mirrored ^ is_plain).all()  # none of these garments is its own mirror image
        mirrored.append(is_mirrored)
    shares = torch.stack(mirrored).double().mean(0)
    assert shares.mean().item() == pytest.approx(1 / 2, abs=4 * math.sqrt(1 / 4 / 2000))
    assert shares.min() > 0.1
    assert shares.max() < 0.9


def test_images_are_mirrored_only_where_that_is_asked_for(images):
    accelerator, task, config = make_accelerator(Path("unused"), ()), Watching(), TrainingConfig(batch_size=50)
    state, there = TrainingState(task.parts, config, accelerator), images.images.to(accelerator.device)
    train_step(task, state, there, 0, config, accelerator, StopSignals())
    assert torch.equal(task.seen[0], normalise(there))


def test_averages_forget_the_random_start_as_their_docstring_says():
    """After steps 0 and 1 they have decays of 1 / 10 and 2 / 11, and follow the weights by the rest."""
    accelerator = make_accelerator(Path("unused"), ())
    task, config = Dropping(), TrainingConfig(batch_size=2, learning_rate=0.1, warmup=0)
    state = TrainingState(task.parts, config, accelerator)
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8, device=accelerator.device)
    wanted = {name: value.clone() for name, value in state.weights.items()}
    for step in range(2):
        train_step(task, state, images, step, config, accelerator, StopSignals())
        decay = (1 + step) / (10 + step)
        wanted = {name: decay * value + (1 - decay) * state.weights[name] for name, value in wanted.items()}
    for name, value in state.averages.of[0.999].items():
        assert torch.allclose(value, wanted[name], atol=1e-7), name


def test_a_checkpoint_has_the_mean_loss_since_the_one_before(tmp_path, images):
    config = TrainingConfig(steps=6, batch_size=4, warmup=2, checkpoint_every=3, precision="float32")
    train(AutoencoderConfig(base_channels=4), images, config, tmp_path, progress=False)
    losses = [line["loss_autoencoder"] for line in log_of(tmp_path)]
    for last in (3, 6):
        manifest = json.loads((tmp_path / "checkpoints" / f"step-{last:08d}.json").read_text())
        assert manifest["loss"] == pytest.approx(sum(losses[last - 3 : last]) / 3)


SMALL = AutoencoderConfig(base_channels=4)
SIX = TrainingConfig(steps=6, batch_size=4, warmup=2, checkpoint_every=3, keep=9, precision="float32")


def train_and_stop(images, folder, step):
    """Train, and have SIGTERM come when this step has been done."""

    def stop(line):
        if line["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    train(SMALL, images, SIX, folder, progress=False, on_step=stop)


def losses_of_checkpoints(folder):
    manifests = [json.loads(path.read_text()) for path in folder.glob("checkpoints/*.json")]
    return {manifest["step"]: manifest["loss"] for manifest in manifests}


def test_a_run_that_was_stopped_has_the_mean_losses_of_one_that_was_not(tmp_path, images):
    """The checkpoint that the stop leaves has none: it is a mean over fewer steps, and no candidate for the best."""
    train(SMALL, images, SIX, tmp_path / "whole", progress=False)
    with pytest.raises(Stopped, match="after step 5 of 6"):
        train_and_stop(images, tmp_path / "stopped", 4)
    assert losses_of_checkpoints(tmp_path / "stopped")[5] is None
    train(SMALL, images, SIX, tmp_path / "stopped", progress=False)
    whole, stopped = (losses_of_checkpoints(tmp_path / name) for name in ("whole", "stopped"))
    assert stopped == pytest.approx(whole | {5: None})


def test_a_signal_after_the_last_steps_vote_is_heard(tmp_path, images):
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 6 of 6, and saved in"):
        train_and_stop(images, tmp_path, 6)
    assert (tmp_path / "model.safetensors").exists()


def test_one_process_of_four_that_is_told_to_stop_stops_all():
    four = SimpleNamespace(reduce=lambda here, how: torch.tensor([2.0, 3.0, here[2].item() / 4]))
    loss, norm = torch.tensor(1.0), torch.tensor(1.0)
    assert over_processes(loss, norm, True, four) == (2.0, 3.0, True)
    assert over_processes(loss, norm, False, four) == (2.0, 3.0, False)


def test_a_run_records_which_images_it_learnt_from(tmp_path, images):
    config = TrainingConfig(steps=1, batch_size=4, checkpoint_every=1, precision="float32")
    train(AutoencoderConfig(base_channels=4), images, config, tmp_path, progress=False)
    record = json.loads((tmp_path / "config.json").read_text())
    pixels = images.sha256(with_labels=False)
    expected = {"name": images.name, "images": len(images), "image_shape": [1, 32, 32], "images_sha256": pixels}
    assert record["data"] == expected
