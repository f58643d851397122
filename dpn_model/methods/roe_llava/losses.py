"""The loss that asks for skipped layers, of samples that are answered well (spec peer-methods 7.1).

Shape letters: B samples, B' samples with a picture, R supervised tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpn_model.methods.contract import LossInputs

_SHARPNESS = 5.0


class SkipHinge:
    """exp(-5 · cross entropy) · max(0, target - share of layers skipped), mean over samples with a picture.

    The first factor carries no gradient. The cross entropy is the mean over the sample's own supervised tokens; without
    one a sample asks for nothing.
    """

    name = "skipping"
    joins_language_loss = False

    def __init__(self, target_skip: float, weight: float) -> None:
        self.target_skip = target_skip
        self.weight = weight

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """A scalar; None in a batch without pictures."""
        probs = [patch.router_probs_BE[:, 1] for patch in seen.patches if patch.router_probs_BE is not None]
        pictured = sorted({image.sample for image in seen.final.images})
        if not probs or not pictured:
            return None
        losses_R = seen.losses_R.detach().double()
        counts_B = torch.bincount(seen.sample_R, minlength=seen.final.num_samples)
        sums_B = torch.zeros_like(counts_B, dtype=torch.float64).index_add(0, seen.sample_R, losses_R)
        good_B = (-_SHARPNESS * sums_B / counts_B.clamp_min(1)).exp() * (counts_B > 0)
        skipped_B = torch.stack(probs).mean(dim=0)
        return (good_B[pictured].to(skipped_B.dtype) * (self.target_skip - skipped_B).clamp_min(0)).mean()
