"""From pixels to the visual tokens of a packed batch: tower, selector, projector.

Shape letters: B samples, V visual tokens of all pictures together, C width of the tower, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, ImageSide, Pixels
from dpn_model.cost.bill import ModelShape
from dpn_model.methods.contract import Parts, Resizer, Selector, joined
from dpn_model.methods.probe import VisionProbe, is_of_tower
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, pick_rows, replace_image_rows
from dpn_model.methods.spec import projector_macs
from dpn_model.packing import Grid, ImageSpan, PackedSequence, TokenKind


@dataclass(frozen=True)
class Seen:
    """What the tower made of a batch's pictures.

    Attributes:
        tokens_VX: float[V, D], or float[V, (1 + K) * D] as `ImageSide.encode` gives it; with `rows`, what they keep.
        vision: for the probes of reducers; None where no part looks at the tower.
        rows: what a selector in front of the projector chose of every picture, or the smaller grid of a resizer's.
        runs: patches of every picture's runs of the tower, where a resizer changed them.
        objects_ND: float[N, D], features of boxes, where the base takes them.
    """

    tokens_VX: Tensor
    vision: VisionProbe | None = None
    rows: list[ImageRows] | None = None
    runs: tuple[tuple[int, ...], ...] | None = None
    objects_ND: Tensor | None = None


def see(
    model: Any,
    parts: Parts,
    side: ImageSide,
    pixels: Pixels,
    inputs: ImageInputs,
    samples: Sequence[int],
    state: PackedSequence | None = None,
    boxes: Sequence[Tensor] = (),
) -> Seen:
    """Runs the tower over pictures; what parts look at is kept, and a selector in front of the projector chooses.

    Args:
        model: the base.
        parts: of the method.
        side: of the base.
        pixels, inputs: as `forward` takes them.
        samples: of every picture.
        state: the batch of embeddings that they go into; None of a blank picture.
        boxes: float[n, 4] on every picture, where the base takes them.
    """
    if parts.resizer is not None:
        return _see_resized(model, parts.resizer, side, pixels, inputs)
    looks = frozenset(look for part in parts.all() for look in part.looks if is_of_tower(look))
    chooses_first = parts.selector is not None and parts.selector.before_projector
    if not looks and not chooses_first and not side.has_objects:
        return Seen(side.encode(model, pixels, inputs))
    pictures = side.tower(model, pixels, inputs, looks)
    objects_ND = side.objects(model, pictures, boxes) if side.has_objects else None
    vision = VisionProbe(pictures, state) if looks or chooses_first else None
    features_VC = torch.cat([picture.features_PC for picture in pictures])
    if not chooses_first:
        return Seen(side.project(model, features_VC), vision, objects_ND=objects_ND)
    assert parts.selector is not None
    spans, start = [], 0
    for sample, picture in zip(samples, pictures, strict=True):
        spans.append(ImageSpan(sample, start, *picture.grid))
        start += len(picture.features_PC)
    rows = parts.selector(features_VC, spans, vision)
    return Seen(side.project(model, pick_rows(features_VC, spans, rows)), vision, rows, objects_ND=objects_ND)


def _see_resized(model: Any, resizer: Resizer, side: ImageSide, pixels: Pixels, inputs: ImageInputs) -> Seen:
    """What the tower makes of pictures of fewer pixels; of each picture's old rows the first are its new grid."""
    smaller = [resizer(picture) for picture in side.pictures(pixels, inputs)]
    grids = [piece for pieces in side.pieces(smaller, inputs) for piece in pieces if isinstance(piece, Grid)]
    rows = [ImageRows(np.arange(grid.num_tokens)[:, None], grid.height, grid.width) for grid in grids]
    return Seen(side.encode(model, smaller, inputs), rows=rows, runs=side.tower_runs(smaller, inputs))


def resized(state: PackedSequence, seen: Seen) -> tuple[PackedSequence, ReductionRecord]:
    """The batch with all placeholders, made to fit the pictures that the tower saw; the record is of site 0."""
    assert seen.rows is not None
    after, _ = replace_image_rows(state, seen.rows)
    told: list[list[str]] = [[] for _ in range(state.num_samples)]
    for image in after.images:
        told[image.sample].append(f"{image.height}x{image.width}")
    choices = tuple("+".join(one) or "-" for one in told)
    return with_tokens(after, seen), ReductionRecord(0, state.visual_tokens(), after.visual_tokens(), choices)


