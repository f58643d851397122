"""What the first copy of every sample says, taught to its others (`Parts.copies`).

Shape letters: K copies of a sample, R supervised tokens of one copy, C vocabulary.
"""

from __future__ import annotations

from torch import Tensor


def divergence_from_first(logits_RC: Tensor, copies: int) -> Tensor:
    """float32[K - 1, R]: KL(first || other) of every other copy; the first gets no gradient.

    Args:
        logits_RC: float32[K * R, C], of all copies one after the other.
        copies: K.
    """
    log_p_KRC = logits_RC.view(copies, -1, logits_RC.shape[-1]).log_softmax(dim=-1)
    taught_RC = log_p_KRC[0].detach()
    return (taught_RC.exp() * (taught_RC - log_p_KRC[1:])).sum(dim=-1)
