"""How large a UPN is, and how the files of its authors say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

from torch import Tensor

#: heads of deformable attention and of self-attention; no tensor's shape says it
HEADS = 8


@dataclass(frozen=True)
class UpnShape:
    """Sizes of a UPN; the defaults are the published one (Swin-L at 384 pixels in front).

    Attributes:
        embed_dim, depths, heads, window: of the Swin backbone; all its stages are looked at.
        width: of encoder and decoder.
        ffn: of their feed-forward layers.
        encoder_layers, decoder_layers: how many.
        levels: of features, the backbone's and those made by strides behind its last.
        points: that deformable attention samples on every level.
        queries: boxes before any is left out.
    """

    embed_dim: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (6, 12, 24, 48)
    window: int = 12
    width: int = 256
    ffn: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    levels: int = 5
    points: int = 4
    queries: int = 900


def shape_of(tensors: Mapping[str, Tensor]) -> UpnShape:
    """The sizes that the authors' names and shapes show.

    Raises:
        ValueError: a tensor that tells a size is missing: this is no UPN.
    """
    swin, encoder, decoder = "backbone.model.backbone", "transformer.encoder", "transformer.decoder"
    try:
        stages = _count(tensors, f"{swin}.layers")
        bias = [f"{swin}.layers.{stage}.blocks.0.attn.relative_position_bias_table" for stage in range(stages)]
        levels = _count(tensors, "input_proj")
        return UpnShape(
            embed_dim=tensors[f"{swin}.patch_embed.proj.weight"].shape[0],
            depths=tuple(_count(tensors, f"{swin}.layers.{stage}.blocks") for stage in range(stages)),
            heads=tuple(tensors[name].shape[1] for name in bias),
            window=(isqrt(tensors[bias[0]].shape[0]) + 1) // 2,
            width=tensors["transformer.level_embed"].shape[1],
            ffn=tensors[f"{encoder}.layers.0.linear1.weight"].shape[0],
            encoder_layers=_count(tensors, f"{encoder}.layers"),
            decoder_layers=_count(tensors, f"{decoder}.layers"),
            levels=levels,
            points=tensors[f"{encoder}.layers.0.self_attn.attention_weights.bias"].shape[0] // (HEADS * levels),
            queries=tensors["transformer.tgt_embed.weight"].shape[0],
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"these are no weights of a UPN: {str(error).strip(chr(39))} is missing") from None


def _count(tensors: Mapping[str, Tensor], beginning: str) -> int:
    """How many numbered parts lie below a name."""
    start = len(beginning) + 1
    return len({name[start:].split(".", 1)[0] for name in tensors if name.startswith(f"{beginning}.")})
