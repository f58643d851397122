"""Keeps gradients that are not finite from the weights where DeepSpeed does not: in fp32 without ZeRO.

All its other optimisers look at the norm of the gradient and leave out a step whose norm is not finite
(`engine.was_step_applied`). Here the verdict stays on the device, which then does nothing in this step and all later
ones; the host asks where it waits for the device anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dpn_platform.config.training import TrainConfig


def is_needed(train: TrainConfig) -> bool:
    """Whether DeepSpeed steps this recipe's optimiser whatever the gradient is."""
    return train.zero_stage == 0 and train.precision == "fp32"


class Sentinel:
    """Clips the gradient before every step of a fused optimiser, and ends its work at the first that is not finite.

    Args:
        optimizer: fused: its kernels take `found_inf`, torch's own way of leaving out a step without asking the host.
        max_norm: of the clipped gradient.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_norm: float) -> None:
        self.max_norm = max_norm
        self._steps = 0
        self._applied: Tensor | None = None
        self._found: Tensor | None = None
        optimizer.register_step_pre_hook(self._watch)

    def steps_left_out(self) -> int:
        """Steps since the first one whose gradient was not finite, itself included. Waits for the device."""
        return 0 if self._applied is None else self._steps - int(self._applied)

    def _watch(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights])
        torch.nn.utils.clip_grads_with_norm_(weights, self.max_norm, norm)
        found = (~norm.isfinite()).float()
        self._found = found if self._found is None else torch.maximum(self._found, found)
        self._applied = 1 - self._found if self._applied is None else self._applied + 1 - self._found
        self._steps += 1
        optimizer.found_inf = self._found
