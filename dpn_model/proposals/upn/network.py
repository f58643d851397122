"""UPN's network: a Swin, a deformable encoder over five levels, and a decoder that moves 900 boxes (spec chatrex 2).

Backbone, deformable attention and layers are transformers' own; here is how UPN joins them. Pictures of a batch have
one size, so there is no padding to be masked. Shape letters as in `queries`; L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import DeformableDetrConfig, SwinBackbone, SwinConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoderLayer,
    DeformableDetrEncoder,
)

from dpn_model.proposals.upn.queries import anchors, best_rows, logits_of, picture_embedding, query_embedding
from dpn_model.proposals.upn.shape import HEADS, UpnShape

#: what counts as a box: "fine" any part of the picture that stands for itself, "coarse" whole things
Granularity = Literal["fine", "coarse"]
GRANULARITIES: tuple[Granularity, ...] = ("fine", "coarse")
_GROUPS = 32


@dataclass(frozen=True)
class Seen:
    """Pictures behind the encoder; what does not depend on the granularity.

    Attributes:
        rows_BSD: the encoder's rows, level after level.
        shapes: (H, W) of every level.
    """

    rows_BSD: Tensor
    shapes: tuple[tuple[int, int], ...]

    def levels(self) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """For deformable attention: int64[L, 2] shapes, int64[L] where each begins, and the shapes as a list."""
        shapes = torch.tensor(self.shapes, device=self.rows_BSD.device)
        sizes = shapes.prod(1)
        return shapes, sizes.cumsum(0) - sizes, list(self.shapes)


class Mlp(nn.Module):
    """Linear layers with ReLUs between."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.ModuleList(nn.Linear(width_in, width_out) for width_in, width_out in pairs)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., last width] of [..., first width]."""
        for layer in self.layers[:-1]:
            rows = layer(rows).relu()
        return self.layers[-1](rows)


