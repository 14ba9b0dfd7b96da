from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddpm.diffusion import DiffusionConfig
from ddpm.unet import CONVENTIONS, UNet, UNetConfig, feature_maps, shapes
from ddpm.unet.blocks import GroupNorm, sinusoids
from tests.networks import stirred

SMALL = UNetConfig(base_channels=8, head_channels=8)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        UNetConfig(
            channels=3, base_channels=12, channel_multipliers=(1, 1, 2, 2), attention_levels=(1, 3), head_channels=12
        ),
        UNetConfig(base_channels=4, channel_multipliers=(3,), blocks_per_level=1, attention_levels=(), head_channels=4),
    ],
)
def test_shape_is_kept_at_every_legal_size(config):
    network = UNet(config)
    for size in (config.divisor, 3 * config.divisor):
        x = torch.randn(2, config.channels, size, 2 * size)
        assert network(x, torch.tensor([0.0, 999.5])).shape == x.shape


@st.composite
def cases(draw):
    """A legal configuration, a size that it takes, and where to read it."""
    multipliers = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    base = draw(st.sampled_from([4, 8, 12]))
    config = UNetConfig(
        channels=draw(st.integers(1, 3)), base_channels=base, channel_multipliers=multipliers,
        blocks_per_level=draw(st.integers(1, 2)), attention_levels=draw(st.sets(st.integers(0, len(multipliers) - 1))),
        head_channels=draw(st.sampled_from([d for d in range(1, base + 1) if base % d == 0])),
        middle_attention=draw(st.booleans()), time_conditioning=draw(st.sampled_from(["add", "scale_shift", "none"])),
        resample_last=draw(st.booleans()), up_width=draw(st.sampled_from(["mirror", "finer"])),
        skips=draw(st.booleans()),
    )  # fmt: skip
    size = tuple(config.divisor * draw(st.integers(1, 3)) for _ in range(2))
    return config, size, draw(st.sampled_from(["block", "resampled"]))


def same_sizes_three_ways(case):
    config, size, report = case
    traced = feature_maps(config, size, report)
    assert [(row.role, row.height, row.width, row.channels) for row in traced] == shapes(config, size, report)

    network, real = UNet(config, size), []

    def note(module, _, output):
        real.append(tuple((output[-1] if isinstance(output, list) else output).shape[1:]))

    for level in [*network.down, *network.up]:
        before_halving = (report == "block" and level in network.down) or level.resample is None
        before_doubling = report == "block" and level in network.up
        (level.attentions[-1] if before_halving or before_doubling else level).register_forward_hook(note)
    network.middle_out.register_forward_hook(note)
    x = torch.randn(2, config.channels, *size)
    assert network(x, torch.tensor([0.0, 999.5])).shape == x.shape
    assert real == [(row.channels, row.height, row.width) for row in traced]
    for row in traced:
        parts = [n for n in ("middle_in", "middle_attention", "middle_out") if row.name == "middle"] or [row.name]
        assert row.parameters == sum(p.numel() for n in parts for p in network.get_submodule(n).parameters())


@pytest.mark.long
@settings(max_examples=50, deadline=None, derandomize=True)
@given(cases())
def test_algebra_trace_and_real_network_agree_on_every_size(case):
    same_sizes_three_ways(case)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(cases())
def test_algebra_trace_and_real_network_agree_on_many_more(case):
    same_sizes_three_ways(case)


def test_size_of_the_shipped_and_of_the_measured_network():
    for blocks, parameters in ((1, 2_734_945), (2, 3_939_393)):
        assert sum(p.numel() for p in UNet(UNetConfig(blocks_per_level=blocks)).parameters()) == parameters


def test_a_new_network_answers_its_last_bias_and_every_weight_learns():
    torch.manual_seed(0)
    network = UNet(SMALL)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 700.0])
    assert torch.equal(network(x, t), network.conv_out.bias.expand(2, 1, 8, 8))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):  # zeros open one layer a step
        optimiser.zero_grad()
        (network(x, t) - x.flip(3)).square().mean().backward()
        optimiser.step()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias adds the same to all scores of a query, which softmax cancels.
    assert [name for name in silent if not name.endswith("key.bias")] == []


