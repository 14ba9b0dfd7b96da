"""The transformer of benchmarks/transformer.py computes what diffusers' does."""

import pytest
import torch
from diffusers import DiTTransformer2DModel

from tests.checkout import script
from tests.networks import stirred

LAYERS = {  # of a block: diffusers' names
    "attn1.to_q": "query",
    "attn1.to_k": "key",
    "attn1.to_v": "value",
    "attn1.to_out.0": "out",
    "ff.net.0.proj": "perceptron.0",
    "ff.net.2": "perceptron.2",
    "norm1.linear": "modulation",
}


@pytest.mark.parametrize(("channels", "side", "patch"), [(1, 16, 4), (3, 8, 2)])
def test_the_transformer_is_that_of_diffusers(channels, side, patch):
    """Untold of classes: the label's embedding is zero."""
    ours = stirred(script("benchmarks/transformer.py").Transformer(patch, 64, 2, channels, side)).eval()
    theirs = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=32, in_channels=channels, num_layers=2, sample_size=side,
        patch_size=patch, num_embeds_ada_norm=1, norm_eps=1e-6,
    ).eval()  # fmt: skip
    own = ours.state_dict()
    weights = {"proj_out_1": "modulation", "proj_out_2": "out"}
    for i, block in enumerate(theirs.transformer_blocks):
        weights |= {f"transformer_blocks.{i}.{name}": f"blocks.{i}.{layer}" for name, layer in LAYERS.items()}
        embedder = f"transformer_blocks.{i}.norm1.emb.timestep_embedder"
        weights |= {f"{embedder}.linear_1": "time.0", f"{embedder}.linear_2": "time.2"}
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # as in the paper's code, where diffusers has 1
        block.norm1.emb.time_proj.flip_sin_to_cos = False  # the order does not matter to the linear layer behind it
        torch.nn.init.zeros_(block.norm1.emb.class_embedder.embedding_table.weight)
    new = {f"{name}.{kind}": own[f"{layer}.{kind}"] for name, layer in weights.items() for kind in ("weight", "bias")}
    new["pos_embed.proj.bias"] = own["embed.bias"]
    new["pos_embed.proj.weight"] = own["embed.weight"].unflatten(1, (patch, patch, channels)).permute(0, 3, 1, 2)
    missing, unexpected = theirs.load_state_dict(new, strict=False)
    assert not unexpected
    assert all("class_embedder" in name or name == "pos_embed.pos_embed" for name in missing)
    x, t = torch.randn(3, channels, side, side), torch.tensor([0.0, 20.0, 999.0])
    with torch.no_grad():
        answer = ours(x, t)
        assert answer.std() > 0.01
        assert torch.allclose(theirs(x, t, torch.zeros(3, dtype=torch.int64)).sample, answer, atol=2e-5)
