"""Pipelines of diffusers as they lie on disks: old, sharded, in half precision, of every scheduler, damaged."""

import json
import re
import shutil

import diffusers
import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from ddpm.denoiser import NetworkDenoiser
from ddpm.interop import export_diffusers, from_diffusers, unet_config, unet_to_diffusers
from ddpm.interop.onnx import export_onnx
from ddpm.samplers import ddim, final
from ddpm.schedule import NoiseSchedule, cosine, linear
from ddpm.unet import UNet, UNetConfig
from tests.defaults import default
from tests.networks import SMALL_UNET

pytestmark = pytest.mark.long

SMALL = {
    "sample_size": 16, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 2, "flip_sin_to_cos": False,
}  # fmt: skip
#: The options of google/ddpm-cifar10-32 and its kind, which no UNet of ours has, on two levels.
GOOGLE = SMALL | {
    "in_channels": 3, "out_channels": 3, "attention_head_dim": None, "downsample_padding": 0, "freq_shift": 1,
    "mid_block_scale_factor": 1, "norm_eps": 1e-6, "norm_num_groups": 4, "act_fn": "silu",
}  # fmt: skip
WEIGHTS = "diffusion_pytorch_model.safetensors"


def model(options):
    torch.manual_seed(0)
    return UNet2DModel(**options).eval()


def save(folder, options=SMALL, scheduler=None, dtype=torch.float32, **how):
    DDPMPipeline(model(options).to(dtype), scheduler or DDPMScheduler()).save_pretrained(folder, **how)
    return folder


def flattened(folder):
    """A pipeline in the oldest layout: all files in one folder, attention by its old names."""
    for part in ("unet", "scheduler"):
        for path in (folder / part).iterdir():
            path.rename(folder / path.name)
        (folder / part).rmdir()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(folder / WEIGHTS)
    save_file(
        {re.sub("to_[qkv]|to_out.0", lambda m: old[m[0]], name): w for name, w in weights.items()}, folder / WEIGHTS
    )
    return folder


def beside_each_other(folder):
    """A UNet in a folder of its own, and the scheduler beside that."""
    (folder / "scheduler" / "scheduler_config.json").rename(folder / "scheduler_config.json")
    (folder / "scheduler").rmdir()
    return folder


@torch.no_grad()
def compare(folder, **variant):
    """Our denoiser of a folder against diffusers' own network of it, which is called with t - 1.

    A network that has learnt a variance, too, answers it after the noise.
    """
    ours = from_diffusers(folder, "float32", "cpu")
    theirs = DDPMPipeline.from_pretrained(folder, local_files_only=True, **variant).unet.float()
    x = torch.randn(2, ours.image_shape[0], 16, 16, generator=torch.Generator().manual_seed(1))
    for t in (1, 500, 1000):
        answer = theirs(x, t - 1).sample[:, : x.shape[1]]
        torch.testing.assert_close(ours(x, t).eps, answer, rtol=0, atol=1e-5)
    assert {weight.dtype for weight in ours.network.parameters()} == {torch.float32}
    return ours


@pytest.mark.parametrize(
    "options",
    [SMALL, GOOGLE, SMALL | {"out_channels": 2}],
    ids=["a UNet of ours", "google's", "with a variance"],
)
@pytest.mark.parametrize("layout", [lambda folder: folder, flattened, beside_each_other])
def test_every_layout_is_read(layout, options, tmp_path):
    ours = compare(layout(save(tmp_path, options)))
    assert isinstance(ours.network, UNet) == (options is SMALL)


@pytest.mark.parametrize("how", [{}, {"max_shard_size": "20KB"}], ids=["whole", "sharded"])
@pytest.mark.parametrize("variant", [None, "fp16", "non_ema"])
def test_sharded_weights_and_variants_are_read(variant, how, tmp_path):
    dtype = torch.float16 if variant == "fp16" else torch.float32
    save(tmp_path, dtype=dtype, variant=variant, **how)
    assert (len(list((tmp_path / "unet").glob("*-of-*"))) > 1) == bool(how)
    compare(tmp_path, variant=variant)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_every_precision_are_computed_with_in_float32(dtype, tmp_path):
    compare(save(tmp_path, dtype=dtype))


