"""DPN's terms of the loss: the hinge of eq. 6, and what belongs to the language loss: score gradient, distillation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dpn_model.methods.contract import LossInputs
from dpn_model.methods.distillation import divergence_from_first
from dpn_model.methods.dpn.routing_loss import routing_loss
from dpn_model.methods.dpn.score_gradient import score_term
from dpn_model.methods.dpn.settings import BatchShaping, RoutingLoss
from dpn_model.methods.dpn.shaping import shaping_loss


class RoutingHinge:
    """λ times the hinge (eq. 7)."""

    name = "routing"
    joins_language_loss = False

    def __init__(self, settings: RoutingLoss) -> None:
        self.settings = settings
        self.weight = settings.weight

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """The hinge, before λ."""
        return routing_loss(seen.reductions, self.settings)


class Shaping:
    """The prior on how a batch's decisions are spread (`BatchShaping`); a batch is a micro-batch of one rank here.

    Args:
        settings: its shape, and the weight at the start.
        progress: gives the share of the training that is done; None: nobody knows, and the weight stays.
    """

    name = "batch_shaping"
    joins_language_loss = False

    def __init__(self, settings: BatchShaping, progress: Callable[[], float | None]) -> None:
        self.settings = settings
        self._progress = progress

    @property
    def weight(self) -> float:
        """What is left of it."""
        return self.settings.weight * (1.0 - (self._progress() or 0.0))

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """The distance, before its weight."""
        return shaping_loss(seen.reductions, self.settings)


class ScoreGradient:
    """A zero that carries the score-function gradient of the language loss."""

    name = "score"
    weight = 1.0
    joins_language_loss = True

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """See `score_term`."""
        return score_term(seen.losses_R, seen.sample_R, seen.reductions)


class Distillation:
    """What the first copy of every sample says of its answer, taught to the others (`Sandwich`)."""

    name = "distillation"
    joins_language_loss = True

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """Mean KL(first || other) over supervised tokens and other copies; None where nothing was copied."""
        copies = seen.final.copies
        if copies == 1 or not len(seen.logits_RC):
            return None
        return divergence_from_first(seen.logits_RC, copies).mean()
