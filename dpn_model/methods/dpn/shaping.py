"""Batch-shaping: the distance of a batch's decisions from a prior on their spread (`settings.BatchShaping`).

Shape letters: B samples with an image, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.methods.dpn.routing_loss import compression_rates, decision_values
from dpn_model.methods.dpn.settings import BatchShaping
from dpn_model.methods.records import ReductionRecord

_EDGE = 1e-4  # at 0 and 1 the density of the prior is infinite


def shaping_loss(records: Sequence[ReductionRecord], settings: BatchShaping) -> Tensor | None:
    """Mean over sites of the Cramér-von Mises distance between decisions and prior.

    A site's decision is the expected log2 of the kernel's area, over the largest of its experts.

    Args:
        records: one per site; those without a router, with one compression alone, or of one sample, which has no
            spread, are skipped.
        settings: the prior.

    Returns:
        A scalar, or None where there is nothing to shape.
    """
    distances = []
    for record in records:
        rates = compression_rates(record.kernels_E, "log2_area")
        if record.router_probs_BE is None or len(record.router_probs_BE) < 2 or max(rates) <= min(rates):
            continue
        scale = max(rates) - min(rates)
        scaled = [(rate - min(rates)) / scale for rate in rates]
        values_B = decision_values(record.router_probs_BE, scaled, "expectation").sort().values
        distances.append(_distance(values_B, settings))
    return torch.stack(distances).mean() if distances else None


def _distance(values_B: Tensor, settings: BatchShaping) -> Tensor:
    """Of sorted values from the prior's distribution function F(x) = 1 - (1 - x^a)^b."""
    inside_B = values_B.clamp(_EDGE, 1 - _EDGE)
    prior_B = 1 - (1 - inside_B**settings.a) ** settings.b
    count = len(values_B)
    places_B = (torch.arange(count, device=values_B.device, dtype=values_B.dtype) + 0.5) / count
    return ((prior_B - places_B) ** 2).mean()
