"""Our UNet against diffusers', both ways, and whole pipelines."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler, UNet2DModel

import ddpm
from ddpm.denoiser import TARGETS, NetworkDenoiser
from ddpm.interop import export_diffusers, from_diffusers, unet_from_diffusers, unet_to_diffusers
from ddpm.round_trip import round_trip
from ddpm.samplers import ddim, final
from ddpm.sampling import SAMPLERS
from ddpm.schedule import SCHEDULES, cosine, linear
from ddpm.unet import UNet, UNetConfig

CONFIGS = [
    UNetConfig(),
    UNetConfig(blocks_per_level=1, middle_attention=False),
    UNetConfig(
        channels=3, base_channels=16, channel_multipliers=(1, 2, 2, 4), attention_levels=(1, 2), head_channels=8,
        time="scale_shift",
    ),
]  # fmt: skip
SMALL = UNetConfig(base_channels=8, head_channels=8, blocks_per_level=1)
THEIRS = {
    "sample_size": 16, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 2, "flip_sin_to_cos": False,
}  # fmt: skip


def randomised(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_uniform_(parameter, a=5**0.5)
        else:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    return network.eval()


def denoiser(schedule=None, target="eps", config=SMALL):
    return NetworkDenoiser(
        randomised(UNet(config)), schedule or linear(), target, image_shape=(config.channels, 16, 16)
    )


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_eps_agrees_and_the_weights_come_back_to_the_bit(config):
    ours = randomised(UNet(config))
    theirs = unet_to_diffusers(ours, 32)
    x, t = torch.randn(3, config.channels, 32, 32), torch.tensor([0, 41, 999])
    expected = theirs(x, t).sample
    assert expected.std() > 0.01
    assert (ours(x, t) - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())
    back = unet_from_diffusers(theirs)
    assert back.config == config
    for (name, value), (other, same) in zip(ours.state_dict().items(), back.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(value, same)


@torch.no_grad()
def test_eps_of_the_shipped_weights_agrees():
    denoise = ddpm.load("fashion-mnist", "float32")
    theirs = unet_to_diffusers(denoise.network, 32)
    x, t = torch.randn(4, 1, 32, 32), torch.tensor([0, 41, 500, 999])
    assert (denoise.network(x, t) - theirs(x, t).sample).abs().max() < 1e-5


@pytest.mark.parametrize("option", [{"time": "none"}, {"resample_last": True}, {"up_width": "finer"}, {"skips": False}])
def test_what_diffusers_lacks_is_refused_by_name(option, tmp_path):
    config = replace(SMALL, **option)
    with pytest.raises(ValueError, match=next(iter(option))):
        export_diffusers(denoiser(config=config), tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option",
    [
        {"flip_sin_to_cos": True},
        {"freq_shift": 1},
        {"act_fn": "relu"},
        {"norm_num_groups": 8},
        {"norm_eps": 1e-6},
        {"block_out_channels": (8, 12), "attention_head_dim": 4},
        {"mid_block_scale_factor": 2},
        {"downsample_type": "resnet"},
        {"center_input_sample": True},
        {"num_class_embeds": 3},
        {"out_channels": 2},
        {"up_block_types": ("UpBlock2D", "UpBlock2D")},
        {"time_embedding_type": "fourier"},
    ],
)
def test_what_the_unet_lacks_is_refused_by_name(option):
    unet_from_diffusers(UNet2DModel(**THEIRS))
    if "norm_num_groups" in option:
        option = option | {"block_out_channels": (8, 16)}
    with pytest.raises(ValueError, match=next(iter(option))):
        unet_from_diffusers(UNet2DModel(**{**THEIRS, **option}))


PAIRS = [(schedule, target) for schedule in SCHEDULES for target in TARGETS]
PAIRS.remove(("cosine", "eps"))  # x0 from eps where alpha_bar is 2e-9 is beyond float32, here and there


@pytest.mark.parametrize(("schedule", "target"), PAIRS)
def test_ddim_through_the_exported_pipeline_draws_the_same_images(schedule, target, tmp_path):
    denoise = denoiser(SCHEDULES[schedule](), target)
    for parameter in denoise.network.conv_out.parameters():
        parameter.data *= {"eps": 0.1, "x0": 1.0, "v": 0.1}[target]  # random weights say much
    export_diffusers(denoise, tmp_path / "out", "What it is worth.")
    compare(denoise, tmp_path / "out", 20)
    assert "What it is worth." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_ddim_through_the_exported_pipeline_of_the_shipped_model(tmp_path):
    denoise = ddpm.load("fashion-mnist", "float32", "cpu")
    export_diffusers(denoise, tmp_path / "out")
    compare(denoise, tmp_path / "out", 10)


def compare(denoise, folder, steps):
    """The pipeline clamps to [0, 1] and shows height, width, channels."""
    noise = torch.randn(2, *denoise.image_shape, generator=torch.Generator().manual_seed(3))
    pipeline = DDIMPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(2, torch.Generator().manual_seed(3), num_inference_steps=steps, output_type="pt").images
    with torch.no_grad():
        x = final(ddim(denoise, noise, denoise.schedule.timesteps(steps)))
    assert theirs.std() > 0.01
    assert ((x / 2 + 0.5).clamp(0, 1) - theirs).abs().max() < 1e-4


def test_the_ancestral_pipeline_opens_it_and_we_read_it_back(tmp_path):
    denoise = denoiser()
    export_diffusers(denoise, tmp_path / "out")
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(2, num_inference_steps=4, output_type="np").images.shape == (2, 16, 16, 1)
    back = from_diffusers(tmp_path / "out", "float32", "cpu")
    assert back.image_shape == denoise.image_shape
    torch.testing.assert_close(back.schedule.alpha_bar, denoise.schedule.alpha_bar, rtol=1e-12, atol=0)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(back(x, 500).eps, denoise(x, 500).eps, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="there already"):
        export_diffusers(denoise, tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"flip_sin_to_cos": True, "freq_shift": 1, "norm_num_groups": 4, "downsample_padding": 0},
        {"out_channels": 2, "class_embed_type": None},
    ],
)
def test_every_sampler_and_round_trip_runs_a_model_of_theirs(options, tmp_path):
    """One that no `UNet` is equal to, and one that learnt its variance."""
    model = randomised(UNet2DModel(**{**THEIRS, **options}))
    DDPMPipeline(model, DDPMScheduler()).save_pretrained(tmp_path)
    denoise = from_diffusers(tmp_path, "float32", "cpu")
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(denoise(x, 42).eps, model(x, 41).sample[:, :1], rtol=0, atol=1e-5)
        assert torch.isfinite(final(round_trip(denoise, x, denoise.schedule.timesteps(3, start=400)))).all()
    for sampler in SAMPLERS:
        assert ddpm.sample(denoise, 2, sampler, 4, progress=False).shape == (2, 1, 16, 16)


def test_schedules_of_theirs_are_read_exactly(tmp_path):
    model = UNet2DModel(**THEIRS)
    for options in (
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "sigmoid"},
        {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
    ):
        scheduler = DDPMScheduler(**options)
        DDPMPipeline(model, scheduler).save_pretrained(tmp_path)
        ours = from_diffusers(tmp_path, "float32", "cpu").schedule
        torch.testing.assert_close(ours.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=2e-3, atol=1e-6)
    DDPMPipeline(model, DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(tmp_path)
    assert from_diffusers(tmp_path, "float32", "cpu").schedule == cosine()


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "values", "error", "message"),
    [
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, ValueError, "vqvae"),
        ("model_index.json", {"unet": ["diffusers", "UNet2DConditionModel"]}, ValueError, "UNet2DConditionModel"),
        ("unet/config.json", {"num_class_embeds": 10}, ValueError, "classes"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, ValueError, "prediction_type"),
        ("scheduler/scheduler_config.json", {"beta_schedule": None}, ValueError, "beta_schedule"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, ValueError, "zero_snr"),
    ],
)
def test_what_is_no_model_of_pixels_is_refused(name, values, error, message, tmp_path):
    DDPMPipeline(UNet2DModel(**THEIRS), DDPMScheduler()).save_pretrained(tmp_path)
    from_diffusers(tmp_path, "float32", "cpu")
    change(tmp_path, name, **values)
    with pytest.raises(error, match=message):
        from_diffusers(tmp_path)


def test_missing_and_damaged_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        from_diffusers(tmp_path)
    DDPMPipeline(UNet2DModel(**THEIRS), DDPMScheduler()).save_pretrained(tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match="unpickled"):
        from_diffusers(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        from_diffusers(tmp_path)
