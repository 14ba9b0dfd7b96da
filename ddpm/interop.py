"""The UNet's weights to and from diffusers' `UNet2DModel`, name by name."""

import re
from typing import TYPE_CHECKING, Any

from torch import Tensor

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


def diffusers_config(config: UNetConfig, image_size: int) -> dict[str, Any]:
    """The arguments of the `UNet2DModel` that computes the same function."""
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
        "attention_head_dim": config.head_channels,
        "norm_num_groups": config.groups,
        "dropout": config.dropout,
        "flip_sin_to_cos": False,  # its default is [cos, sin]
        "freq_shift": 0,
        "downsample_padding": 1,
    }


def unet_to_diffusers(network: UNet, image_size: int) -> "UNet2DModel":
    """A `UNet2DModel` with this network's weights; it too is called with t - 1."""
    from diffusers import UNet2DModel

    model: Any = UNet2DModel(**diffusers_config(network.config, image_size))
    model.load_state_dict({diffusers_name(name): value for name, value in network.state_dict().items()})
    return model.eval()


def unet_from_diffusers(state: dict[str, Tensor], config: UNetConfig) -> UNet:
    """A `UNet` with the weights of a `UNet2DModel` of the matching configuration.

    Raises:
        ValueError: a weight is missing, left over or of another shape; the message names it.
    """
    network = UNet(config)
    names = {diffusers_name(name): name for name in network.state_dict()}
    if odd := sorted(names.keys() ^ state.keys()):
        raise ValueError(f"state and config do not fit: {odd[0]} is in one and not in the other")
    try:
        network.load_state_dict({names[name]: value for name, value in state.items()})
    except RuntimeError as error:
        raise ValueError(f"state and config do not fit: {str(error).splitlines()[-1].strip()}") from error
    return network.eval()