def test_plain_weights_are_taken_unless_a_variant_is_asked_for(tmp_path):
    save(tmp_path, dtype=torch.float16, variant="fp16")
    save(tmp_path)
    exact = model(SMALL).conv_in.weight
    for variant, weight in ((None, exact), ("fp16", exact.half().float())):
        assert torch.equal(from_diffusers(tmp_path, variant=variant, device="cpu").network.conv_in.weight, weight)
    with pytest.raises(ValueError, match=r"variant is 'ema'; the weights in .*unet are None, 'fp16'$"):
        from_diffusers(tmp_path, variant="ema")
    (tmp_path / "unet" / WEIGHTS).rename(tmp_path / "unet" / WEIGHTS.replace(".s", ".non_ema.s"))
    with pytest.raises(ValueError, match=r"variant is None; the weights in .*unet are 'fp16', 'non_ema'$"):
        from_diffusers(tmp_path)


# Schedulers.

TABLES = [
    name
    for name in (
        "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler",
        "LMSDiscreteScheduler", "PNDMScheduler", "RePaintScheduler", "TCDScheduler", "UniPCMultistepScheduler",
    )
    if hasattr(diffusers, name)
]  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_the_schedule_is_that_of_the_schedulers_class_also_by_its_defaults(name, tmp_path):
    scheduler = getattr(diffusers, name)()
    save(tmp_path, scheduler=scheduler)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    for text in (file.read_text(), "{}"):
        file.write_text(text)
        found = from_diffusers(tmp_path, "float32", "cpu").schedule.alpha_bar[1:]
        torch.testing.assert_close(found, scheduler.alphas_cumprod.double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DDPMScheduler"])
def test_a_schedule_rescaled_to_zero_terminal_snr_is_read(name, tmp_path):
    scheduler = getattr(diffusers, name)(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    found = from_diffusers(save(tmp_path, scheduler=scheduler), "float32", "cpu")
    assert found.target == "v"
    assert found.schedule.signal(1000) == 0
    torch.testing.assert_close(
        found.schedule.alpha_bar[1:-1], scheduler.alphas_cumprod[:-1].double(), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "sigmoid", "laplace", "squaredcos_cap_v2"])
def test_every_formula_of_a_schedule_is_read(name, tmp_path):
    """The last two are given by alpha_bar, and diffusers goes by way of betas in float32."""
    scheduler = DDPMScheduler(500, beta_schedule=name)
    found = from_diffusers(save(tmp_path, scheduler=scheduler), "float32", "cpu").schedule
    near = 5e-3 if name in ("laplace", "squaredcos_cap_v2") else 1e-4
    torch.testing.assert_close(found.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=near, atol=0)
    assert (found == cosine(500)) == (name == "squaredcos_cap_v2")


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("ScoreSdeVeScheduler", {}, "scheduler is 'ScoreSdeVeScheduler' .*; only one with a table of betas"),
        ("EDMEulerScheduler", {}, "scheduler is 'EDMEulerScheduler' .*; only one with a table of betas"),
        ("FlowMatchEulerDiscreteScheduler", {}, "only one with a table of betas has a noise schedule"),
        ("UNet2DModel", {}, "scheduler is 'UNet2DModel' .*; this version of diffusers has none of that name"),
        ("SpiralScheduler", {}, "scheduler is 'SpiralScheduler' .*; this version of diffusers has none of that name"),
        ("DDIMScheduler", {"num_train_timesteps": "many"}, "scheduler_config.json makes no DDIMScheduler: "),
        ("DDIMScheduler", {"beta_schedule": "spiral"}, "beta_schedule in .* is 'spiral'; legal are linear, "),
        ("DDIMScheduler", {"trained_betas": [0.1, 1.5], "num_train_timesteps": 2}, r"no noise schedule: betas\[1\]"),
        ("DDIMScheduler", {"trained_betas": [0.1, -0.1], "num_train_timesteps": 2}, r"no noise schedule: betas\[1\]"),
        ("DDIMScheduler", {"prediction_type": "flow_prediction"}, "prediction_type in .*; legal are epsilon, "),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True}, "target is 'eps'; on the schedule .* legal are x0, v"),
        ("CogVideoXDDIMScheduler", {"snr_shift_scale": 3.0}, "changes the table of its scaled_linear schedule"),
    ],
)  # fmt: skip
def test_a_scheduler_without_a_schedule_of_ours_is_refused_in_one_line(name, config, message, tmp_path):
    save(tmp_path)
    change(tmp_path / "model_index.json", scheduler=["diffusers", name])
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{message}[^\n]*$"):
        from_diffusers(tmp_path)


