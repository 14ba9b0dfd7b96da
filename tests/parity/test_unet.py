"""Our UNet against diffusers', both ways, and whole pipelines."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

import ddpm
from ddpm.denoiser import Guided, NetworkDenoiser
from ddpm.interop import diffusers_config, export_diffusers, from_diffusers, unet_from_diffusers, unet_to_diffusers
from ddpm.round_trip import round_trip
from ddpm.samplers import ddim, final
from ddpm.schedule import SCHEDULES, NoiseSchedule, cosine, linear, straight, zero_terminal_snr
from ddpm.unet import CONVENTIONS, UNet, UNetConfig, feature_maps
from ddpm.walks import SAMPLERS
from tests.networks import SMALL_UNET

pytestmark = pytest.mark.long

CONFIGS = [
    UNetConfig(),
    UNetConfig(blocks_per_level=1, middle_attention=False, dropout=0.1),
    UNetConfig(
        channels=3, base_channels=16, channel_multipliers=(1, 2, 2, 4), attention_levels=(1, 2), head_channels=8,
        time_conditioning="scale_shift",
    ),
    UNetConfig(base_channels=16, head_channels=16, classes=10),
    UNetConfig(base_channels=16, head_channels=16, classes=1, time_conditioning="scale_shift"),
]  # fmt: skip
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


def denoiser(schedule=None, target="eps", config=SMALL_UNET):
    return NetworkDenoiser(
        randomised(UNet(config)), schedule or linear(), target, image_shape=(config.channels, 16, 16)
    )


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_eps_agrees_and_the_weights_come_back_to_the_bit(config):
    ours = randomised(UNet(config))
    theirs = unet_to_diffusers(ours, 32)
    x, t = torch.randn(3, config.channels, 32, 32), torch.tensor([0, 41, 999])
    labels = () if config.classes is None else (torch.tensor([0, config.classes - 1, config.classes]),)
    expected = theirs(x, t, *labels).sample
    assert expected.std() > 0.01
    assert (ours(x, t, *labels) - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())
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


@pytest.mark.parametrize(
    "option",
    [
        {"time_conditioning": "none"},
        {"resample_last": True},
        {"up_width": "finer"},
        {"skips": False},
        {"channel_multipliers": (2, 2, 4)},
    ],
)
def test_what_diffusers_lacks_is_refused_by_name(option, tmp_path):
    config = replace(SMALL_UNET, **option)
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
        {"attention_head_dim": None},
        {"mid_block_scale_factor": 2},
        {"downsample_type": "resnet"},
        {"center_input_sample": True},
        {"num_class_embeds": 1},
        {"class_embed_type": "timestep"},
        {"out_channels": 2},
        {"up_block_types": ("UpBlock2D", "UpBlock2D")},
        {"time_embedding_type": "fourier"},
    ],
)
def test_what_the_unet_lacks_is_refused_by_name(option):
    unet_from_diffusers(UNet2DModel(**THEIRS))
    with pytest.raises(ValueError, match=next(iter(option))):
        unet_from_diffusers(UNet2DModel(**{**THEIRS, **option}))


PRESERVING = [name for name, schedule in SCHEDULES.items() if schedule().preserves_variance]


def test_what_diffusers_has_no_scheduler_for_is_refused(tmp_path):
    for target in ("flow", "x0"):
        denoise = NetworkDenoiser(UNet(CONFIGS[0]), straight(), target, image_shape=(1, 32, 32))
        with pytest.raises(ValueError, match=r"schedule is Straight.*needs one that keeps the variance"):
            export_diffusers(denoise, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@pytest.mark.parametrize("schedule", PRESERVING)
def test_ddim_through_the_exported_pipeline_draws_the_same_images(schedule, target, tmp_path):
    """Of random weights; from T, where hardly any signal is left, those that say eps would go off the scale."""
    times = 300 if target == "eps" else 1000
    denoise = denoiser(NoiseSchedule(SCHEDULES[schedule]().alpha_bar[: times + 1]), target)
    for parameter in denoise.network.conv_out.parameters():
        parameter.data *= 1.0 if target == "x0" else 0.1
    export_diffusers(denoise, tmp_path / "out", "What it is worth.")
    compare(denoise, tmp_path / "out", 20)
    assert "What it is worth." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_schedule_without_signal_at_its_end_goes_there_and_back(tmp_path):
    denoise = denoiser(zero_terminal_snr(linear()), "v")
    for parameter in denoise.network.conv_out.parameters():
        parameter.data *= 0.1
    export_diffusers(denoise, tmp_path / "out")
    compare(denoise, tmp_path / "out", 20)
    back = from_diffusers(tmp_path / "out", "float32", "cpu").schedule
    assert back.alpha_bar[-1] == 0
    torch.testing.assert_close(back.alpha_bar, denoise.schedule.alpha_bar, rtol=1e-12, atol=0)


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
    assert ((theirs > 0) & (theirs < 1)).float().mean() > 0.2  # the rest says little
    assert theirs.std() > 0.01
    assert ((x / 2 + 0.5).clamp(0, 1) - theirs).abs().max() < 1e-4


def test_a_conditional_model_goes_there_and_back_and_its_card_draws_what_we_draw(tmp_path, monkeypatch):
    """Guided DDIM steps: the card's own code, run in the folder, against `Guided`."""
    config, names = replace(SMALL_UNET, classes=3), ("bag", "shirt", "coat")
    network = randomised(UNet(config))
    for parameter in network.conv_out.parameters():
        parameter.data *= 0.1
    network.labels.weight.data *= 100
    denoise = NetworkDenoiser(network, linear(), "v", image_shape=(1, 16, 16), classes=names)
    export_diffusers(denoise, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "labels = torch.full((16,), 2)  # coat; of bag, shirt, coat" in card
    monkeypatch.chdir(tmp_path / "out")
    ran = {}
    exec(card.split("```python\n")[1].split("```")[0], ran)

    x = torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    guided = Guided(denoise.given("coat"), denoise.given(None), 2.0)
    with torch.no_grad():
        ours = final(ddim(guided, x, denoise.schedule.timesteps(50)))
        plain = final(ddim(denoise.given("coat"), x, denoise.schedule.timesteps(50)))
    assert (ours - ran["x"]).abs().max() < 2e-5 * ours.abs().max()
    assert (ours - plain).abs().max() > 1e-3 * ours.abs().max()

    back = from_diffusers(tmp_path / "out", "float32", "cpu")
    assert back.classes == names
    with torch.no_grad():
        one, other = (each.given([0, 1, 2, 1])(x[:4], 500).eps for each in (back, denoise))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("distilled_for", "T", "steps"), [(4, 1000, 4), (None, 1000, 50), (None, 30, 30)])
