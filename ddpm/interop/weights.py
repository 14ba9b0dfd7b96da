"""Weights and configurations of a UNet, to and from diffusers' `UNet2DModel`, name by name."""

import inspect
import re
from typing import TYPE_CHECKING, Any

from ddpm.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_NAMES = (  # here, there
    (r"\btime\.linear_", "time_embedding.linear_"),
    (r"\bdown\.(\d+)\.resample\b", r"down_blocks.\1.downsamplers.0.conv"),
    (r"\bup\.(\d+)\.resample\.1\b", r"up_blocks.\1.upsamplers.0.conv"),
    (r"\b(down|up)\.(\d+)\.blocks\.", r"\1_blocks.\2.resnets."),
    (r"\b(down|up)\.(\d+)\.attentions\.", r"\1_blocks.\2.attentions."),
    (r"\bmiddle_in\.", "mid_block.resnets.0."),
    (r"\bmiddle_out\.", "mid_block.resnets.1."),
    (r"\bmiddle_attention\.", "mid_block.attentions.0."),
    (r"\bnorm_out\b", "conv_norm_out"),
    (r"(resnets\.\d+)\.time\b", r"\1.time_emb_proj"),
    (r"(resnets\.\d+)\.shortcut\b", r"\1.conv_shortcut"),
    (r"(attentions\.\d+)\.norm\b", r"\1.group_norm"),
    (r"(attentions\.\d+)\.query\b", r"\1.to_q"),
    (r"(attentions\.\d+)\.key\b", r"\1.to_k"),
    (r"(attentions\.\d+)\.value\b", r"\1.to_v"),
    (r"(attentions\.\d+)\.out\b", r"\1.to_out.0"),
)


def diffusers_name(name: str) -> str:
    """What a weight of `UNet` is called in `UNet2DModel`."""
    for here, there in _NAMES:
        name = re.sub(here, there, name)
    return name


def diffusers_config(config: UNetConfig, image_size: int | tuple[int, int]) -> dict[str, Any]:
    """The arguments of the `UNet2DModel` that computes the same function.

    Raises:
        ValueError: there is none; the message names the option that it lacks.
    """
    for option, only in (
        ("time", ("add", "scale_shift")),
        ("resample_last", (False,)),
        ("up_width", ("mirror",)),
        ("skips", (True,)),
    ):
        if getattr(config, option) not in only:
            legal = " or ".join(map(repr, only))
            raise ValueError(f"{option} is {getattr(config, option)!r}; UNet2DModel has nothing but {legal}")
    if (first := config.channel_multipliers[0]) != 1:
        raise ValueError(
            f"channel_multipliers begins with {first}; in a UNet2DModel it is 1: the time's embedding takes that width"
        )
    levels = range(len(config.widths))
    down = tuple("AttnDownBlock2D" if level in config.attention_levels else "DownBlock2D" for level in levels)
    return {
        "sample_size": image_size,
        "in_channels": config.channels,
        "out_channels": config.channels,
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks_per_level,
        "down_block_types": down,
        "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        "add_attention": config.middle_attention,
        "attention_head_dim": config.head_channels,
        "norm_num_groups": config.groups,
        "attn_norm_num_groups": config.groups,  # left out, scale_shift would go without this norm in the middle
        "dropout": config.dropout,
        "resnet_time_scale_shift": "default" if config.time == "add" else config.time,
        "flip_sin_to_cos": False,  # its default is [cos, sin]
        "freq_shift": 0,
        "downsample_padding": 1,
    }


def unet_config(model: Any) -> UNetConfig:
    """The configuration of the `UNet` that computes what a `UNet2DModel` does: the inverse of `diffusers_config`.

    Raises:
        ValueError: there is none; the message names the option in the way.
    """
    given: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in model.config.items()}
    base, *_ = widths = given["block_out_channels"]
    if base % 4 or any(width % base for width in widths):
        raise ValueError(
            f"block_out_channels is {widths}; those of a UNet are multiples of the first, and that one of 4"
        )
    if given["attention_head_dim"] is None:
        raise ValueError("attention_head_dim is None; a UNet's heads are equally wide on every level")
    config = UNetConfig(
        channels=given["in_channels"],
        base_channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        blocks_per_level=given["layers_per_block"],
        attention_levels=tuple(i for i, kind in enumerate(given["down_block_types"]) if kind.startswith("Attn")),
        middle_attention=given["add_attention"],
        head_channels=given["attention_head_dim"],
        dropout=given["dropout"],
        time="scale_shift" if given["resnet_time_scale_shift"] == "scale_shift" else "add",
    )
    options = inspect.signature(type(model).__init__).parameters
    ours = {name: option.default for name, option in options.items() if name != "self"}
    ours |= diffusers_config(config, given["sample_size"]) | {"num_train_timesteps": given["num_train_timesteps"]}
    same = [("time_embedding_dim", 4 * base), ("act_fn", "swish")]  # other words for what stands in `ours`
    if config.time == "add":
        same.append(("attn_norm_num_groups", None))
    for name, value in ours.items():
        if given[name] != value and (name, given[name]) not in same:
            raise ValueError(
                f"{name} is {given[name]!r} in the UNet2DModel; a UNet with its other options has {value!r}"
            )
    return config


def unet_to_diffusers(network: UNet, image_size: int | tuple[int, int]) -> "UNet2DModel":
    """A `UNet2DModel` with this network's weights; it too is called with t - 1."""
    model: Any = diffusers_library().UNet2DModel(**diffusers_config(network.config, image_size))
    model.load_state_dict({diffusers_name(name): value for name, value in network.state_dict().items()})
    return model.eval()


def unet_from_diffusers(model: Any) -> UNet:
    """A `UNet` with the weights of a `UNet2DModel`.

    Raises:
        ValueError: no `UNet` computes what this model does; the message names the option in the way.
    """
    network = UNet(unet_config(model))
    theirs = model.state_dict()
    network.load_state_dict({name: theirs[diffusers_name(name)] for name in network.state_dict()})
    return network.eval()


def diffusers_library() -> Any:
    """The library, or an error that says how to install it."""
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise ValueError("diffusers is not installed; it comes with this package's extra [diffusers]") from error
    return diffusers
