"""Any detector of transformers as a source of proposals: a query's objectness is the best of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedModel

from dpn_model.objects.boxes import FloatArray
from dpn_model.proposals.contract import Known, Limits, Proposed, best
from dpn_model.proposals.families import DETECTORS, SOFTMAX
from dpn_model.proposals.folders import load_model, model_type
from dpn_model.proposals.pictures import Prepare, batches, load_pictures

BATCH_SIZE = 8


class Detector:
    """A detector that returns `logits` and `pred_boxes`.

    transformers' own `post_process_object_detection` is not asked: for detectors with a sigmoid it ranks pairs of
    query and class, and gives a box once for every class.

    Args:
        model: see `families.DETECTORS`.
        prepare: its image processor.
        limits: threshold and suppression.
        batch_size: pictures of one shape in a forward pass.
    """

    def __init__(
        self, model: PreTrainedModel, prepare: Prepare, limits: Limits | None = None, batch_size: int = BATCH_SIZE
    ) -> None:
        self.model = model.eval()
        self.prepare = prepare
        self.limits = limits or Limits()
        self.batch_size = batch_size

    def propose(
        self,
        images: Sequence[Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        """See `ProposalSource`. Raises ValueError where the detector gives numbers that are not finite."""
        found: dict[int, Proposed] = {}
        for places, inputs in batches([self.prepare(image) for image in images], self.batch_size):
            outputs = run(self.model, inputs)
            for place, scores, boxes in zip(
                places, objectness(outputs.logits, self.model.config), outputs.pred_boxes, strict=True
            ):
                size = images[place].size
                found[place] = best(in_pixels(boxes, size), as_array(scores), size, self.limits)
        return [found[place] for place in range(len(images))]


def load_detector(
    folder: Path, limits: Limits | None = None, *, device: str = "cpu", batch_size: int = BATCH_SIZE
) -> Detector:
    """The detector of a from_pretrained folder.

    Raises:
        FileNotFoundError: no such folder, or no config.json in it.
        ValueError: it holds another model, or one that cannot be loaded whole.
    """
    found = model_type(folder)
    if found not in DETECTORS:
        raise ValueError(f"{folder} holds a model of type {found}; detectors are {', '.join(sorted(DETECTORS))}")
    model = load_model(folder, device)
    return Detector(model, load_pictures(folder), limits, batch_size)


def run(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Any:
    """The model's outputs for inputs that may lie elsewhere."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        return model(**{name: tensor.to(device) for name, tensor in inputs.items()})


def objectness(logits: Tensor, config: Any) -> Tensor:
    """float32[B, Q]: how sure the detector is of a query's best class.

    Args:
        logits: [B, Q, C].
        config: of the detector; `use_focal_loss: false` in RT-DETR's and D-FINE's means a softmax.
    """
    if config.model_type in SOFTMAX or not getattr(config, "use_focal_loss", True):
        return logits.float().softmax(-1)[..., :-1].amax(-1)
    return logits.float().amax(-1).sigmoid()


def in_pixels(boxes: Tensor, size: tuple[int, int]) -> FloatArray:
    """float64[Q, 4] xyxy in pixels of a picture of (width, height), of centres and sides that are shares of it."""
    centre, sides = np.split(as_array(boxes), 2, axis=1)
    return np.concatenate([centre - sides / 2, centre + sides / 2], axis=1) * [*size, *size]


def as_array(tensor: Tensor) -> FloatArray:
    """Its numbers as float64, on the host."""
    return np.asarray(tensor.detach().cpu().double().numpy())
