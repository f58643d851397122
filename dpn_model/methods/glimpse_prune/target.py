"""What GlimpsePrune's predictor learns: Dice and cross entropy against a mask for every picture (arXiv 2508.01548).

The authors' masks are boxes that annotators of GQA drew around what a question is about. No batch here carries boxes,
so masks come from the pass itself: the tokens that the text behind the prompt, the answer first of all, looks at in the
layer of the site, as many as hold a share of it (`mass`). So the glimpse learns to foretell from the question what the
answer will need, and a mask is as good as the decoder's own attention.

Shape letters: I pictures, V visual tokens of one picture, L layers of the predictor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dpn_model.methods.contract import LossInputs
from dpn_model.methods.glimpse_prune.spec import GlimpsePruneSettings
from dpn_model.methods.instruction import prompt_end
from dpn_model.methods.keeping import columns_of
from dpn_model.methods.probe import Probe
from dpn_model.packing import PackedSequence

#: of the Dice loss, in numerator and denominator
EPSILON = 1e-6


@dataclass(frozen=True)
class Lesson:
    """Logits of a training batch float32[L, I, V], their masks float32[I, V], and the sample of every picture."""

    logits_LIV: Tensor
    mask_IV: Tensor
    samples: tuple[int, ...]


class MaskLoss:
    """Of every layer of the predictor, summed over them as by the authors; a mean over samples with pictures.

    Args:
        settings: with the weights.
        lessons: where the reducer leaves what it saw of a training batch, for one reading.
    """

    name, weight, joins_language_loss = "mask", 1.0, False

    def __init__(self, settings: GlimpsePruneSettings, lessons: list[Lesson]) -> None:
        self.settings = settings
        self.lessons = lessons

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """None in evaluation, and where there is no picture."""
        if not self.lessons:
            return None
        lesson = self.lessons.pop()
        loss_I = sum(mask_losses(logits_IV, lesson.mask_IV, self.settings) for logits_IV in lesson.logits_LIV)
        pictures = np.bincount(lesson.samples)[list(lesson.samples)]
        share_I = torch.from_numpy(1 / (pictures * len(set(lesson.samples)))).to(loss_I)
        return (loss_I * share_I).sum()


def mask_losses(logits_IV: Tensor, mask_IV: Tensor, settings: GlimpsePruneSettings) -> Tensor:
    """float32[I]: weighted sums of Dice and cross entropy; both float32[I, V], a mask of zeros and ones."""
    probs_IV = logits_IV.sigmoid()
    both_I, either_I = (probs_IV * mask_IV).sum(dim=1), (probs_IV + mask_IV).sum(dim=1)
    dice_I = 1 - (2 * both_I + EPSILON) / (either_I + EPSILON)
    bce_I = binary_cross_entropy_with_logits(logits_IV, mask_IV, reduction="none").mean(dim=1)
    return settings.dice_weight * dice_I + settings.bce_weight * bce_I


@torch.no_grad()
def masks(state: PackedSequence, probe: Probe, mass: float) -> Tensor:
    """float32[I, V] of the pictures of a training batch.

    A picture's rows of attention (mean over heads) are those of the row that asks and of all text behind it.
    """
    ends = {image.sample: prompt_end(state, image.sample) for image in state.images}
    behind = [np.arange(end - 1, state.starts[one] + state.lengths[one]) for one, end in sorted(ends.items())]
    weights = probe.attention(np.concatenate(behind))
    return held(
        torch.stack([weights[one.sample].mean(dim=(0, 1))[columns_of(state, one)] for one in state.images]), mass
    )


def held(scores_IV: Tensor, mass: float) -> Tensor:
    """float32[I, V]: ones for the fewest tokens that hold a share of their picture's sum, of equal ones the first."""
    sorted_IV, order_IV = scores_IV.sort(dim=1, descending=True, stable=True)
    in_front_IV = sorted_IV.cumsum(dim=1) - sorted_IV
    is_held_IV = in_front_IV < mass * scores_IV.sum(dim=1, keepdim=True)
    return torch.zeros_like(scores_IV).scatter(1, order_IV, is_held_IV.to(scores_IV))


def chosen(logits_IV: Tensor, threshold: float, most: int) -> list[np.ndarray]:
    """For every picture int64[kept], ascending: the tokens above the threshold, at most `most` of them, at least one.

    One copy from the device; of equal ones the first.
    """
    sorted_IV, order_IV = logits_IV.detach().sort(dim=1, descending=True, stable=True)
    counts_I1 = (sorted_IV.sigmoid() > threshold).sum(dim=1, keepdim=True).clamp(1, most)
    found = torch.cat([counts_I1, order_IV], dim=1).cpu().numpy()
    return [np.sort(order[1 : order[0] + 1]) for order in found]
