"""Times prefill and decoding apart inside transformers' `generate`, by a stopping criterion that never stops."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from dpn_platform.evaluation.answering.contract import Timing


class GenerationClock(StoppingCriteria):
    """Starts when it is made; transformers calls it after every token of the batch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started = now(device)
        self.first_token: float | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """bool[B], all False."""
        if self.first_token is None:
            self.first_token = now(self.device)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def read(self, new_tokens: list[int], vision_s: float = 0.0) -> Timing:
        """The timing of the batch whose answers have so many tokens; to be called when `generate` has returned."""
        ended = now(self.device)
        first = ended if self.first_token is None else self.first_token
        return Timing(
            num_samples=len(new_tokens),
            vision_s=vision_s,
            prefill_s=first - self.started,
            decode_s=ended - first,
            decode_tokens=sum(count - 1 for count in new_tokens),
        )


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def count_new_tokens(ids: list[int], end_ids: set[int]) -> int:
    """Tokens of one answer: up to the first end, itself included; padding behind it does not count."""
    return next((place + 1 for place, token in enumerate(ids) if token in end_ids), len(ids))
