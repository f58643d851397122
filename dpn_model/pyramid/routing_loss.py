"""The hinge of eq. 6, in the readings of spec A.5.

Shape letters: B samples with an image, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.method import RoutingLoss
from dpn_model.reduction import ReductionRecord


def decision_values(probs_BE: Tensor, log2_areas_E: Sequence[float], value: str) -> Tensor:
    """float[B]: what each decision contributes.

    "top1" is C_j * p_j at the most probable expert j (the authors' code), "expectation" the mean of C under p.
    """
    areas_E = probs_BE.new_tensor(log2_areas_E)
    if value == "expectation":
        return probs_BE @ areas_E
    top_p_B, top_B = probs_BE.max(dim=-1)
    return top_p_B * areas_E[top_B]


def routing_loss(records: Sequence[ReductionRecord], config: RoutingLoss) -> Tensor | None:
    """max(0, target - mean value), before λ.

    Args:
        records: one per site; those without a router are skipped.
        config: target, reading of the value, and over what the mean is taken before the hinge: the whole
            batch and all sites, each site, or each sample.

    Returns:
        A scalar, or None where nothing was routed.
    """
    values = [
        decision_values(record.router_probs_BE, record.log2_areas_E, config.value)
        for record in records
        if record.router_probs_BE is not None and len(record.router_probs_BE)
    ]
    if not values:
        return None
    values_SB = torch.stack(values)
    means = {"batch": values_SB.mean()[None], "site": values_SB.mean(dim=1), "sample": values_SB.mean(dim=0)}
    return (config.target - means[config.aggregation]).clamp_min(0).mean()
