"""How AVG-LLaVA's router learns: from the decoder's own loss at every granularity of a sample (arXiv 2410.02745).

Shape letters: B' samples with an image, E granularities, R supervised tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dpn_model.methods.avg_llava.spec import AvgLlavaSettings
from dpn_model.methods.contract import LossInputs


class Feedback:
    """Ranking loss plus cross entropy against the granularity of the smallest loss.

    Samples are in the batch once per granularity (`Parts.copies`), in the experts' order. Nothing of it reaches the
    base: losses are targets here, and the router's inputs are detached.
    """

    name, weight, joins_language_loss = "router", 1.0, False

    def __init__(self, settings: AvgLlavaSettings) -> None:
        self.settings = settings

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """Mean over the samples that have a picture and a supervised token."""
        (record,) = seen.reductions
        if record.router_logits_BE is None or seen.final.copies == 1:
            return None
        experts = seen.final.copies
        logits_BE = record.router_logits_BE[: len(record.expert_index) // experts]
        samples = seen.final.num_samples // experts
        pictured = [sample for sample in range(samples) if record.choices[sample] != "-"]
        sums = seen.losses_R.new_zeros(experts * samples).index_add(0, seen.sample_R, seen.losses_R.detach())
        counts = torch.bincount(seen.sample_R, minlength=experts * samples)
        losses_BE = (sums / counts).view(experts, samples).T[pictured]
        is_judged_B = counts[pictured] > 0
        if not bool(is_judged_B.any()):
            return None
        return router_loss(logits_BE[is_judged_B], losses_BE[is_judged_B], self.settings)


def router_loss(logits_BE: Tensor, losses_BE: Tensor, settings: AvgLlavaSettings) -> Tensor:
    """A scalar.

    Of two granularities, the one of smaller loss should have the larger log probability, by the difference of their
    losses times the difference of their ranks times `margin`.

    Args:
        logits_BE: float[B', E], the router's.
        losses_BE: float[B', E], the decoder's mean loss on each sample at each granularity.
        settings: weights and margin.
    """
    ascending_BE, order_BE = losses_BE.sort(dim=1, stable=True)
    scores_BE = logits_BE.log_softmax(dim=1).gather(1, order_BE)
    ranking = logits_BE.new_zeros(())
    for apart in range(1, logits_BE.shape[1]):
        margins = settings.margin * apart * (ascending_BE[:, apart:] - ascending_BE[:, :-apart])
        ranking = ranking + (scores_BE[:, apart:] - scores_BE[:, :-apart] + margins).relu().mean()
    return settings.rank_weight * ranking + settings.ce_weight * cross_entropy(logits_BE, order_BE[:, 0])
