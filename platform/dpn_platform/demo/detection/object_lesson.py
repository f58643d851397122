"""Teaching the towers of the tiny ChatRex to see, before its language model learns to answer (as `demo.tower`).

Told for every proposed box what it is on, and for every cell of the picture what stands there, both towers and both
projectors learn within a few hundred steps. The read-out is the language model's own embedding of the words, so what
is projected already points where the words do: a box on a red circle lies near "red" and near "circle".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from dpn_model import DpnForConditionalGeneration
from dpn_model.objects.boxes import on_square
from dpn_model.processing.images import normalise, prepare_image
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_platform.demo.detection.questions import NOTHING
from dpn_platform.demo.detection.scenes import COLOURS, SHAPES, Proposals, Scene, draw_scene, paint, propose
from dpn_platform.demo.drawing import DIGITS
from dpn_platform.demo.recipe import DETECTION_SIDE

STEPS, BATCH, LR, SEED = 400, 32, 2e-3, 11
#: what a box or a cell can be told as: a colour, and a shape or a digit; the last of each where there is neither
TINTS = (*COLOURS, NOTHING)
CONTENTS = (*SHAPES, *DIGITS, NOTHING)
_NO_TINT, _NO_CONTENT = len(TINTS) - 1, len(CONTENTS) - 1
#: sharpens the products of embeddings, which are about one long
_SHARPNESS = 10.0


@dataclass(frozen=True)
class Drawn:
    """A scene, its picture, and what was proposed on it."""

    scene: Scene
    picture: Image.Image
    proposals: Proposals


@dataclass(frozen=True)
class Projected:
    """What towers and projectors make of some pictures.

    Attributes:
        cells_IVD: float[I, V, D], visual tokens.
        boxes_ND: float[N, D], of all proposals, picture after picture.
    """

    cells_IVD: Tensor
    boxes_ND: Tensor


def draw(seed: Sequence[int]) -> Drawn:
    """A scene of the set's kind; a pure function of the seed."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    picture = paint(scene, rng)
    return Drawn(scene, picture, propose(scene, rng))


def project(model: DpnForConditionalGeneration, processor: ObjectProcessor, drawn: Sequence[Drawn]) -> Projected:
    """Runs towers and projectors, as the model's own forward pass does."""
    base, size = model.model, (DETECTION_SIDE, DETECTION_SIDE)
    pixels = normalise(torch.stack([prepare_image(one.picture, processor.image_size) for one in drawn]))
    pictures = model.image_side.tower(base, pixels, {}, ())
    boxes = [torch.from_numpy(on_square(one.proposals.boxes, size, processor.image_size)) for one in drawn]
    cells_IVD = base.multi_modal_projector(torch.stack([picture.features_PC for picture in pictures]))
    return Projected(cells_IVD, model.image_side.objects(base, pictures, boxes))


def teach_objects(
    model: DpnForConditionalGeneration,
    processor: ObjectProcessor,
    note: Callable[[str], None],
    steps: int = STEPS,
) -> float:
    """Train towers, projectors and embedding in place.

    Returns:
        Share of the boxes of scenes not trained on that are told right, colour and shape.
    """
    base = model.model
    words = base.get_input_embeddings().weight
    read = [processor.tokenizer.convert_tokens_to_ids(list(told)) for told in (TINTS, CONTENTS)]
    trained = [base.vision_tower, base.multi_modal_projector, base.object_projector]
    parameters = [*(weight for module in trained for weight in module.parameters()), words]
    optimiser = torch.optim.AdamW(parameters, LR, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        drawn = [draw((SEED, step, number)) for number in range(BATCH)]
        seen = project(model, processor, drawn)
        loss = torch.zeros(())
        for rows, labels in ((seen.boxes_ND, of_boxes(drawn)), (seen.cells_IVD.flatten(0, 1), of_cells(drawn))):
            for column, ids in enumerate(read):
                loss = loss + cross_entropy(_SHARPNESS * rows @ words[ids].T, labels[:, column])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 50 == 49:
            note(f"object lesson: step {step + 1} of {steps}, loss {loss.item():.3f}")
    drawn = [draw((SEED, steps, number)) for number in range(4 * BATCH)]
    with torch.no_grad():
        seen = project(model, processor, drawn)
        told = torch.stack([(seen.boxes_ND @ words[ids].T).argmax(dim=1) for ids in read], dim=1)
        _fit_scale(base.object_projector, seen.boxes_ND, words)
        _fit_scale(base.multi_modal_projector, seen.cells_IVD.flatten(0, 1), words)
    return float((told == of_boxes(drawn)).all(dim=1).float().mean())


def _fit_scale(projector: torch.nn.Module, rows: Tensor, words: Tensor) -> None:
    """What is projected becomes as long as words are: rows that dwarf them would drown the text."""
    share = float(words.norm(dim=1).mean() / rows.norm(dim=1).mean())
    last = list(projector.children())[-1]
    for weight in last.parameters():
        weight.mul_(share)


def of_boxes(drawn: Sequence[Drawn]) -> Tensor:
    """int64[N, 2]: places in `TINTS` and `CONTENTS` of what every proposal is on."""
    nothing = [_NO_TINT, _NO_CONTENT]
    rows = [
        nothing if thing < 0 else one.scene.kinds[thing].tolist()
        for one in drawn
        for thing in one.proposals.objects.tolist()
    ]
    return torch.tensor(rows)


def of_cells(drawn: Sequence[Drawn], grid: int = 8) -> Tensor:
    """int64[I * V, 2]: places in `TINTS` and `CONTENTS` of what covers the middle of every cell."""
    middles = (np.arange(grid) + 0.5) * DETECTION_SIDE / grid
    labels = np.tile([_NO_TINT, _NO_CONTENT], (len(drawn), grid, grid, 1))
    for number, one in enumerate(drawn):
        scene = one.scene
        digit = [_NO_TINT, len(SHAPES) + int(scene.digit)]
        for box, kind in ((scene.digit_box, digit), *zip(scene.boxes, scene.kinds.tolist(), strict=True)):
            columns = (middles >= box[0]) & (middles < box[2])
            rows = (middles >= box[1]) & (middles < box[3])
            labels[number][np.ix_(rows, columns)] = kind
        # A digit is not much larger than a cell, and may cover no middle.
        column, row = ((scene.digit_box[:2] + scene.digit_box[2:]) / 2 * grid / DETECTION_SIDE).astype(int)
        labels[number, row, column] = digit
    return torch.from_numpy(labels.reshape(-1, 2))
