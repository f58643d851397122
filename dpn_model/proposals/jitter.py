"""True boxes, moved a little, among near misses and background: a toy's detector of known quality (spec chatrex 9)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from dpn_model.objects.boxes import FloatArray, box_array, iou_matrix
from dpn_model.proposals.contract import Known, Limits, Proposed, best

#: every edge of a true box moves by up to this share of the side
EDGE = 0.08
#: how many true boxes have a near miss beside them, and how much of them it covers
NEAR_SHARE, NEAR_IOU = 0.6, (0.1, 0.45)
#: no box of the background covers more of a true one
BACKGROUND_IOU = 0.3
_MOST, _TRIES = 16, 50


class JitteredTruth:
    """Proposals made of the true boxes, drawn from (seed, the record's id) alone.

    A true box gives one of at least IoU .7 (each edge moved by up to 8% of the side), scored .5 to .95; six of ten a
    near miss of IoU .1 to .45, scored .3 to .7; boxes of the background, scored .3 to .6, make it min(16, 2k + 3) for
    k true boxes.
    """

    def __init__(self, seed: int = 0, limits: Limits | None = None) -> None:
        self.seed = seed
        self.limits = limits or Limits()

    def propose(
        self,
        images: Sequence[Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        """See `ProposalSource`; pixels are not looked at. Raises ValueError where true boxes are not known."""
        if known is None:
            raise ValueError("jittered boxes are made of the true ones, and nothing is known of these pictures")
        return [self._of_one(image.size, one) for image, one in zip(images, known, strict=True)]

    def _of_one(self, size: tuple[int, int], known: Known) -> Proposed:
        if known.boxes is None:
            raise ValueError(f"record {known.id} has no boxes; jittered boxes are made of the true ones")
        digest = hashlib.sha256(f"{self.seed} {known.id}".encode("utf-8", "surrogatepass")).digest()
        draw = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        boxes = [_moved(draw, box) for box in known.boxes]
        scores = list(draw.uniform(0.5, 0.95, len(boxes)))
        for box in known.boxes:
            if draw.random() < NEAR_SHARE and (near := _near_miss(draw, box, size)) is not None:
                boxes.append(near)
                scores.append(draw.uniform(0.3, 0.7))
        for _ in range(min(_MOST, 2 * len(known.boxes) + 3) - len(boxes)):
            if (other := _background(draw, known.boxes, size)) is not None:
                boxes.append(other)
                scores.append(draw.uniform(0.3, 0.6))
        return best(box_array(np.array(boxes)), np.array(scores), size, self.limits)


def _moved(draw: np.random.Generator, box: FloatArray) -> FloatArray:
    sides = np.tile(box[2:] - box[:2], 2)
    return np.asarray(box + draw.uniform(-EDGE, EDGE, 4) * sides)


def _near_miss(draw: np.random.Generator, box: FloatArray, size: tuple[int, int]) -> FloatArray | None:
    """A shifted and rescaled copy; None where none was found that covers as much as wanted."""
    sides, centre = box[2:] - box[:2], (box[2:] + box[:2]) / 2
    for _ in range(_TRIES):
        half = sides * draw.uniform(0.6, 1.4, 2) / 2
        at = centre + sides * draw.uniform(-0.8, 0.8, 2)
        near = np.clip(np.concatenate([at - half, at + half]), 0, [*size, *size])
        if NEAR_IOU[0] <= iou_matrix(near[None], box[None])[0, 0] <= NEAR_IOU[1]:
            return near
    return None


def _background(draw: np.random.Generator, true: FloatArray, size: tuple[int, int]) -> FloatArray | None:
    """A box anywhere, a tenth to half of the picture's sides; None where true boxes leave no room."""
    frame = np.array(size, dtype=np.float64)
    for _ in range(_TRIES):
        sides = frame * draw.uniform(0.1, 0.5, 2)
        corner = (frame - sides) * draw.random(2)
        box = np.concatenate([corner, corner + sides])
        if not len(true) or iou_matrix(box[None], true).max() < BACKGROUND_IOU:
            return box
    return None