def with_tokens(state: PackedSequence, seen: Seen) -> PackedSequence:
    """A batch of embeddings with pictures' tokens and objects in their rows, and what later layers add there."""
    first, *later = seen.tokens_VX.to(state.hidden_TD.dtype).split(state.hidden_TD.shape[1], dim=1)
    rows_T1 = (state.kind_T == TokenKind.VISION)[:, None]
    filled = state.hidden_TD.masked_scatter(rows_T1, first)
    if seen.objects_ND is not None:
        are_objects_T1 = (state.kind_T == TokenKind.OBJECT)[:, None]
        filled = joined(filled, [seen.objects_ND]).masked_scatter(are_objects_T1, seen.objects_ND.to(filled.dtype))
    injections = tuple(torch.zeros_like(filled).masked_scatter(rows_T1, added) for added in later)
    return replace(state, hidden_TD=filled, injections=injections)


def selected(
    selector: Selector, state: PackedSequence, seen: Seen, shape: ModelShape
) -> tuple[PackedSequence, ReductionRecord]:
    """The batch behind a selector, and what it did, as the record of site 0.

    Args:
        selector: of the method.
        state: the batch with all placeholders; their rows hold tokens already, unless `seen.rows` says what was chosen.
        seen: of the same batch.
        shape: of the base, with its own projector.

    Raises:
        ValueError: a picture of several grids, or whose rows end with newlines.
    """
    if any(image.row_end for image in state.images):
        raise ValueError("this base's rows of visual tokens end with newlines; no selector fits it")
    rows = seen.rows
    if rows is None:
        visual = torch.cat([state.hidden_TD[one.start : one.start + one.num_tokens] for one in state.images])
        starts = [0]
        for image in state.images:
            starts.append(starts[-1] + image.num_tokens)
        spans = [replace(image, start=start) for image, start in zip(state.images, starts, strict=False)]
        assert seen.vision is not None or not any(map(is_of_tower, selector.looks))
        rows = selector(visual, spans, seen.vision or VisionProbe((), state))
    tokens_in = state.visual_tokens()
    after, _ = replace_image_rows(state, rows, keep_positions=selector.positions == "keep")
    if seen.rows is not None:
        after = with_tokens(after, seen)
    choices: list[list[str]] = [[] for _ in tokens_in]
    spent, projected = [0] * len(tokens_in), [0] * len(tokens_in)
    for image, chosen in zip(state.images, rows, strict=True):
        choices[image.sample].append(selector.describe(image, chosen))
        spent[image.sample] += selector.macs(image, chosen)
        projected[image.sample] += len(chosen.windows)
    macs = {"selector": tuple(spent)}
    if seen.rows is not None:
        per_token = projector_macs(shape, 1)
        macs |= {tag: tuple(one * count for count in projected) for tag, one in per_token.items()}
    told = tuple("+".join(one) or "-" for one in choices)
    return after, ReductionRecord(0, tokens_in, after.visual_tokens(), told, macs=macs)


def blank_tokens(model: Any, parts: Parts, side: ImageSide, hidden_TD: Tensor) -> Tensor:
    """`hidden_TD` unchanged, with tower, projector and selector behind it: a text-only rank joins the collectives."""
    seen = see(model, parts, side, *side.blank(hidden_TD), samples=(0,), boxes=[hidden_TD.new_zeros(0, 4)])
    outputs = [seen.tokens_VX]
    if seen.objects_ND is not None:
        outputs.append(seen.objects_ND)
    rows = seen.rows
    if parts.selector is not None and rows is None:
        span = ImageSpan(0, 0, *side.fixed_grid())
        rows = parts.selector(seen.tokens_VX[:, : hidden_TD.shape[1]], [span], seen.vision or VisionProbe(()))
    outputs += [one.weights for one in rows or () if one.weights is not None]
    return joined(hidden_TD, outputs)
