"""A toy UPN's weights under the names that its authors' file has, with what is in that file and never runs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dpn_model.proposals.upn.shape import UpnShape

TOY = UpnShape(
    embed_dim=8,
    depths=(1, 2, 1, 1),
    heads=(1, 2, 2, 4),
    window=3,
    width=32,
    ffn=24,
    encoder_layers=2,
    decoder_layers=3,
    points=2,
    queries=20,
)
HEADS = 8
SWIN, TRANSFORMER = "backbone.model.backbone", "transformer"


def toy_weights(shape: UpnShape = TOY, seed: int = 0) -> dict[str, Tensor]:
    """Random ones."""
    return _Weights(shape, seed).all()


class _Weights:
    def __init__(self, shape: UpnShape, seed: int) -> None:
        self.shape = shape
        self.draw = torch.Generator().manual_seed(seed)
        self.found: dict[str, Tensor] = {}

    def all(self) -> dict[str, Tensor]:
        width, shape = self.shape.width, self.shape
        self.add(f"{SWIN}.patch_embed.proj.weight", shape.embed_dim, 3, 4, 4)
        self.add(f"{SWIN}.patch_embed.proj.bias", shape.embed_dim)
        self.norm(f"{SWIN}.patch_embed.norm", shape.embed_dim)
        for stage in range(len(shape.depths)):
            self.stage(stage)
        for level in range(shape.levels):
            self.level(level)
        self.add(f"{TRANSFORMER}.level_embed", shape.levels, width)
        self.add(f"{TRANSFORMER}.tgt_embed.weight", shape.queries, width)
        self.linear(f"{TRANSFORMER}.enc_output", width, width)
        self.norm(f"{TRANSFORMER}.enc_output_norm", width)
        self.mlp(f"{TRANSFORMER}.enc_out_bbox_embed", width, width, width, 4)
        for granularity in ("fine", "coarse"):
            self.add(f"{TRANSFORMER}.{granularity}_grained_prompt.weight", 1, width)
        for layer in range(shape.encoder_layers):
            self.layer(f"{TRANSFORMER}.encoder.layers.{layer}", "self_attn", norms=2)
        for layer in range(shape.decoder_layers):
            name = f"{TRANSFORMER}.decoder.layers.{layer}"
            self.layer(name, "cross_attn", norms=3)
            self.add(f"{name}.self_attn.in_proj_weight", 3 * width, width)
            self.add(f"{name}.self_attn.in_proj_bias", 3 * width)
            self.linear(f"{name}.self_attn.out_proj", width, width)
        self.norm(f"{TRANSFORMER}.decoder.norm", width)
        self.mlp(f"{TRANSFORMER}.decoder.ref_point_head", 2 * width, width, width)
        self.mlp(f"{TRANSFORMER}.decoder.ref_point_head_point", width, width, width)
        self.box_heads()
        self.add("label_enc.weight", 2, width)
        return self.found

    def stage(self, stage: int) -> None:
        channels = self.shape.embed_dim * 2**stage
        for block in range(self.shape.depths[stage]):
            name = f"{SWIN}.layers.{stage}.blocks.{block}"
            self.norm(f"{name}.norm1", channels)
            self.linear(f"{name}.attn.qkv", channels, 3 * channels)
            self.linear(f"{name}.attn.proj", channels, channels)
            self.add(
                f"{name}.attn.relative_position_bias_table", (2 * self.shape.window - 1) ** 2, self.shape.heads[stage]
            )
            self.found[f"{name}.attn.relative_position_index"] = torch.zeros(self.shape.window**2, self.shape.window**2)
            self.norm(f"{name}.norm2", channels)
            self.linear(f"{name}.mlp.fc1", channels, 4 * channels)
            self.linear(f"{name}.mlp.fc2", 4 * channels, channels)
        if stage + 1 < len(self.shape.depths):
            self.add(f"{SWIN}.layers.{stage}.downsample.reduction.weight", 2 * channels, 4 * channels)
            self.norm(f"{SWIN}.layers.{stage}.downsample.norm", 4 * channels)
        self.norm(f"{SWIN}.norm{stage}", channels)

    def level(self, level: int) -> None:
        """1x1 for each of the backbone's maps, 3x3 behind them: on its last map, then on one another."""
        stages, width = len(self.shape.depths), self.shape.width
        channels = self.shape.embed_dim * 2 ** min(level, stages - 1) if level <= stages else width
        side = 1 if level < stages else 3
        self.add(f"input_proj.{level}.0.weight", width, channels, side, side)
        self.add(f"input_proj.{level}.0.bias", width)
        self.norm(f"input_proj.{level}.1", width)

    def layer(self, name: str, attention: str, norms: int) -> None:
        width, cells = self.shape.width, HEADS * self.shape.levels * self.shape.points
        self.linear(f"{name}.{attention}.sampling_offsets", width, 2 * cells)
        self.found[f"{name}.{attention}.sampling_offsets.bias"] *= 10
        for part, size in (("attention_weights", cells), ("value_proj", width), ("output_proj", width)):
            self.linear(f"{name}.{attention}.{part}", width, size)
        self.linear(f"{name}.linear1", width, self.shape.ffn)
        self.linear(f"{name}.linear2", self.shape.ffn, width)
        for number in range(1, norms + 1):
            self.norm(f"{name}.norm{number}", width)

    def box_heads(self) -> None:
        """One set of tensors under the names of every layer, twice."""
        self.mlp("bbox_embed.0", self.shape.width, self.shape.width, self.shape.width, 4)
        for name in [name for name in self.found if name.startswith("bbox_embed.0.")]:
            for layer in range(self.shape.decoder_layers):
                copy = name.replace(".0.", f".{layer}.", 1)
                self.found[copy] = self.found[f"{TRANSFORMER}.decoder.{copy}"] = self.found[name]

    def add(self, name: str, *sizes: int) -> None:
        scale = 0.5 / math.sqrt(sizes[-1]) if len(sizes) > 1 else 0.2
        self.found[name] = torch.randn(*sizes, generator=self.draw) * scale

    def linear(self, name: str, width_in: int, width_out: int) -> None:
        self.add(f"{name}.weight", width_out, width_in)
        self.add(f"{name}.bias", width_out)

    def norm(self, name: str, width: int) -> None:
        self.add(f"{name}.weight", width)
        self.found[f"{name}.weight"] += 1
        self.add(f"{name}.bias", width)

    def mlp(self, name: str, *widths: int) -> None:
        for number, (width_in, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            self.linear(f"{name}.layers.{number}", width_in, width_out)
