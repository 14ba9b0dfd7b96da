"""Models of diffusers in memory: pipelines, some without a null label, and a network that is told a text."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
    UNet2DConditionModel,
)
from torch import nn

import ddpm
from ddpm.denoiser import Guided, NetworkDenoiser
from ddpm.interop import export_diffusers, from_diffusers
from ddpm.samplers import ddim, final
from ddpm.schedule import from_betas, linear
from ddpm.unet import UNet, UNetConfig
from tests.parity.test_folders import GOOGLE, SMALL, model

pytestmark = pytest.mark.long


@torch.no_grad()
@pytest.mark.parametrize("options", [SMALL, GOOGLE], ids=["a UNet of ours", "google's"])
@pytest.mark.parametrize("kind", [DDPMPipeline, SimpleNamespace])
def test_a_pipeline_in_memory_is_what_it_is_on_the_disk(options, kind, tmp_path):
    unet, scheduler = model(options), DDIMScheduler(500, prediction_type="v_prediction")
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path)
    on_disk, in_memory = (
        from_diffusers(each, "float32", "cpu") for each in (tmp_path, kind(unet=unet, scheduler=scheduler))
    )
    x = torch.randn(2, *in_memory.image_shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(in_memory(x, 300).x0, on_disk(x, 300).x0)
    assert in_memory.schedule == on_disk.schedule
    assert (in_memory.target, in_memory.image_shape) == (on_disk.target, on_disk.image_shape)
    assert type(in_memory.network) is type(on_disk.network)


def test_the_pipeline_itself_is_not_changed():
    unet = model(GOOGLE).to(torch.bfloat16).train()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    convolution = unet.conv_in
    denoise = from_diffusers(DDPMPipeline(unet, DDPMScheduler()), "float32", "cpu")
    assert {weight.dtype for weight in denoise.network.parameters()} == {torch.float32}
    assert unet.training
    assert unet.conv_in is convolution
    assert all(weight.requires_grad for weight in unet.parameters())
    torch.testing.assert_close(unet.state_dict(), before, rtol=0, atol=0)


def with_other_betas(scheduler):
    scheduler.alphas_cumprod = scheduler.alphas_cumprod**2
    return scheduler


def with_nan(unet):
    nn.init.constant_(unet.conv_in.bias, torch.nan)
    return unet


@pytest.mark.parametrize(
    ("pipeline", "error", "message"),
    [
        (model(SMALL), TypeError, "path is UNet2DModel; it must be a path, or a pipeline with a unet and a scheduler"),
        (None, TypeError, "path is NoneType; it must be a path, or a pipeline"),
        (DDPMPipeline(None, DDPMScheduler()), ValueError, "pipeline holds {'scheduler': 'DDPMScheduler'}; a model of"),
        (
            LDMPipeline(AutoencoderKL(), model(SMALL), DDIMScheduler()),
            ValueError,
            "pipeline holds {'vqvae': 'AutoencoderKL', 'unet': 'UNet2DModel', .*}; a model of pixels is",
        ),
        (
            DDPMPipeline(model(SMALL), FlowMatchEulerDiscreteScheduler()),
            ValueError,
            "scheduler is 'FlowMatchEulerDiscreteScheduler' .pipeline.scheduler.; only one with a table of betas",
        ),
        (
            DDPMPipeline(model(SMALL), DDPMScheduler(rescale_betas_zero_snr=True)),
            ValueError,
            "target is 'eps'; on the schedule .* legal are x0, v",
        ),
        (
            DDPMPipeline(model(SMALL), with_other_betas(DDPMScheduler())),
            ValueError,
            "pipeline.scheduler changes the table of its linear schedule",
        ),
        (
            DDPMPipeline(model(SMALL | {"class_embed_type": "timestep"}), DDPMScheduler()),
            ValueError,
            "class_embed_type is 'timestep' in pipeline.unet; only plain labels are told",
        ),
        (
            DDPMPipeline(model(SMALL | {"sample_size": 15}), DDPMScheduler()),
            ValueError,
            "sample_size is 15 in pipeline; it must be a multiple of 2",
        ),
        (
            DDPMPipeline(with_nan(model(SMALL)), DDPMScheduler()),
            ValueError,
            "pipeline.unet is damaged: conv_in.bias holds numbers that are not finite",
        ),
        (SimpleNamespace(unet=model(SMALL), scheduler="ddpm"), ValueError, "scheduler is 'str' .pipeline.sch"),
    ],
)
def test_what_is_refused_on_the_disk_is_refused_in_memory(pipeline, error, message):
    with pytest.raises(error, match=f"^{message}[^\n]*$"):
        from_diffusers(pipeline)


def test_a_folder_that_is_called_pipeline_says_nothing_of_one_in_memory(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "ddpm.json").write_text('{"classes": ["boot"], "distilled_for": 4}')
    monkeypatch.chdir(tmp_path)
    denoise = from_diffusers(DDPMPipeline(model(SMALL | {"num_class_embeds": 2}), DDPMScheduler()), device="cpu")
    assert (denoise.classes, denoise.distilled_for) == (("0",), None)


def test_a_pipeline_in_memory_has_no_variant():
    with pytest.raises(ValueError, match="^variant is 'fp16'; a pipeline in memory has none"):
        from_diffusers(DDPMPipeline(model(SMALL), DDPMScheduler()), variant="fp16")


@torch.no_grad()
@pytest.mark.parametrize("options", [SMALL, GOOGLE], ids=["a UNet of ours", "google's"])
def test_without_a_null_label_every_class_can_be_told_and_one_must_be(options):
    unet = model(options | {"num_class_embeds": 3})
    denoise = ddpm.from_diffusers(DDPMPipeline(unet, DDPMScheduler()), "float32", "cpu", null_label=False)
    assert denoise.classes == ("0", "1", "2")
    x = torch.randn(3, *denoise.image_shape)
    expected = unet(x, 41, torch.tensor([2, 0, 1])).sample
    torch.testing.assert_close(denoise.given([2, 0, 1])(x, 42).eps, expected, rtol=0, atol=1e-5)
    assert ddpm.sample(denoise.given("2"), 2, steps=3, progress=False).isfinite().all()
    for untold in (denoise, denoise.given("2").given(None)):
        with pytest.raises(ValueError, match="^labels are None; this network has no null label, so `given` must tell"):
            untold(x, 42)


def test_a_null_label_is_named_in_what_was_exported_and_needs_classes(tmp_path):
    network = UNet(UNetConfig(channels=1, base_channels=8, classes=2))
    denoise = NetworkDenoiser(network, linear(), image_shape=(1, 32, 32), classes=("boot", "bag"))
    export_diffusers(denoise, tmp_path)
    with pytest.raises(ValueError, match="^null_label is False; .*ddpm.json says that it was exported from here, with"):
        from_diffusers(tmp_path, null_label=False)
    with pytest.raises(ValueError, match="^null_label is None; legal are True, False$"):
        from_diffusers(tmp_path, null_label=None)
    untold = from_diffusers(DDPMPipeline(model(SMALL), DDPMScheduler()), device="cpu", null_label=False)
    assert (untold.classes, type(untold.network)) == ((), UNet)


class Prompted(nn.Module):
    """A network of diffusers that is told one text, as the page on training wraps it."""

    def __init__(self, unet, prompt):
        super().__init__()
        self.unet, self.prompt = unet, prompt

    def forward(self, x, t):
        return self.unet(x, t, self.prompt.expand(len(x), -1, -1)).sample


@torch.no_grad()
def test_a_network_that_is_told_a_text_draws_what_it_draws_there():
    """Guided, by DDIM in ten steps."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    text, nothing, start = torch.randn(1, 7, 16), torch.zeros(1, 7, 16), torch.randn(2, 4, 8, 8)
    schedule = from_betas(scheduler.betas)
    told, untold = (NetworkDenoiser(Prompted(unet, prompt), schedule, "eps") for prompt in (text, nothing))
    ours = final(ddim(Guided(told, untold, weight=3), start, schedule.timesteps(10)))
    x = start
    for t in scheduler.timesteps:
        with_text, without = (unet(x, t, prompt.expand(2, -1, -1)).sample for prompt in (text, nothing))
        x = scheduler.step(without + 3 * (with_text - without), t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4 * x.abs().max().item())
    unguided = final(ddim(told, start, schedule.timesteps(10)))
    assert (unguided - x).abs().max() > 0.01 * x.abs().max()
