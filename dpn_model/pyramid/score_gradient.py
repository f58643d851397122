"""A router gradient that does not pass through the pooled tokens: the score function, or REINFORCE (Williams, 1992).

Not in the paper. There the language loss reaches the router through the winning probability alone, which multiplies the
pooled tokens; RMSNorm divides such a factor out again, and what is left is too little to make routes depend on the
sample within a short fine-tune. Here a sample's own loss says how good its sampled route was, next to its neighbours'.

Shape letters: B samples, B' of them with an image, R supervised tokens, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.reduction import ReductionRecord


def score_term(losses_R: Tensor, sample_R: Tensor, records: Sequence[ReductionRecord]) -> Tensor:
    """A zero whose gradient is the estimator: mean of (own loss - mean loss of the others) * log p(route).

    Args:
        losses_R: cross entropy per supervised token.
        sample_R: int64, which sample each token is of.
        records: one per site; those without a router are skipped.

    Returns:
        A scalar of value 0; without gradient where fewer than two samples were routed, as there is no baseline then.
    """
    routed = [record for record in records if record.router_probs_BE is not None]
    samples = [number for number, choice in enumerate(routed[0].choices) if choice != "-"] if routed else []
    if len(samples) < 2:
        return losses_R.new_zeros(())
    sums_B = losses_R.new_zeros(len(routed[0].choices)).index_add(0, sample_R, losses_R.detach())
    counts_B = torch.bincount(sample_R, minlength=len(sums_B)).clamp_min(1)
    loss_B = (sums_B / counts_B)[torch.tensor(samples, device=sample_R.device)]
    baseline_B = (loss_B.sum() - loss_B) / (len(samples) - 1)
    log_p_B = losses_R.new_zeros(len(samples))
    for record in routed:
        assert record.router_probs_BE is not None
        chosen_B = torch.tensor(record.expert_index, device=sample_R.device)
        log_p_B = log_p_B + record.router_probs_BE.gather(1, chosen_B[:, None]).squeeze(1).log()
    term = ((loss_B - baseline_B) * log_p_B).mean()
    return term - term.detach()
