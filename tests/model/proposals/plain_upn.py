"""UPN once more, written plainly over the authors' names of its weights: what the network must equal.

One picture at a time, everything in float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, group_norm, pad

from dpn_model.proposals.upn.shape import UpnShape
from tests.model.proposals.toy_upn import HEADS, SWIN, TOY


class PlainUpn:
    """A UPN of a file's tensors; call it with a picture float[3, H, W] and a prompt's name."""

    def __init__(self, tensors: dict[str, Tensor], shape: UpnShape = TOY) -> None:
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.shape = shape

    def __call__(self, picture: Tensor, granularity: str) -> tuple[Tensor, Tensor]:
        """float64[Q] logits and float64[Q, 4] boxes (cx, cy, w, h), in the order of selection."""
        rows, sizes = self.encode(picture.double())
        prompt = self.tensors[f"transformer.{granularity}_grained_prompt.weight"][0]
        boxes = self.select(rows, sizes, prompt)
        queries = self.tensors["transformer.tgt_embed.weight"][: len(boxes)]
        for layer in range(self.shape.decoder_layers):
            name, before = f"transformer.decoder.layers.{layer}", boxes
            place = torch.stack([self.place_of_box(box) for box in before])
            where = self.mlp("transformer.decoder.ref_point_head", place)
            queries = self.norm(f"{name}.norm2", queries + self.self_attention(f"{name}.self_attn", queries, where))
            seen = self.deformable(f"{name}.cross_attn", queries + where, before, rows, sizes)
            queries = self.norm(f"{name}.norm1", queries + seen)
            queries = self.norm(f"{name}.norm3", queries + self.ffn(name, queries))
            boxes = self.moved(before, queries)
        queries = self.norm("transformer.decoder.norm", queries)
        return queries @ prompt, self.moved(before, queries)

    def moved(self, boxes: Tensor, queries: Tensor) -> Tensor:
        steps = self.mlp("bbox_embed.0", queries)
        return torch.tensor(
            [
                [
                    1 / (1 + math.exp(-(step + math.log(max(value, 1e-3) / max(1 - value, 1e-3)))))
                    for step, value in pair
                ]
                for pair in (
                    zip(one, box, strict=True) for one, box in zip(steps.tolist(), boxes.tolist(), strict=True)
                )
            ],
            dtype=torch.float64,
        )

    def select(self, rows: Tensor, sizes: list[tuple[int, int]], prompt: Tensor) -> Tensor:
        """The boxes of the best rows: anchors of .05, .1, .2 ... around every cell, moved by the encoder's box head."""
        anchors: list[list[float] | None] = []
        for level, (height, width) in enumerate(sizes):
            for y in range(height):
                for x in range(width):
                    anchor = [(x + 0.5) / width, (y + 0.5) / height, 0.05 * 2**level, 0.05 * 2**level]
                    anchors.append(anchor if all(0.01 < value < 0.99 for value in anchor) else None)
        kept = torch.tensor([[float(anchor is not None)] for anchor in anchors], dtype=torch.float64)
        rows = self.norm("transformer.enc_output_norm", self.linear("transformer.enc_output", rows * kept))
        steps = self.mlp("transformer.enc_out_bbox_embed", rows)
        scores = (rows @ prompt).tolist()
        best = sorted(range(len(scores)), key=lambda place: -scores[place])[: self.shape.queries]
        boxes = []
        for place in best:
            anchor = anchors[place]
            moves = zip(steps[place].tolist(), anchor or [], strict=anchor is not None)
            moved = [1 / (1 + math.exp(-(step + math.log(value / (1 - value))))) for step, value in moves]
            boxes.append(moved or [1.0] * 4)
        return torch.tensor(boxes, dtype=torch.float64)

    def encode(self, picture: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        maps = self.swin(picture)
        levels = []
        for level in range(self.shape.levels):
            weight, bias = (self.tensors[f"input_proj.{level}.0.{part}"] for part in ("weight", "bias"))
            source = maps[level] if level < len(maps) else (maps[-1] if level == len(maps) else levels[-1])
            strides = {"stride": 2, "padding": 1} if level >= len(maps) else {}
            made = conv2d(source[None], weight, bias, **strides)
            scale, shift = (self.tensors[f"input_proj.{level}.1.{part}"] for part in ("weight", "bias"))
            levels.append(group_norm(made, 32, scale, shift)[0])
        sizes = [(level.shape[1], level.shape[2]) for level in levels]
        rows = torch.cat([level.flatten(1).T for level in levels])
        where = torch.cat(
            [self.places(*size) + self.tensors["transformer.level_embed"][n] for n, size in enumerate(sizes)]
        )
        centres = torch.tensor(
            [
                [(x + 0.5) / width, (y + 0.5) / height]
                for height, width in sizes
                for y in range(height)
                for x in range(width)
            ],
            dtype=torch.float64,
        )
        for layer in range(self.shape.encoder_layers):
            name = f"transformer.encoder.layers.{layer}"
            rows = self.norm(
                f"{name}.norm1", rows + self.deformable(f"{name}.self_attn", rows + where, centres, rows, sizes)
            )
            rows = self.norm(f"{name}.norm2", rows + self.ffn(name, rows))
        return rows, sizes

    def places(self, height: int, width: int) -> Tensor:
        half = self.shape.width // 2
        rows = [sines((y + 1) / (height + 1e-6), half, 20) for y in range(height)]
        columns = [sines((x + 1) / (width + 1e-6), half, 20) for x in range(width)]
        return torch.tensor([row + column for row in rows for column in columns], dtype=torch.float64)

    def place_of_box(self, box: Tensor) -> Tensor:
        x, y, w, h = box.tolist()
        half = self.shape.width // 2
        return torch.tensor([value for one in (y, x, w, h) for value in sines(one, half, 10000)], dtype=torch.float64)

    def deformable(
        self, name: str, queries: Tensor, reference: Tensor, rows: Tensor, sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Every query looks at `points` places of every level; for boxes offsets are shares of half their sides."""
        points, levels = self.shape.points, self.shape.levels
        values = self.linear(f"{name}.value_proj", rows).view(len(rows), HEADS, -1)
        offsets = self.linear(f"{name}.sampling_offsets", queries).view(-1, HEADS, levels, points, 2)
        weights = self.linear(f"{name}.attention_weights", queries).view(-1, HEADS, levels * points).softmax(-1)
        result = torch.zeros(len(queries), HEADS, values.shape[2], dtype=torch.float64)
        for level, (height, width) in enumerate(sizes):
            first = sum(h * w for h, w in sizes[:level])
            for head in range(HEADS):
                cells = values[first : first + height * width, head].view(height, width, -1)
                for point in range(points):
                    offset = offsets[:, head, level, point]
                    if reference.shape[1] == 2:
                        at = reference + offset / torch.tensor([width, height])
                    else:
                        at = reference[:, :2] + offset / points * reference[:, 2:] / 2
                    share = weights[:, head, level * points + point, None]
                    result[:, head] += share * bilinear(cells, at[:, 0] * width - 0.5, at[:, 1] * height - 0.5)
        return self.linear(f"{name}.output_proj", result.flatten(1))

    def self_attention(self, name: str, queries: Tensor, where: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.in_proj_weight"], self.tensors[f"{name}.in_proj_bias"]
        inputs = (queries + where, queries + where, queries)
        parts = zip(inputs, weight.chunk(3), bias.chunk(3), strict=True)
        return self.linear(f"{name}.out_proj", attend(*(one @ matrix.T + shift for one, matrix, shift in parts), HEADS))

    def ffn(self, name: str, rows: Tensor) -> Tensor:
        return self.linear(f"{name}.linear2", self.linear(f"{name}.linear1", rows).clamp(min=0))

    def swin(self, picture: Tensor) -> list[Tensor]:
        picture = pad(picture, (0, -picture.shape[2] % 4, 0, -picture.shape[1] % 4))
        weight, bias = (self.tensors[f"{SWIN}.patch_embed.proj.{part}"] for part in ("weight", "bias"))
        cells = self.norm(f"{SWIN}.patch_embed.norm", conv2d(picture[None], weight, bias, stride=4)[0].permute(1, 2, 0))
        maps = []
        for stage, depth in enumerate(self.shape.depths):
            for block in range(depth):
                cells = self.block(
                    f"{SWIN}.layers.{stage}.blocks.{block}", cells, stage, (block % 2) * (self.shape.window // 2)
                )
            maps.append(self.norm(f"{SWIN}.norm{stage}", cells).permute(2, 0, 1))
            if stage + 1 < len(self.shape.depths):
                even = pad(cells, (0, 0, 0, cells.shape[1] % 2, 0, cells.shape[0] % 2))
                four = torch.cat([even[y::2, x::2] for x in (0, 1) for y in (0, 1)], dim=-1)
                name = f"{SWIN}.layers.{stage}.downsample"
                cells = self.norm(f"{name}.norm", four) @ self.tensors[f"{name}.reduction.weight"].T
        return maps

    def block(self, name: str, cells: Tensor, stage: int, shift: int) -> Tensor:
        side, (height, width, channels) = self.shape.window, cells.shape
        padded = pad(self.norm(f"{name}.norm1", cells), (0, 0, 0, -width % side, 0, -height % side))
        rolled = padded.roll((-shift, -shift), (0, 1))
        result = torch.zeros_like(rolled)
        for top in range(0, rolled.shape[0], side):
            for left in range(0, rolled.shape[1], side):
                window = rolled[top : top + side, left : left + side].reshape(-1, channels)
                places = [(top + y, left + x) for y in range(side) for x in range(side)]
                bias = self.window_bias(name, places, rolled.shape, side, shift)
                looked = attend(*self.linear(f"{name}.attn.qkv", window).chunk(3, dim=1), self.shape.heads[stage], bias)
                result[top : top + side, left : left + side] = self.linear(f"{name}.attn.proj", looked).view(
                    side, side, -1
                )
        cells = cells + result.roll((shift, shift), (0, 1))[:height, :width]
        inner = gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", cells)))
        return cells + self.linear(f"{name}.mlp.fc2", inner)

    def window_bias(self, name: str, places: list[tuple[int, int]], shape: Any, side: int, shift: int) -> Tensor:
        """float64[heads, n, n]; cells that were not neighbours before the roll do not see each other."""
        table = self.tensors[f"{name}.attn.relative_position_bias_table"]

        def region(place: tuple[int, int]) -> list[int]:
            return [
                0 if not shift or at < size - side else 1 if at < size - shift else 2
                for at, size in zip(place, shape[:2], strict=True)
            ]

        def of_pair(one: tuple[int, int], other: tuple[int, int]) -> Tensor:
            row = (one[0] - other[0] + side - 1) * (2 * side - 1) + one[1] - other[1] + side - 1
            return table[row] - (0 if region(one) == region(other) else 100)

        return torch.stack([torch.stack([of_pair(one, other) for other in places]) for one in places]).permute(2, 0, 1)

    def linear(self, name: str, rows: Tensor) -> Tensor:
        return rows @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, rows: Tensor) -> Tensor:
        spread = ((rows - rows.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
        scaled = (rows - rows.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt()
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def mlp(self, name: str, rows: Tensor) -> Tensor:
        count = len([one for one in self.tensors if one.startswith(f"{name}.layers.") and one.endswith("weight")])
        for layer in range(count):
            rows = self.linear(f"{name}.layers.{layer}", rows if layer == 0 else rows.clamp(min=0))
        return rows


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Attention of all rows to all rows, head by head."""
    width = query.shape[1] // heads
    parts = []
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        scores = query[:, mine] @ key[:, mine].T / math.sqrt(width)
        parts.append((scores if bias is None else scores + bias[head]).softmax(1) @ value[:, mine])
    return torch.cat(parts, dim=1)


def bilinear(cells: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Between the four cells around (x, y); what lies outside is zero."""
    left, top = x.floor().long(), y.floor().long()
    result = torch.zeros(len(x), cells.shape[2], dtype=cells.dtype)
    for down in (0, 1):
        for right in (0, 1):
            row, column = top + down, left + right
            inside = (row >= 0) & (row < cells.shape[0]) & (column >= 0) & (column < cells.shape[1])
            share = (1 - (y - row).abs()) * (1 - (x - column).abs()) * inside
            result += share[:, None] * cells[row.clamp(0, cells.shape[0] - 1), column.clamp(0, cells.shape[1] - 1)]
    return result


def sines(share: float, dim: int, temperature: float) -> list[float]:
    """Sine at even places and cosine at odd ones, two places to a frequency."""
    angles = [2 * math.pi * share / temperature ** (2 * (i // 2) / dim) for i in range(dim)]
    return [math.cos(angle) if i % 2 else math.sin(angle) for i, angle in enumerate(angles)]
