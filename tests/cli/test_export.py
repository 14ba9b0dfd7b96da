import json

import onnxruntime
import pytest

from ddpm import model_files, pretrained
from tests.cli.commands import TRAIN, alone, done, forked, refusal
from tests.folders import contents

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Written into a folder that is there, and empty."""
    folder = tmp_path_factory.mktemp("export")
    alone("export", "--to", "diffusers", folder)
    return folder


def test_a_pipeline_goes_into_the_current_folder_if_that_is_empty(trained, tmp_path):
    (tmp_path / "here").mkdir()
    process = forked("export", "--model", trained, ".", folder=tmp_path / "here")
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "README.md", "ddpm.json", "model_index.json", "scheduler", "unet",
    ]  # fmt: skip


def test_a_pipeline_has_the_models_card(pipeline):
    card = (pipeline / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: diffusers\n")
    assert model_files.card("fashion-mnist") in card


def test_a_pipeline_has_the_files_that_diffusers_reads_and_one_of_our_own(pipeline):
    assert set(contents(pipeline)) == {
        "README.md", "ddpm.json", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_a_file_for_onnx_knows_how_to_sample(trained, tmp_path):
    alone("export", "--model", trained, "--to", "onnx", tmp_path / "trained.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "trained.onnx", providers=["CPUExecutionProvider"])
    facts = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    model = pretrained.load(trained, "float32", device="cpu")
    assert facts.pop("alpha_bar") == model.schedule.alpha_bar.tolist()
    assert facts == {"target": model.target, "image_shape": [1, 32, 32], "classes": [], "distilled_for": None}


def test_an_autoencoder_is_no_pipeline(vae, tmp_path):
    said = refusal(["export", "--model", vae, "RUN"], tmp_path)
    assert "only diffusion models are exported" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx", "RUN"], "to is 'onxx'; legal are diffusers, onnx"),
        (["--to", "onnx", "RUN"], "its name must end in .onnx"),
        (["--model", "nowhere", "RUN"], "model is 'nowhere'; legal are equal-autoencoder"),
        (["."], "directory is '.', which holds '"),
        (["README.md"], "directory is 'README.md', which is no folder; it must be an empty folder or not there yet"),
        (["README.md/pipeline"], "directory is 'README.md/pipeline', where no files can be written: Not a directory"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["export", *arguments], tmp_path)


def test_a_model_of_the_straight_path_draws_and_takes_trips_but_diffusers_has_no_scheduler_for_it(tmp_path):
    model = tmp_path / "straight"
    settings = ["--schedule", "straight", "--target", "flow", "--base-channels", 8]
    done(*TRAIN, *settings, "--track", "none", "--no-samples", "--out", model)
    done("sample", "--model", model, "--n", 1, "--steps", 2, "--out", tmp_path / "drawn.png")
    trip = ["--model", model, "--depth", 500, "--steps", 2]
    done("round-trip", tmp_path / "drawn.png", *trip, "--out", tmp_path / "trip.png")
    assert (tmp_path / "trip.png").exists()
    said = refusal(["export", "--model", model, "--to", "diffusers", "RUN"], tmp_path)
    assert "schedule is Straight(T=1000, alpha_bar_T=0); diffusers' DDPMScheduler needs one that keeps" in said
