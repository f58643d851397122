"""What the routers do while they are trained: tokens kept, how sure they are, which experts they choose.

The keep ratios and entropies are metrics. The share of every expert is kept in the lines too, under `routes/`, and
told over time by `routing_history`: a tracker is slow with many series (spec platform-conventions 2.3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dpn_model.cost.ledger import Ledger
from dpn_model.methods.records import ReductionRecord
from dpn_platform.training.loop import StepResult
from dpn_platform.training.metric_lines import KEEP_RATIO, SHARES_PREFIX, Line
from dpn_platform.training.metrics import Sums


class RouterMonitor:
    """Meter of every site: `router/keep_ratio_layer_NN`, `router/entropy_layer_NN`, shares of its experts."""

    def local(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        """See `Meter`."""
        reports = [report for result in window for report in result.routing]
        sums: Sums = {}
        for place, (layer, experts) in enumerate(_sites(engine)):
            records = [report.records[place] for report in reports]
            sums[f"in_{layer}"] = sum(sum(record.tokens_in) for record in records)
            sums[f"out_{layer}"] = sum(sum(record.tokens_out) for record in records)
            sums |= _entropy(layer, records, engine.device)
            choices = Counter(choice for record in records for choice in record.choices)
            sums |= {f"chose_{layer}_{expert}": choices[expert] for expert in experts}
        return sums

    def line(self, engine: Any, window: Sequence[StepResult], total: Mapping[str, float]) -> Line:
        """See `Meter`. Nothing for a method without sites; keep ratios of 1 where no picture came."""
        sites = _sites(engine)
        if not sites:
            return {}
        line: Line = {KEEP_RATIO: _mean_keep_ratio(engine, [layer for layer, _ in sites], total)}
        for layer, experts in sites:
            before, after = total[f"in_{layer}"], total[f"out_{layer}"]
            line[f"{KEEP_RATIO}_layer_{layer:02d}"] = after / before if before else 1.0
            if total[f"decisions_{layer}"]:
                line[f"router/entropy_layer_{layer:02d}"] = total[f"entropy_{layer}"] / total[f"decisions_{layer}"]
            counts = {expert: total[f"chose_{layer}_{expert}"] for expert in experts}
            if chosen := sum(counts.values()):
                line |= {f"{SHARES_PREFIX}layer_{layer:02d}/{expert}": n / chosen for expert, n in counts.items()}
        return line


def _sites(engine: Any) -> list[tuple[int, tuple[str, ...]]]:
    """Layers of the sites, with the names of their experts (none for a method that has no experts)."""
    reducers = engine.module.reducers_by_layer()
    return [(layer, tuple(getattr(reducer, "expert_names", ()))) for layer, reducer in sorted(reducers.items())]


def _entropy(layer: int, records: Sequence[ReductionRecord], device: torch.device) -> Sums:
    """Summed over decisions, each over the entropy of the uniform choice: 1 is undecided, 0 certain."""
    probs = [record.router_probs_BE.detach() for record in records if record.router_probs_BE is not None]
    entropy: Tensor = torch.zeros((), device=device)
    if probs and probs[0].shape[1] > 1:
        entropy = torch.special.entr(torch.cat(probs).double()).sum() / math.log(probs[0].shape[1])
    return {f"entropy_{layer}": entropy, f"decisions_{layer}": sum(len(rows) for rows in probs)}


def _mean_keep_ratio(engine: Any, layers: Sequence[int], total: Mapping[str, float]) -> float:
    """Visual tokens kept, mean over the decoder's layers, over those that entered it."""
    before = total[f"in_{layers[0]}"]
    per_stage = [before, *(total[f"out_{layer}"] for layer in layers)]
    if not before:
        return 1.0
    num_layers = engine.module.model_shape.decoder.num_layers
    return Ledger.of_stages(num_layers, layers, per_stage, 0).mean_visual_tokens() / before  # type: ignore[arg-type]
