"""The hinge of eq. 6, in the readings of spec A.5.

Shape letters: B samples with an image, E experts, S sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dpn_model.methods.dpn.settings import RoutingLoss
from dpn_model.methods.records import ReductionRecord

_COMPRESSION: Mapping[str, Callable[[int, int], float]] = {
    "log2_area": lambda height, width: math.log2(height * width),
    "area": lambda height, width: float(height * width),
    "sqrt_area": lambda height, width: math.sqrt(height * width),
    "mean_stride": lambda height, width: (height + width) / 2,
}


def compression_rates(kernels_E: Sequence[tuple[int, int]], compression: str) -> tuple[float, ...]:
    """C of eq. 6 for every kernel (height, width), as `RoutingLoss.compression` reads it."""
    return tuple(_COMPRESSION[compression](*kernel) for kernel in kernels_E)


def decision_values(probs_BE: Tensor, rates_E: Sequence[float], value: str) -> Tensor:
    """float[B]: what each decision contributes, as `RoutingLoss.value` reads it.

    In "top1", ties go to the first expert.
    """
    rates = probs_BE.new_tensor(rates_E)
    if value == "top1":
        top_p_B, top_B = probs_BE.max(dim=-1)
        return top_p_B * rates[top_B]
    values_B = probs_BE @ rates
    return values_B / len(rates_E) if value == "expert_mean" else values_B


def routing_loss(records: Sequence[ReductionRecord], config: RoutingLoss) -> Tensor | None:
    """max(0, target - mean value), before λ.

    Args:
        records: one per site; those without a router are skipped.
        config: target, readings, and over what the mean is taken before the hinge.

    Returns:
        A scalar, or None where nothing was routed.
    """
    values = [
        decision_values(record.router_probs_BE, compression_rates(record.kernels_E, config.compression), config.value)
        for record in records
        if record.router_probs_BE is not None and len(record.router_probs_BE)
    ]
    if not values:
        return None
    values_SB = torch.stack(values)
    means = {"batch": values_SB.mean()[None], "site": values_SB.mean(dim=1), "sample": values_SB.mean(dim=0)}
    hinge = (config.target - means[config.aggregation]).clamp_min(0).mean()
    return hinge.detach() if config.is_detached else hinge
