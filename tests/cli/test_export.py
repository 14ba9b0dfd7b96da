import pytest

from ddpm import pretrained
from tests.cli.commands import done, refusal

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "pipeline"
    done("export", "--to", "diffusers", folder)
    return folder


def test_a_pipeline_has_the_models_card(pipeline):
    card = (pipeline / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: diffusers\n")
    assert pretrained.card("fashion-mnist") in card


def test_a_pipeline_has_the_files_that_diffusers_reads_and_no_others(pipeline):
    assert {str(path.relative_to(pipeline)) for path in pipeline.rglob("*") if path.is_file()} == {
        "README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_an_autoencoder_is_no_pipeline(vae, tmp_path):
    said = refusal(["export", "--model", vae, "RUN"], tmp_path)
    assert "diffusers has pipelines of diffusion models only" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onnx", "RUN"], "to is 'onnx'; legal is diffusers"),
        (["--model", "nowhere", "RUN"], "model is 'nowhere'; legal are equal-autoencoder"),
        (["."], "directory is '.', which is there already"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["export", *arguments], tmp_path)
