"""How RoE's layers are mixed over the training: at random, with a head start for running, then by the router alone.

Shape letters: M turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dpn_model.methods.roe_llava.spec import RoeLlavaSettings

#: share of the training after which temperature and bias decay once more
_STEP = 0.005
RUN = 0


@dataclass(frozen=True)
class Phase:
    """Where the training is.

    Attributes:
        is_random: choices are drawn, the router is not asked.
        temperature: τ of the mix.
        bias: added to the logit of running.
    """

    is_random: bool
    temperature: float
    bias: float

    def logits(self, router_M2: Tensor) -> Tensor:
        """float32[M, 2]: of running and skipping, from the router's, or drawn from torch's generator."""
        logits_M2 = torch.rand_like(router_M2) if self.is_random else router_M2
        return logits_M2 + logits_M2.new_tensor([self.bias, 0.0])

    def weights(self, logits_M2: Tensor) -> Tensor:
        """float32[M, 2]: what running and skipping weigh in the mix; hard where choices are drawn."""
        if self.is_random:
            return torch.nn.functional.one_hot(logits_M2.argmax(dim=-1), 2).to(logits_M2.dtype)
        return (logits_M2 / self.temperature).softmax(dim=-1)


def keep_bias(target_skip: float) -> float:
    """Head start b of running: two uniform draws then skip with probability (1 - b)² / 2 = `target_skip`."""
    return 1.0 - math.sqrt(2.0 * target_skip)


def phase_at(progress: float | None, settings: RoeLlavaSettings) -> Phase:
    """The phase after a share of the training; where nobody says, the mix as it begins, without a head start."""
    if progress is None:
        return Phase(False, settings.tau, 0.0)
    if progress < settings.random_until:
        return Phase(True, settings.tau, keep_bias(settings.target_skip))
    steps = math.floor((progress - settings.random_until) / _STEP + 1e-6)
    temperature = settings.tau * settings.tau_decay**steps
    bias = keep_bias(settings.target_skip) * settings.bias_decay**steps if progress < settings.bias_until else 0.0
    return Phase(False, temperature, bias)
