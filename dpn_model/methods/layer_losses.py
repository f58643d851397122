"""A term of the loss that patched layers make themselves: its sum over layers."""

from __future__ import annotations

from torch import Tensor

from dpn_model.methods.contract import LossInputs


class LayerLosses:
    """The sum of `PatchRecord.loss` over layers.

    Args:
        name: in logs, `train/loss_<name>`.
        weight: of the sum.
    """

    joins_language_loss = False

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """A scalar; None where no layer made one."""
        losses = [patch.loss for patch in seen.patches if patch.loss is not None]
        return sum(losses[1:], start=losses[0]) if losses else None
