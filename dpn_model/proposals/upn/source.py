"""UPN as a source of proposals: its pictures in, its boxes out, cut and rounded as its authors do (spec chatrex 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, Resampling

from dpn_model.proposals.contract import Known, Limits, Proposed, best
from dpn_model.proposals.detector import as_array, in_pixels
from dpn_model.proposals.pictures import Prepared, batches
from dpn_model.proposals.upn.network import GRANULARITIES, Granularity, UpnNetwork
from dpn_model.proposals.upn.weights import load_upn

SHORTEST, LONGEST = 800, 1333
#: pictures of one size in a forward pass: one has up to 89,000 rows on its five levels
BATCH_SIZE = 2
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Upn:
    """A UPN.

    Boxes are cut to whole pixels and scores rounded to two digits, as in what its authors publish; a box that is
    left without an area is none.

    Args:
        network: whole and on its device.
        granularity: "fine" for anything that stands for itself (what COCO and LVIS are evaluated with), "coarse" for
            whole things.
        limits: threshold and suppression.
        batch_size: pictures of one size in a forward pass.
    """

    def __init__(
        self,
        network: UpnNetwork,
        granularity: Granularity = "fine",
        limits: Limits | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        if granularity not in GRANULARITIES:
            raise ValueError(f"granularity is {granularity}; allowed: {', '.join(GRANULARITIES)}")
        self.network = network.eval()
        self.granularity = granularity
        self.limits = limits or Limits()
        self.batch_size = batch_size

    @classmethod
    def from_file(
        cls, file: Path, granularity: Granularity = "fine", limits: Limits | None = None, device: str = "cpu"
    ) -> Upn:
        """See `load_upn`, which says what is refused."""
        return cls(load_upn(file).to(device), granularity, limits)

    def propose(
        self,
        images: Sequence[Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        """See `ProposalSource`. Raises ValueError where the network gives numbers that are not finite."""
        device = next(self.network.parameters()).device
        found: dict[int, Proposed] = {}
        for places, inputs in batches([prepare(image) for image in images], self.batch_size):
            with torch.inference_mode():
                logits, boxes = self.network(inputs["pixel_values"].to(device), self.granularity)
            for place, scores, here in zip(places, logits.sigmoid(), boxes, strict=True):
                size = images[place].size
                found[place] = _rounded(best(in_pixels(here, size), as_array(scores), size, self.limits))
        return [found[place] for place in range(len(images))]


def prepare(image: Image) -> Prepared:
    """A picture as the network takes it: shortest side 800, longest at most 1333, normalised as ImageNet's."""
    pixels = np.asarray(image.convert("RGB").resize(network_size(image.size), Resampling.BILINEAR)) / 255
    return {"pixel_values": torch.from_numpy((pixels - _MEAN) / _STD).permute(2, 0, 1)[None].float()}


def network_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that a picture of this size is shown with; the longer side is cut to a whole pixel."""
    shorter, longer = min(size), max(size)
    side = SHORTEST if longer / shorter * SHORTEST <= LONGEST else round(LONGEST * shorter / longer)
    width, height = size
    return (side, int(side * height / width)) if width < height else (int(side * width / height), side)


def _rounded(proposed: Proposed) -> Proposed:
    boxes, scores = np.trunc(proposed.boxes), np.round(proposed.scores, 2)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Proposed(boxes[has_area], scores[has_area])
