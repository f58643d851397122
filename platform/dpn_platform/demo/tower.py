"""Teaching the tiny base's vision tower to see, before the language model learns to talk about it.

LLaVA's tower comes trained; one drawn from noise has to learn shapes and digits through the answers alone, which a
model of this size does not within an hour. Told for every patch what stands in its cell, it does within a minute.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dpn_model import DpnForConditionalGeneration
from dpn_model.processing.images import normalise
from dpn_platform.demo.drawing import COLOURS, DIGITS, SHAPES, SIDE, Item, draw_items
from dpn_platform.storage import ensure_bucket, exists, join_uri, upload_folder
from dpn_platform.training.base import build_tiny

CONTENTS = (None, *SHAPES, *DIGITS)
TINTS = (None, *COLOURS)
STEPS, BATCH, LR, SEED = 1500, 32, 2e-3, 7


def ensure_tower_base(uri: str, note: Callable[[str], None]) -> None:
    """Publish a tiny base with a trained tower, its decoder still noise, at `uri` unless one is there."""
    if exists(join_uri(uri, "model.safetensors")):
        return
    torch.manual_seed(SEED)
    model, processor = build_tiny()
    right = train_tower(model)
    note(f"tower: {right:.1%} of the patches tell what stands in their cell")
    ensure_bucket(uri)
    with tempfile.TemporaryDirectory(prefix="dpn-tower-") as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        upload_folder(folder, uri)


def train_tower(model: DpnForConditionalGeneration, steps: int = STEPS) -> float:
    """Train `model`'s vision tower in place, with a linear read-out that is thrown away.

    Returns:
        Share of patches of occupied cells whose content and colour are both told right, on scenes not trained on.
    """
    tower = model.model.vision_tower.train()
    readout = nn.Linear(tower.config.hidden_size, len(CONTENTS) + len(TINTS))
    parameters = [*tower.parameters(), *readout.parameters()]
    optimiser = torch.optim.AdamW(parameters, LR, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        images, labels = draw_scenes(np.random.default_rng((SEED, step)), BATCH, model.image_grid[0])
        content, tint = _read(tower, readout, images)
        loss = cross_entropy(content, labels[..., 0].flatten()) + cross_entropy(tint, labels[..., 1].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    tower.eval()
    with torch.no_grad():
        images, labels = draw_scenes(np.random.default_rng((SEED, steps)), 8 * BATCH, model.image_grid[0])
        told = torch.stack([part.argmax(dim=-1) for part in _read(tower, readout, images)], dim=-1)
    labels = labels.flatten(0, 1)
    return float((told == labels).all(dim=-1)[labels[:, 0] > 0].float().mean())


def draw_scenes(rng: np.random.Generator, count: int, grid: int) -> tuple[Tensor, Tensor]:
    """Random scenes: uint8[count, 3, H, W], and int64[count, grid * grid, 2] with each patch's content and colour."""
    images, labels = [], np.zeros((count, SIDE, SIDE, 2), dtype=np.int64)
    for number in range(count):
        items = _scene(rng)
        images.append(np.asarray(draw_items(items, rng, 96)))
        for item in items:
            place = (number, *divmod(item.cell, SIDE))
            labels[place] = (CONTENTS.index(item.content), TINTS.index(item.colour))
    of_patches = labels.repeat(grid // SIDE, axis=1).repeat(grid // SIDE, axis=2).reshape(count, -1, 2)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(of_patches)


def _scene(rng: np.random.Generator) -> tuple[Item, ...]:
    """Four to twelve things, more digits than shapes: they are what is hard to tell."""
    cells = rng.permutation(SIDE * SIDE)[: int(rng.integers(4, 13))]
    kinds = [SHAPES if rng.random() < 0.4 else tuple(DIGITS) for _ in cells]
    return tuple(
        Item(int(cell), kind[int(rng.integers(len(kind)))], COLOURS[int(rng.integers(len(COLOURS)))])
        for cell, kind in zip(cells, kinds, strict=True)
    )


def _read(tower: nn.Module, readout: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of content and of colour, one row per patch."""
    hidden = tower(normalise(images)).last_hidden_state[:, 1:]
    content, tint = readout(hidden).flatten(0, 1).split((len(CONTENTS), len(TINTS)), dim=-1)
    return content, tint
