"""Weights and configurations of a UNet, converted to and from diffusers' `UNet2DModel`."""

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ddpm.arguments import instance
from ddpm.extras import needed
from ddpm.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = [
    "diffusers_config", "diffusers_library", "diffusers_name", "unet_config", "unet_from_diffusers",
    "unet_to_diffusers",
]  # fmt: skip

_NAMES = (  # a pattern in our name of a weight, and what replaces it in diffusers' name
    (r"\btime\.linear_", "time_embedding.linear_"),
    (r"^labels\.", "class_embedding."),
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
    """The name in `UNet2DModel` of a weight of `UNet`."""
    for here, there in _NAMES:
        name = re.sub(here, there, name)
    return name


def diffusers_config(config: UNetConfig, image_size: int | tuple[int, int]) -> dict[str, Any]:
    """The arguments of the `UNet2DModel` that computes the same function.

    Args:
        config: the UNet's configuration.
        image_size: height and width of the images, or the one number that is both.

    Raises:
        ValueError: there is none, and the message names the option that diffusers lacks; or the UNet takes no images of
            this size.
    """
    config.height_and_width(image_size)
    for option, only in (
        ("time_conditioning", ("add", "scale_shift")),
        ("resample_last", (False,)),
        ("up_width", ("mirror",)),
        ("skips", (True,)),
    ):
        if getattr(config, option) not in only:
            legal = " or ".join(map(repr, only))
            raise ValueError(f"{option} is {getattr(config, option)!r}; UNet2DModel has nothing but {legal}")
    if (first := config.channel_multipliers[0]) != 1:
        raise ValueError(
            f"channel_multipliers begins with {first}; UNet2DModel has nothing but 1: it embeds the time at that width"
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
        "attn_norm_num_groups": config.groups,  # else, with scale_shift, the middle has no such norm
        "dropout": config.dropout,
        "resnet_time_scale_shift": "default" if config.time_conditioning == "add" else config.time_conditioning,
        "flip_sin_to_cos": False,  # the default is [cos, sin]
        "freq_shift": 0,
        "downsample_padding": 1,
        "num_class_embeds": None if config.classes is None else config.classes + 1,  # the last is the null label
    }


def unet_config(model: Any) -> UNetConfig:
    """The configuration of the `UNet` that computes what a `UNet2DModel` does: the inverse of `diffusers_config`.

    The last of a model's class embeddings is taken as that of the null label.

    Raises:
        ValueError: there is none; the message names the option in the way.
        TypeError: `model` is no `UNet2DModel`.
    """
    if not isinstance(model, diffusers_library().UNet2DModel):
        raise TypeError(f"model is a {type(model).__name__}; it must be a UNet2DModel")
    given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in model.config.items()}
    widths = given["block_out_channels"]
    base = widths[0]
    if base % 4 or any(width % base for width in widths):
        raise ValueError(f"block_out_channels is {widths}; a UNet's are multiples of the first, and that one of 4")
    if given["attention_head_dim"] is None:
        raise ValueError("attention_head_dim is None; a UNet's heads are equally wide on every level")
    if (labels := given["num_class_embeds"]) == 1:
        raise ValueError("num_class_embeds is 1; the last is the null label, so there must be one more for a class")
    config = UNetConfig(
        channels=given["in_channels"],
        base_channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        blocks_per_level=given["layers_per_block"],
        attention_levels=tuple(i for i, kind in enumerate(given["down_block_types"]) if kind.startswith("Attn")),
        middle_attention=given["add_attention"],
        head_channels=given["attention_head_dim"],
        dropout=given["dropout"],
        time_conditioning="scale_shift" if given["resnet_time_scale_shift"] == "scale_shift" else "add",
        classes=None if labels is None else labels - 1,
    )
    _check_options(given, _all_options(model, given, config), config)
    return config


def _all_options(model: Any, given: Mapping[str, Any], config: UNetConfig) -> dict[str, Any]:
    """Every option, by its default if need be, of a `UNet2DModel` that computes what a UNet of this configuration does.

    Two options are those given, since they change nothing that the network computes.
    """
    signature = inspect.signature(type(model).__init__).parameters
    defaults = {name: option.default for name, option in signature.items() if name != "self"}
    same = {name: given[name] for name in ("sample_size", "num_train_timesteps")}
    return defaults | diffusers_config(config, config.divisor) | same


def _check_options(given: Mapping[str, Any], wanted: Mapping[str, Any], config: UNetConfig) -> None:
    """Check that a model's options are the wanted ones, or mean the same.

    Raises:
        ValueError: one is not; the message names it.
    """
    synonyms = [("time_embedding_dim", 4 * config.base_channels), ("act_fn", "swish")]
    if config.time_conditioning == "add":
        synonyms.append(("attn_norm_num_groups", None))
    for name, value in wanted.items():
        if given[name] != value and (name, given[name]) not in synonyms:
            raise ValueError(
                f"{name} is {given[name]!r} in the UNet2DModel; a UNet with its other options has {value!r}"
            )


def unet_to_diffusers(network: UNet, image_size: int | tuple[int, int]) -> "UNet2DModel":
    """A `UNet2DModel` with this network's weights; it too is called with t - 1.

    Args:
        network: the UNet.
        image_size: height and width of the images, or the one number that is both.

    Raises:
        ValueError: diffusers has no such network, or the UNet takes no images of this size.
        TypeError: `network` is no `UNet`.
        ModuleNotFoundError: diffusers is not installed.
    """
    instance("network", network, UNet)
    with torch.device("cpu"):  # whatever torch's defaults are
        model: Any = diffusers_library().UNet2DModel(**diffusers_config(network.config, image_size)).float()
    model.load_state_dict({diffusers_name(name): value for name, value in network.state_dict().items()})
    converted: UNet2DModel = model.eval()
    return converted


def unet_from_diffusers(model: Any) -> UNet:
    """A `UNet` with the weights of a `UNet2DModel`.

    Raises:
        ValueError: no `UNet` computes what this model does; the message names the option in the way.
        TypeError: `model` is no `UNet2DModel`.
    """
    network = UNet(unet_config(model)).float()  # whatever torch's default is
    theirs = model.state_dict()
    network.load_state_dict({name: theirs[diffusers_name(name)] for name in network.state_dict()})
    return network.eval()


def diffusers_library() -> Any:
    """The library diffusers.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    with needed("diffusers"):
        import diffusers

    return diffusers