def without_norms(network):
    """Each norm's statistics see every pixel."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, GroupNorm):
                setattr(module, name, torch.nn.Identity())
    return network


def test_time_and_far_pixels_matter():
    """Only attention takes one corner to the other: the convolutions from there reach 92 pixels of 96."""
    network = stirred(without_norms(UNet(SMALL)))
    x = torch.randn(1, 1, 96, 96, requires_grad=True)
    early, late = network(x, torch.tensor([1.0])), network(x, torch.tensor([900.0]))
    assert not torch.allclose(early, late)
    gradient = torch.autograd.grad(early[0, 0, 0, 0], x)[0]
    assert gradient[0, 0, -1, -1] != 0


@pytest.mark.parametrize(
    ("height", "width", "nearest"), [(28, 30, "28 or 32"), (2, 4, "such as 4"), (33, 32, "32 or 36")]
)
def test_an_illegal_size_is_refused_with_the_nearest_legal_ones(height, width, nearest):
    with pytest.raises(ValueError, match=nearest):
        SMALL.check_image(height, width)
    with pytest.raises(ValueError, match=nearest):
        UNet(SMALL, (height, width))
    with pytest.raises(ValueError, match="multiple of 4"):
        UNet(SMALL)(torch.zeros(1, 1, height, width), torch.zeros(1))
    with pytest.raises(ValueError, match="multiple of 8"):
        UNet(replace(SMALL, resample_last=True), 36)


@pytest.mark.parametrize("size", [30, (32,), 32.0, "32", (32, 30), True, (32, True), None])
def test_an_illegal_image_size_is_refused_wherever_it_is_given(size):
    for use in (feature_maps, shapes, *([UNet] if size is not None else [])):
        with pytest.raises(ValueError, match="image"):
            use(SMALL, size)
    for use in (feature_maps, shapes):
        with pytest.raises(ValueError, match="report is 'pixels'"):
            use(SMALL, 32, "pixels")


@pytest.mark.parametrize(
    "options",
    [
        {"base_channels": 30},
        {"base_channels": 0},
        {"channel_multipliers": ()},
        {"channel_multipliers": (1, 0)},
        {"attention_levels": (3,)},
        {"head_channels": 48},
        {"dropout": 1.0},
        {"blocks_per_level": 0},
        {"channel_multipliers": (1, 1.5)},
        {"base_channels": "32"},
        {"attention_levels": 2},
        {"time_conditioning": "film"},
        {"up_width": "coarser"},
        {"head_channels": 64, "attention_levels": (2,), "up_width": "finer", "base_channels": 16},
        {"channel_multipliers": {8, 1, 2, 4}},
        {"channel_multipliers": 4},
        {"skips": "no"},
        {"resample_last": 1},
    ],
)
def test_an_illegal_option_is_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        UNetConfig(**options)


def test_groups_follow_the_narrowest_width():
    assert [UNetConfig(base_channels=c, head_channels=c).groups for c in (4, 12, 32, 64, 128)] == [1, 1, 8, 16, 32]
    assert all(m.num_groups == 2 for m in UNet(SMALL).modules() if isinstance(m, GroupNorm))


def test_sinusoids_take_real_times():
    embedding = sinusoids(torch.tensor([0.0, 0.5]), 8)
    assert torch.equal(embedding[0], torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]))
    assert embedding[1, 0].item() == pytest.approx(torch.sin(torch.tensor(0.5)).item())


def test_both_forms_of_attention_agree():
    network = stirred(UNet(SMALL))
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        fused = network(x, t)
    assert torch.allclose(network(x, t), fused, atol=1e-5)


COURSEWORK = [("down", 256, 128), ("down", 128, 256), ("down", 64, 512), ("middle", 64, 512),
              ("up", 128, 256), ("up", 256, 128), ("up", 512, 128)]  # fmt: skip


@pytest.mark.parametrize(
    ("convention", "sizes"),
    [
        ("A", "256·128 128·256 64·512 | 64·512 | 64·512 128·256 256·128"),
        ("B", "256·128 128·256 64·512 | 64·512 | 128·256 256·128 512·128"),
        (
            "C",
            "256·128 128·128 64·256 32·256 16·512 8·512 | 8·512 | 8·512 16·512 32·256 64·256 128·128 256·128",
        ),
        ("D", "128·128 64·256 64·512 | 64·512 | 128·512 256·256 256·128"),
    ],
)
def test_the_four_conventions(convention, sizes):
    rows = feature_maps(**CONVENTIONS[convention])
    ways = [" ".join(f"{r.height}·{r.channels}" for r in rows if r.role == role) for role in ("down", "middle", "up")]
    assert " | ".join(ways) == sizes
    assert all(row.height == row.width for row in rows)
    if convention == "B":
        assert [(row.role, row.height, row.channels) for row in rows] == COURSEWORK


def test_keeping_the_width_on_the_way_up_gives_other_sizes_than_convention_b():
    mirrored = {**CONVENTIONS["B"], "config": replace(CONVENTIONS["B"]["config"], up_width="mirror")}
    assert [f"{r.height}·{r.channels}" for r in feature_maps(**mirrored)[4:]] == ["128·512", "256·256", "512·128"]


def test_a_trace_of_512_pixels_takes_no_memory():
    """Its first feature map alone would be 128 MiB, its weights 160."""

    class Memory(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            out = operation(*args, **(kwargs or {}))
            for x in tree_leaves(out):
                if isinstance(x, torch.Tensor) and not x.is_meta:
                    self.bytes += x.numel() * x.element_size()
            return out

    with Memory() as memory:
        feature_maps(**CONVENTIONS["B"])
    assert memory.bytes < 1e6


def test_parameters_and_flops_of_a_level_by_hand():
    """A level of one block without attention: two convolutions, the time's projection, two norms; 2 FLOPs a product."""
    config = UNetConfig(
        base_channels=8, channel_multipliers=(1, 2), blocks_per_level=1, attention_levels=(), head_channels=8
    )
    first, second, *_ = feature_maps(config, 16)
    pixels = 16 * 16
    assert first.parameters == 2 * (9 * 8 * 8 + 8) + (32 * 8 + 8) + 2 * 2 * 8 + (9 * 8 * 8 + 8)
    assert first.flops == 2 * pixels * 2 * 9 * 8 * 8 + 2 * 32 * 8 + 2 * pixels // 4 * 9 * 8 * 8
    assert second.flops == 2 * pixels // 4 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16) + 2 * 32 * 16