# What is missing, damaged or another program's.


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(error, message, folder, **options):
    """The folder is refused in one line that says this."""
    with pytest.raises(error, match=f"{message}[^\n]*$"):
        from_diffusers(folder, **options)


def test_parts_alone_say_what_is_missing(tmp_path):
    save(tmp_path)
    refused(
        FileNotFoundError,
        "unet holds a UNet2DModel and no scheduler: there is no .*model_index.json",
        tmp_path / "unet",
    )
    refused(FileNotFoundError, "there is no .*model_index.json", tmp_path / "scheduler")
    refused(
        FileNotFoundError,
        "there is no folder '.*google.ddpm-cifar10-32'; nothing is downloaded",
        tmp_path / "google/ddpm-cifar10-32",
    )
    refused(FileNotFoundError, "there is no folder .*; nothing is downloaded", tmp_path / "unet" / WEIGHTS)
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    refused(FileNotFoundError, "there is no .*scheduler_config.json; every diffusers pipeline has this file", tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": {}, "training": {}, "data": {}}')
    refused(FileNotFoundError, "run is a training run's folder, which ddpm.load opens", tmp_path / "run")


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.bin",
        "diffusion_pytorch_model.bin.index.json",
        "unet.safetensors",
    ],
)
def test_pickles_and_other_names_are_no_weights(name, tmp_path):
    save(tmp_path)
    (tmp_path / "unet" / WEIGHTS).rename(tmp_path / "unet" / name)
    refused(FileNotFoundError, "unet holds no diffusion_pytorch_model.safetensors; nothing is unpickled", tmp_path)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ({"weight_map": {"a": "evil.bin"}}, ValueError, "names 'evil.bin'; it must name safetensors files"),
        ({"weight_map": {"a": "b.safetensors"}}, FileNotFoundError, "there is no .*b.safetensors, which .* names"),
        ({"weight_map": {"a": 3}}, ValueError, "index.json is damaged: it must have a weight_map"),
        ({"metadata": {}}, ValueError, "index.json is damaged: it must have a weight_map"),
        ({"weight_map": {"a": WEIGHTS}}, ValueError, "unet is damaged or does not fit its config.json: 'metadata'"),
        ({"weight_map": {"a": f"../unet/{WEIGHTS}"}}, ValueError, "is damaged or does not fit .*separator"),
        ([], ValueError, "index.json is damaged: it must hold an object"),
    ],
)
def test_an_index_of_shards_is_checked_before_they_are_read(index, error, message, tmp_path):
    save(tmp_path)
    (tmp_path / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    refused(error, message, tmp_path)


def test_weights_with_nan_or_of_another_shape_are_named(tmp_path):
    save(tmp_path)
    file = tmp_path / "unet" / WEIGHTS
    weights = load_file(file)
    for bias, message in (
        (torch.full((8,), torch.nan), "unet is damaged: conv_in.bias holds numbers that are not finite"),
        (torch.zeros(9), "unet is damaged or does not fit its config.json: .*conv_in.bias"),
        (None, "unet does not fit its config.json: conv_in.bias"),
    ):
        others = {name: value for name, value in weights.items() if name != "conv_in.bias"}
        save_file(others | ({} if bias is None else {"conv_in.bias": bias}), file)
        refused(ValueError, message, tmp_path)
    save_file(weights | {"conv_in.gain": torch.ones(1)}, file)
    refused(ValueError, "unet does not fit its config.json: conv_in.gain", tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "config.json is that of a UNet2DConditionModel; it must be"),
        ({"num_class_embeds": 10}, "unet does not fit its config.json: class_embedding.weight"),
        ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep' in .*; only plain labels are told"),
        ({"norm_num_groups": 3}, "unet is damaged or does not fit its config.json: "),
        ({"norm_num_groups": 0}, "unet is damaged or does not fit its config.json: "),
        ({"down_block_types": ["SpiralBlock", "DownBlock2D"]}, "unet is damaged or does not fit its config.json: "),
        ({"in_channels": "one", "out_channels": "one"}, "unet is damaged or does not fit its config.json: "),
        ({"quantization_config": {"quant_method": "spiral"}}, "unet is damaged or does not fit its config.json: "),
        ({"sample_size": 15}, "sample_size is 15 in .*; it must be a multiple of 2, or two of them"),
        ({"sample_size": [16, 15]}, r"sample_size is \[16, 15\] in .*; it must be a multiple of 2, or two of them"),
        ({"sample_size": 0}, "sample_size is 0 in .*; it must be a multiple of 2, or two of them"),
        ({"sample_size": [16]}, r"sample_size is \[16\] in .*; it must be a multiple of 2, or two of them"),
        ({"sample_size": 16.5}, "sample_size is 16.5 in .*; it must be a multiple of 2, or two of them"),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_network_is_refused_in_one_line(values, message, tmp_path):
    save(tmp_path)
    change(tmp_path / "unet" / "config.json", **values)
    refused(ValueError, message, tmp_path)


def test_diffusers_itself_fails_at_a_size_that_does_not_survive_the_halvings():
    with pytest.raises(RuntimeError, match="size"), torch.no_grad():
        model(SMALL)(torch.zeros(1, 1, 15, 15), 0)


def test_images_may_have_two_sides_or_no_size(tmp_path):
    save(tmp_path)
    for size, shape in (([16, 32], (1, 16, 32)), (None, None)):
        change(tmp_path / "unet" / "config.json", sample_size=size)
        assert from_diffusers(tmp_path, device="cpu").image_shape == shape


def test_the_folder_may_be_here_or_in_the_home(tmp_path, monkeypatch):
    save(tmp_path / "pipeline")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "pipeline")
    for path in ("~/pipeline", ".", "../pipeline/"):
        assert from_diffusers(path, device="cpu").image_shape == (1, 16, 16)
    refused(FileNotFoundError, "^there is no folder ''; nothing is downloaded", "")


