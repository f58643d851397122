"""How VisPCO's predictor learns: say what the whole decoder says, at the cost that was asked for.

The authors' loss is 1000 * KL(full || pruned) - 0.1 * w * c + σ * c² with c the gap between target and cost. They
update the multiplier once an epoch, w <- w - σ * c, and let σ grow where |c| did not shrink enough. Here w is a weight
that the optimiser moves against the gradient c in every step, and σ stays: that needs no epoch and no memory beside
the weights, so it is the same on all ranks and after a resumed checkpoint.

Shape letters: B samples with a picture, R supervised tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpn_model.methods.contract import LossInputs
from dpn_model.methods.distillation import divergence_from_first
from dpn_model.methods.vispco.choice import Choice
from dpn_model.methods.vispco.spec import VispcoSettings

#: of the multiplier's term
_MULTIPLIER_WEIGHT = 0.1


class Fidelity:
    """Mean KL(whole || masked) over the supervised tokens of samples with a picture."""

    name = "kl"
    joins_language_loss = False

    def __init__(self, settings: VispcoSettings) -> None:
        self.weight = settings.weight * settings.kl_weight

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """None where nothing was masked, or nothing is supervised."""
        masked = [sample for sample, choice in enumerate(seen.final.passages) if choice is not None]
        if seen.final.copies == 1 or not masked:
            return None
        tokens = len(seen.sample_R) // seen.final.copies
        is_masked_R = torch.isin(seen.sample_R[tokens:], seen.sample_R.new_tensor(masked))
        if not bool(is_masked_R.any()):
            return None
        return divergence_from_first(seen.logits_RC, seen.final.copies)[0][is_masked_R].mean()


class BudgetGap:
    """-0.1 * w * c + σ * c², mean over samples with a picture."""

    name = "budget"
    joins_language_loss = False

    def __init__(self, settings: VispcoSettings) -> None:
        self.weight = settings.weight
        self.penalty = settings.penalty
        self.speed = settings.multiplier_speed

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """None where nothing was masked."""
        choices: list[Choice] = [choice for choice in seen.final.passages if choice is not None]
        if seen.final.copies == 1 or not choices:
            return None
        gaps_B = torch.stack([choice.gap() for choice in choices])
        return augmented_lagrangian(gaps_B, choices[0].multiplier, self.speed, self.penalty)


def augmented_lagrangian(gaps_B: Tensor, multiplier: Tensor, speed: float, penalty: float) -> Tensor:
    """A scalar; in it the multiplier has the gradient c, so that a descent makes it w - rate * c.

    Args:
        gaps_B: float32[B], c: target less cost, in shares.
        multiplier: float32[1], the weight behind w.
        speed: w over that weight.
        penalty: σ.
    """
    gap, fixed = gaps_B.mean(), multiplier.detach()
    ascent = ((multiplier - fixed) * gap.detach()).sum()
    return ascent - _MULTIPLIER_WEIGHT * speed * fixed[0] * gap + penalty * (gaps_B**2).mean()