def test_attention_costs_pairs_of_pixels_and_projections():
    def cost(size):
        maps = [feature_maps(UNetConfig(attention_levels=levels), size) for levels in ((), (2,))]
        return sum(b.flops - a.flops for a, b in zip(*maps, strict=True) if a.name != "middle")

    blocks, width = 5, 128  # two on the way down and three up, each with attention over (size / 4)^2 tokens
    for size in (32, 64):
        tokens = (size // 4) ** 2
        assert cost(size) == blocks * (2 * 4 * tokens * width**2 + 2 * 2 * tokens**2 * width)


def blank(network):
    """Weights of one sign, so that nothing cancels, and norms that see one place only."""
    for parameter in without_norms(network).parameters():
        torch.nn.init.constant_(parameter, 0.01)
    return network.double()


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(
            base_channels=4, channel_multipliers=(1, 1), blocks_per_level=1, attention_levels=(), head_channels=4
        ),
        UNetConfig(
            base_channels=4, channel_multipliers=(1, 2, 2), blocks_per_level=1, attention_levels=(), head_channels=4
        ),
    ],
)
def test_the_receptive_field_is_what_the_gradient_reaches(config):
    """The input pixels on which the middle, and the network's answer, depend: a box of the algebra's side."""
    config = replace(config, middle_attention=False)
    maps = {row.name: row for row in feature_maps(config, 256, "resampled")}
    network, kept = blank(UNet(config)), {}
    for name in ("middle_out", "up.0", f"up.{len(config.widths) - 1}"):
        network.get_submodule(name).register_forward_hook(lambda m, _, out, name=name: kept.update({name: out}))
    x = torch.randn(1, 1, 256, 256, dtype=torch.float64, requires_grad=True)
    network(x, torch.zeros(1, dtype=torch.float64))
    for name, out in kept.items():
        sides, middle = [], out.shape[2] // 2
        for pixel in range(middle, middle + 2 ** len(config.widths)):  # behind a doubling each sees another square
            (gradient,) = torch.autograd.grad(out[0, :, pixel, middle].sum(), x, retain_graph=True)
            rows = (gradient[0, 0] != 0).any(1).nonzero()
            sides.append(int(rows.max() - rows.min()) + 1)
        expected = maps["middle" if name == "middle_out" else name]
        assert max(sides) == expected.receptive_field, name