class UpnNetwork(nn.Module):
    """The network.

    Args:
        shape: its sizes; the published ones by default.
    """

    def __init__(self, shape: UpnShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or UpnShape()
        swin = SwinConfig(
            embed_dim=shape.embed_dim,
            depths=list(shape.depths),
            num_heads=list(shape.heads),
            window_size=shape.window,
            out_features=[f"stage{stage}" for stage in range(1, len(shape.depths) + 1)],
        )
        config = _deformable(shape, swin)
        self.backbone = SwinBackbone(swin)
        self.backbone.swin.layernorm = nn.Identity()  # of a classifier; features have norms of their own
        self.input_proj = _projections(shape)
        self.level_embed = nn.Parameter(torch.zeros(shape.levels, shape.width))
        self.encoder = DeformableDetrEncoder(config)
        self.enc_output = nn.Linear(shape.width, shape.width)
        self.enc_output_norm = nn.LayerNorm(shape.width)
        self.enc_bbox_embed = Mlp(shape.width, shape.width, shape.width, 4)
        self.prompts = nn.ParameterDict({name: nn.Parameter(torch.zeros(1, shape.width)) for name in GRANULARITIES})
        self.queries = nn.Parameter(torch.zeros(shape.queries, shape.width))
        self.ref_point_head = Mlp(2 * shape.width, shape.width, shape.width)
        self.layers = nn.ModuleList(DeformableDetrDecoderLayer(config) for _ in range(shape.decoder_layers))
        self.norm = nn.LayerNorm(shape.width)
        self.bbox_embed = Mlp(shape.width, shape.width, shape.width, 4)

    def forward(self, pixels: Tensor, granularity: Granularity = "fine") -> tuple[Tensor, Tensor]:
        """See `see` and `detect`."""
        return self.detect(self.see(pixels), granularity)

    def see(self, pixels: Tensor) -> Seen:
        """Backbone and encoder: the dear part, which both granularities share.

        Args:
            pixels: float32[B, 3, height, width], normalised.
        """
        levels = self._features(pixels)
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        width = self.shape.width
        where = [
            picture_embedding(*shape, width).to(pixels.device) + embed
            for shape, embed in zip(shapes, self.level_embed, strict=True)
        ]
        seen = Seen(torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1), shapes)
        spatial_shapes, starts, shape_list = seen.levels()
        rows = self.encoder(
            inputs_embeds=seen.rows_BSD,
            attention_mask=None,
            spatial_position_embeddings=torch.cat(where)[None].expand_as(seen.rows_BSD),
            spatial_shapes=spatial_shapes,
            spatial_shapes_list=shape_list,
            level_start_index=starts,
            valid_ratios=pixels.new_ones(len(pixels), len(shapes), 2),
        ).last_hidden_state
        return Seen(rows, shapes)

    def detect(self, seen: Seen, granularity: Granularity = "fine") -> tuple[Tensor, Tensor]:
        """Query selection and decoder.

        The prompt is asked twice: which rows of the encoder queries begin at, and how sure a query is in the end.

        Returns:
            float32[B, Q] logits, and float32[B, Q, 4] boxes (cx, cy, w, h) as shares of the picture.
        """
        prompt = self.prompts[granularity][0]
        boxes_BQ4 = self._first_boxes(seen, prompt)
        rows = self.queries[: boxes_BQ4.shape[1]].expand(len(boxes_BQ4), -1, -1)
        spatial_shapes, starts, shape_list = seen.levels()
        for number, layer in enumerate(self.layers):
            if number:
                boxes_BQ4 = self._moved(boxes_BQ4, rows)
            rows = layer(
                rows,
                object_queries_position_embeddings=self.ref_point_head(query_embedding(boxes_BQ4, self.shape.width)),
                reference_points=boxes_BQ4[:, :, None].expand(-1, -1, len(seen.shapes), -1),
                spatial_shapes=spatial_shapes,
                spatial_shapes_list=shape_list,
                level_start_index=starts,
                encoder_hidden_states=seen.rows_BSD,
            )
        # Score and box are read from the last layer's normed rows; what moved boxes between layers was not normed.
        rows = self.norm(rows)
        return rows @ prompt, self._moved(boxes_BQ4, rows)

    def _moved(self, boxes_BQ4: Tensor, rows: Tensor) -> Tensor:
        """The boxes after a layer; one head serves all layers."""
        return (self.bbox_embed(rows) + logits_of(boxes_BQ4)).sigmoid()

    def _features(self, pixels: Tensor) -> list[Tensor]:
        """[B, D, H, W] of every level; the levels behind the backbone's halve its last map, then one another."""
        maps: Sequence[Tensor] = self.backbone(pixels).feature_maps
        levels = [project(one) for project, one in zip(self.input_proj, maps, strict=False)]
        last = maps[-1]
        for project in self.input_proj[len(maps) :]:
            last = project(last)
            levels.append(last)
        return levels

    def _first_boxes(self, seen: Seen, prompt: Tensor) -> Tensor:
        """float32[B, Q, 4]: the boxes of the rows that the prompt likes best."""
        boxes_S4, is_inside_S = (part.to(seen.rows_BSD.device) for part in anchors(seen.shapes))
        rows_BSD = self.enc_output_norm(self.enc_output(seen.rows_BSD * is_inside_S[:, None]))
        chosen_BQ = best_rows(rows_BSD @ prompt, self.shape.queries)
        places = chosen_BQ[..., None].expand(-1, -1, 4)
        return (self.enc_bbox_embed(rows_BSD) + boxes_S4).gather(1, places).sigmoid()


def _deformable(shape: UpnShape, swin: SwinConfig) -> DeformableDetrConfig:
    """What transformers' layers ask of a configuration; the backbone in it is not built."""
    return DeformableDetrConfig(
        backbone_config=swin,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        encoder_ffn_dim=shape.ffn,
        encoder_attention_heads=HEADS,
        encoder_n_points=shape.points,
        decoder_layers=shape.decoder_layers,
        decoder_ffn_dim=shape.ffn,
        decoder_attention_heads=HEADS,
        decoder_n_points=shape.points,
        num_feature_levels=shape.levels,
        activation_function="relu",
        dropout=0.0,
        attn_implementation="sdpa",
    )


def _projections(shape: UpnShape) -> nn.ModuleList:
    """To the encoder's width: 1x1 for each of the backbone's maps, then 3x3 with stride 2."""
    channels = [shape.embed_dim * 2**stage for stage in range(len(shape.depths))]
    convolutions = [nn.Conv2d(count, shape.width, 1) for count in channels]
    last = channels[-1]
    while len(convolutions) < shape.levels:
        convolutions.append(nn.Conv2d(last, shape.width, 3, stride=2, padding=1))
        last = shape.width
    return nn.ModuleList(nn.Sequential(one, nn.GroupNorm(_GROUPS, shape.width)) for one in convolutions)