@pytest.mark.parametrize("classes", [(), ("bag", "shirt")], ids=["untold", "told"])
def test_a_card_draws_in_the_models_own_number_of_steps(classes, distilled_for, T, steps, tmp_path):
    network = UNet(replace(SMALL_UNET, classes=len(classes) or None))
    denoise = NetworkDenoiser(network, linear(T=T), "v", image_shape=(1, 16, 16), classes=classes)
    denoise.distilled_for = distilled_for
    export_diffusers(denoise, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert (f"set_timesteps({steps})" if classes else f"num_inference_steps={steps},") in card


def test_a_guided_step_agrees_to_a_hundred_thousandth():
    config = replace(SMALL_UNET, classes=3)
    denoise = NetworkDenoiser(randomised(UNet(config)), linear(), "v", classes=("a", "b", "c"))
    theirs, x = unet_to_diffusers(denoise.network, 16), torch.randn(4, 1, 16, 16)
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(50)
    guided = Guided(denoise.given("b"), denoise.given(None), 2.0)
    with torch.no_grad():
        for t, s in ((1000, 980), (500, 480), (40, 20)):
            told, untold = (theirs(x, t - 1, torch.full((4,), label)).sample for label in (1, 3))
            expected = scheduler.step(untold + 2.0 * (told - untold), t - 1, x).prev_sample
            assert (next(ddim(guided, x, [t, s, 0])).x - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_ancestral_pipeline_opens_it_and_we_read_it_back(tmp_path):
    denoise = denoiser()
    export_diffusers(denoise, tmp_path / "out")
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(2, num_inference_steps=4, output_type="np").images.shape == (2, 16, 16, 1)
    back = from_diffusers(tmp_path / "out", "float32", "cpu")
    assert isinstance(back.network, UNet)
    assert back.image_shape == denoise.image_shape
    torch.testing.assert_close(back.schedule.alpha_bar, denoise.schedule.alpha_bar, rtol=1e-12, atol=0)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(back(x, 500).eps, denoise(x, 500).eps, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="which holds"):
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


def test_a_conditional_model_that_no_unet_is_equal_to_is_told_its_labels(tmp_path):
    """At diffusers' default options; told none, it is told the last label."""
    options = {"flip_sin_to_cos": True, "freq_shift": 0, "num_class_embeds": 4}
    model = randomised(UNet2DModel(**{**THEIRS, **options}))
    DDPMPipeline(model, DDPMScheduler()).save_pretrained(tmp_path)
    denoise = from_diffusers(tmp_path, "float32", "cpu")
    assert not isinstance(denoise.network, UNet)
    assert denoise.classes == ("0", "1", "2")
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        for told, labels in ((denoise.given([0, 2, 1]), [0, 2, 1]), (denoise, [3, 3, 3])):
            expected = model(x, 41, torch.tensor(labels)).sample
            torch.testing.assert_close(told(x, 42).eps, expected, rtol=0, atol=1e-5)
        assert not torch.allclose(denoise(x, 42).eps, denoise.given(0)(x, 42).eps, atol=1e-3)
    guided = Guided(denoise.given("1"), denoise.given(None), 2.0)
    assert torch.isfinite(ddpm.sample(guided, 2, steps=3, progress=False)).all()
    with pytest.raises(ValueError, match="class is 3; legal are 0 to 2"):
        denoise.given(3)


@torch.no_grad()
def test_a_single_class_embedding_is_told_always(tmp_path):
    model = randomised(UNet2DModel(**{**THEIRS, "num_class_embeds": 1}))
    DDPMPipeline(model, DDPMScheduler()).save_pretrained(tmp_path)
    denoise, x = from_diffusers(tmp_path, "float32", "cpu"), torch.randn(2, 1, 16, 16)
    assert denoise.classes == ()
    torch.testing.assert_close(denoise(x, 42).eps, model(x, 41, torch.tensor([0, 0])).sample, rtol=0, atol=1e-5)


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
        theirs = scheduler.alphas_cumprod.double()  # of float32 betas
        torch.testing.assert_close(ours.alpha_bar[1:], theirs, rtol=1e-4 if theirs[-1] > 1e-6 else 5e-3, atol=0)
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
        ("unet/config.json", {"class_embed_type": "timestep"}, ValueError, "class_embed_type is 'timestep'"),
        ("unet/config.json", {"out_channels": 3}, ValueError, "out_channels is 3"),
        ("unet/config.json", {"layers_per_block": 2}, ValueError, "does not fit"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}, ValueError, "num_train_timesteps is 1000"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, ValueError, "prediction_type"),
        ("scheduler/scheduler_config.json", {"beta_schedule": None}, ValueError, "beta_schedule"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, ValueError, "target is 'eps'"),
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
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    with pytest.raises(ValueError, match="damaged"):
        from_diffusers(tmp_path)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match="unpickled"):
        from_diffusers(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            from_diffusers(tmp_path)


def test_without_diffusers_it_is_asked_for(tmp_path, monkeypatch):
    DDPMPipeline(UNet2DModel(**THEIRS), DDPMScheduler()).save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    asked = r"^diffusers is not installed; this needs: pip install 'ddpm\[diffusers\]'$"
    with pytest.raises(ModuleNotFoundError, match=asked):
        from_diffusers(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=asked):
        export_diffusers(denoiser(), tmp_path / "out")


def test_a_failing_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(pipeline, folder):
        (folder / "model_index.json").write_text("{}")
        raise OSError("no space left")

    monkeypatch.setattr(DDPMPipeline, "save_pretrained", fail)
    with pytest.raises(OSError, match="no space"):
        export_diffusers(denoiser(), tmp_path / "out")
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="where no files can be written: Not a directory"):
        export_diffusers(denoiser(), tmp_path / "file" / "out")


def test_convention_d_is_what_the_blocks_of_diffusers_hand_on():
    """Traced in their own model, too; the other conventions have no network there."""
    seen = []

    def note(module, _, output):
        seen.append(tuple((output[0] if isinstance(output, tuple) else output).shape[1:]))

    with torch.device("meta"):
        theirs = UNet2DModel(**diffusers_config(CONVENTIONS["D"]["config"], 256))
        for block in (*theirs.down_blocks, theirs.mid_block, *theirs.up_blocks):
            block.register_forward_hook(note)
        theirs(torch.empty(1, 3, 256, 256), torch.empty(1))
    assert seen == [(row.channels, row.height, row.width) for row in feature_maps(**CONVENTIONS["D"])]