@pytest.mark.parametrize("config", ["small", {}, DiffusionConfig()])
def test_what_is_no_configuration_of_a_unet_is_refused(config):
    for use in (UNet, lambda config: feature_maps(config, 32), lambda config: shapes(config, 32)):
        with pytest.raises(
            TypeError, match=f"config is {type(config).__name__}; it must be a ddpm.unet.config.UNetConf"
        ):
            use(config)


def test_images_and_times_that_the_network_does_not_take_are_named():
    network, x, t = UNet(SMALL), torch.zeros(2, 1, 8, 8), torch.zeros(2)
    for images, times, words in (
        (x[0], t, r"x has shape \(1, 8, 8\); it must be \(batch, 1, height, width\)"),
        (x.expand(2, 3, 8, 8), t, r"x has shape \(2, 3, 8, 8\); it must be \(batch, 1, height, width\)"),
        (x, torch.tensor(5.0), r"t has shape \(\); it must be a time for each image, \(2,\)"),
        (x, torch.zeros(3), r"t has shape \(3,\); it must be a time for each image, \(2,\)"),
        (x, torch.zeros(2, 1), r"t has shape \(2, 1\); it must be a time for each image, \(2,\)"),
        (x[:, :, :6], t, "image height is 6; it must be a multiple of 4"),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            network(images, times)
    for images, times, words in (
        (x.long(), t, "x is torch.int64; it must be torch.float32, as the weights are"),
        (x.double(), t, "x is torch.float64; it must be torch.float32, as the weights are"),
        (x.numpy(), t, "x is ndarray; it must be a torch.Tensor"),
        (x, 5.0, "t is float; it must be a torch.Tensor"),
        (x, t.to(torch.complex64), "t is torch.complex64; it must be a number"),
    ):
        with pytest.raises(TypeError, match=f"^{words}"):
            network(images, times)
    assert network(x, torch.tensor([5])).shape == x.shape  # one time for all images
    assert network(x[:0], t[:0]).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("conditioning", ["add", "scale_shift", "none"])
def test_a_network_can_be_cast_as_a_whole(dtype, conditioning):
    network = stirred(UNet(replace(SMALL, time_conditioning=conditioning))).eval().requires_grad_(False)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 500.0])
    exact, cast = network(x, t), network.to(dtype)(x.to(dtype), t)
    assert cast.dtype == dtype
    assert (cast.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("changed", "width", "place"),
    [
        ({"attention_levels": ()}, 16, "of the middle, which has attention unless middle_attention is False"),
        ({"attention_levels": (1,)}, 16, "of level 1, which attention_levels names"),
        ({"attention_levels": (0,), "middle_attention": False}, 8, "of level 0, which attention_levels names"),
    ],
)
def test_heads_that_do_not_fit_are_refused_with_the_place_of_the_attention(changed, width, place):
    message = f"^head_channels is 32; it must divide {width}, the width {place}$"
    with pytest.raises(ValueError, match=message):
        UNetConfig(base_channels=8, channel_multipliers=(1, 2), **changed)
    UNetConfig(base_channels=8, channel_multipliers=(1, 2), attention_levels=(), middle_attention=False)
