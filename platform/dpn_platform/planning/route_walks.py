"""What answering every question on all routes of a method takes, beside its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpn_model import DpnConfig
from dpn_model.bases.shapes import model_shape
from dpn_model.cost.bill import ModelShape, cost_parts
from dpn_model.cost.flops import UNITS_PER_MAC
from dpn_model.cost.ledger import Ledger, sample_cost
from dpn_platform.config.method import MethodConfig
from dpn_platform.evaluation.answering.variants import on_every_route
from dpn_platform.planning.methods import Bounds, counted_tower, image_grid, method_plan


def all_routes(base: DpnConfig, methods: Sequence[MethodConfig], text_tokens: int) -> dict[str, Bounds]:
    """What it takes to answer a question on every route too, the tower's features being there from the first answer.

    Routes that a method walks share their beginnings; where each is run by itself, all of them together cost something
    between as many of the cheapest and as many of the dearest.

    Returns:
        `routes`: their number; `flops_per_question`; `dense_passes`: that in passes of the decoder over all tokens.

    Raises:
        DpnError: more routes than are answered together.
    """
    shape = model_shape(base.base)
    dense = sample_cost(shape.decoder, (), (math.prod(image_grid(base)),), text_tokens, "true").total
    counts, costs = [], []
    for method in methods:
        routes = method.spec.routes(method.settings, shape) if method.spec.routes is not None else ()
        counts.append(len(on_every_route(routes, method.name)) if routes else 0)
        if method.spec.walks is not None:
            head = counts[-1] * shape.decoder.hidden_size * shape.decoder.vocab_size
            costs.append(UNITS_PER_MAC["true"] * (method.spec.walks(method.settings, shape, text_tokens) + head))
        else:
            costs += [counts[-1] * _answer(shape, ledger) for ledger in method_plan(base, method, text_tokens)]
    return {
        "routes": Bounds(min(counts), max(counts)),
        "flops_per_question": Bounds(min(costs), max(costs)),
        "dense_passes": Bounds(min(costs) / dense, max(costs) / dense),
    }


def _answer(shape: ModelShape, ledger: Ledger) -> int:
    """Operations of an answer's first token behind tower and projector."""
    parts = cost_parts(counted_tower(shape), ledger, "true")
    return parts.prefill + parts.method + parts.lm_head
