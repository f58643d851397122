"""A router gradient that does not pass through the pooled tokens: the score function, or REINFORCE (Williams, 1992).

Not in the paper. There the language loss reaches the router through the winning probability alone, which multiplies the
pooled tokens; RMSNorm divides such a factor out again, and what is left is too little to make routes depend on the
sample within a short fine-tune. Here a sample's own loss says how good its sampled route was, next to its neighbours'.

What is differentiated is the expectation, over routes drawn from the router, of `loss_lm`: the mean cross entropy over
the supervised tokens of the batch. Together with the gradient of `loss_lm` at the drawn routes, which knows nothing of
how likely they were, the term below has exactly that gradient in the mean over draws, for batches of at least two
routed samples. `DpnSettings` refuses settings under which it would not: routes that are not drawn from these
probabilities, or another term that stands for the same gradient.

Shape letters: B samples, B' of them with an image, R supervised tokens, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.methods.records import ReductionRecord


def score_term(losses_R: Tensor, sample_R: Tensor, records: Sequence[ReductionRecord]) -> Tensor:
    """A zero whose gradient is the estimator: own share of the tokens * (own loss - the others' mean) * log p(route).

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
    counts_B = torch.bincount(sample_R, minlength=len(sums_B))
    routed_B = torch.tensor(samples, device=sample_R.device)
    loss_B, share_B = (sums_B / counts_B.clamp_min(1))[routed_B], counts_B[routed_B] / max(1, len(losses_R))
    baseline_B = (loss_B.sum() - loss_B) / (len(samples) - 1)
    log_p_B = losses_R.new_zeros(len(samples))
    for record in routed:
        assert record.router_probs_BE is not None
        chosen_B = torch.tensor(record.expert_index, device=sample_R.device)
        log_p_B = log_p_B + record.router_probs_BE.gather(1, chosen_B[:, None]).squeeze(1).log()
    term = (share_B * (loss_B - baseline_B) * log_p_B).sum()
    return term - term.detach()