def test_an_export_may_go_into_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    denoise = NetworkDenoiser(UNet(SMALL_UNET), linear(), image_shape=(1, 8, 8))
    export_diffusers(denoise, "~/pipeline")
    export_onnx(denoise, "~/model.onnx")
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"pipeline", "model.onnx"}
    assert not list((tmp_path / "here").iterdir())


def test_a_wrong_precision_is_refused_before_anything_is_read(tmp_path):
    refused(ValueError, "precision is 'half'; legal are auto, float32", tmp_path, precision="half")


# The other way.


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (30, "image height is 30; it must be a multiple of 4, such as 28 or 32"),
        ((32, 30), "image width is 30; it must be a multiple of 4, such as 28 or 32"),
        (0, "image height is 0; it must be a multiple of 4, such as 4"),
        (-32, "image height is -32; it must be a multiple of 4, such as 4"),
        (32.0, "image_size is 32.0; it must be an integer or a pair of them"),
        ((32, 32.0), r"image_size is \(32, 32.0\); it must be an integer or a pair of them"),
        ((32, 32, 32), r"image_size is \(32, 32, 32\); it must be an integer or a pair of them"),
        ("32", "image_size is '32'; it must be an integer or a pair of them"),
        (None, "image_size is None; it must be an integer or a pair of them"),
    ],
)
def test_a_size_that_the_network_does_not_take_is_refused(size, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        unet_to_diffusers(UNet(), size)


def test_only_networks_that_can_be_converted_are(tmp_path):
    with pytest.raises(TypeError, match="^network is Linear; it must be a ddpm.unet.network.UNet"):
        unet_to_diffusers(torch.nn.Linear(1, 1), 32)
    with pytest.raises(TypeError, match="^model is a UNet; it must be a UNet2DModel"):
        unet_config(UNet(UNetConfig(base_channels=8, head_channels=8)))
    with pytest.raises(TypeError, match="^denoise is UNet; it must be a ddpm.denoiser.network.NetworkDenoiser"):
        export_diffusers(UNet(UNetConfig(base_channels=8, head_channels=8)), tmp_path / "out")
    linear_map = NetworkDenoiser(torch.nn.Linear(32, 32), linear(), "eps", image_shape=(1, 32, 32))
    with pytest.raises(ValueError, match="^denoise holds a Linear; it must hold a UNet, with a null label if it has"):
        export_diffusers(linear_map, tmp_path / "out")
    of_any_shape = NetworkDenoiser(UNet(UNetConfig(base_channels=8, head_channels=8)), linear(), "eps")
    with pytest.raises(ValueError, match="^denoise does not know its image_shape; NetworkDenoiser.* does$"):
        export_diffusers(of_any_shape, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_diffusers_draws_from_an_export_what_ddim_draws_here(tmp_path):
    """On the same grid, and without clipping: an untrained network's x0 lies far beyond [-1, 1]."""
    torch.manual_seed(0)
    network = UNet(SMALL_UNET)
    denoise = NetworkDenoiser(network, linear(), image_shape=(1, 16, 32))
    export_diffusers(denoise, tmp_path)
    pipeline = DDIMPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert pipeline.unet.config.sample_size == [16, 32]
    pipeline.scheduler.set_timesteps(10)
    x = start = torch.randn(2, 1, 16, 32)
    with torch.no_grad():
        for t in pipeline.scheduler.timesteps:
            x = pipeline.scheduler.step(pipeline.unet(x, t).sample, t, x).prev_sample
        ours = final(ddim(denoise, start, denoise.schedule.timesteps(10)))
    assert ours.abs().max() > 10
    torch.testing.assert_close(x, ours, rtol=1e-3, atol=1e-3)


def test_an_export_goes_into_an_empty_folder_and_into_no_other(tmp_path):
    network = UNet(SMALL_UNET)
    denoise = NetworkDenoiser(network, NoiseSchedule([1, 0.5]), image_shape=(1, 16, 16))
    export_diffusers(denoise, tmp_path)
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        back = from_diffusers(tmp_path, device="cpu", precision="float32")
        torch.testing.assert_close(back(x, 1).eps, denoise(x, 1).eps, rtol=0, atol=1e-5)
    shutil.rmtree(tmp_path / "unet")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(
        ValueError, match="^directory is .*, which holds .*; it must be an empty folder or not there yet"
    ):
        export_diffusers(denoise, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_student_and_the_names_of_its_classes_survive_an_export(tmp_path):
    network = UNet(UNetConfig(channels=1, base_channels=8, classes=2))
    denoise = NetworkDenoiser(network, linear(), "v", image_shape=(1, 32, 32), classes=("boot", "bag"))
    denoise.distilled_for = 4
    export_diffusers(denoise, tmp_path / "export")
    back = from_diffusers(tmp_path / "export", device="cpu")
    assert (back.distilled_for, back.classes) == (4, ("boot", "bag"))
    assert "it was distilled for 4 steps of DDIM" in (tmp_path / "export" / "README.md").read_text()
    change(tmp_path / "export" / "ddpm.json", classes=["boot"])
    refused(ValueError, "classes are .'boot'.; there must be 2 names", tmp_path / "export")


@pytest.mark.parametrize("options", [SMALL, GOOGLE])
def test_an_imported_network_is_frozen(options, tmp_path):
    network = from_diffusers(save(tmp_path, options), device="cpu").network
    assert not any(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, "meta"], ids=str)
@pytest.mark.parametrize("options", [SMALL, GOOGLE])
def test_what_is_imported_and_exported_is_the_same_under_torchs_other_defaults(options, kind, tmp_path, capsys):
    """Another type, or another device than the CPU."""
    save(tmp_path / "theirs", options)

    def made():
        return from_diffusers(tmp_path / "theirs", "float32", "cpu")

    plain, x = made(), torch.randn(2, options["in_channels"], 16, 16)
    with default(kind):
        other = made()
    assert torch.equal(other.schedule.alpha_bar, plain.schedule.alpha_bar)
    assert {weight.dtype for weight in other.network.parameters()} == {torch.float32}
    assert torch.equal(other(x, 500.0).eps, plain(x, 500.0).eps)
    if isinstance(plain.network, UNet):
        export_diffusers(plain, tmp_path / "ours")
        with default(kind):
            export_diffusers(plain, tmp_path / "ours again")
        one, again = (tmp_path / name / "unet" / WEIGHTS for name in ("ours", "ours again"))
        assert one.read_bytes() == again.read_bytes()
    assert capsys.readouterr().err == ""
