"""DPN's terms of the loss: the hinge of eq. 6, and the score gradient, which belongs to the language loss."""

from __future__ import annotations

from torch import Tensor

from dpn_model.methods.contract import LossInputs
from dpn_model.methods.dpn.routing_loss import routing_loss
from dpn_model.methods.dpn.score_gradient import score_term
from dpn_model.methods.dpn.settings import RoutingLoss


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


class ScoreGradient:
    """A zero that carries the score-function gradient of the language loss."""

    name = "score"
    weight = 1.0
    joins_language_loss = True

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """See `score_term`."""
        return score_term(seen.losses_R, seen.sample_R, seen.reductions)
