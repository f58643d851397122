"""One checkpoint, many budgets: calibrate a DPN once, then reach any mean FLOPs ratio without retraining.

    calibrate(model, batches)
    model.set_budget(flops_ratio=0.40)

Calibration runs the samples along every route up to the last site and notes what the router says there. A router's
logits at a place in the tree of routes do not depend on the dial, so everything after that is arithmetic
(`budget`).

Shape letters: N samples, E experts, P routes up to a site.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dpn_model.cost.flops import CONVENTIONS, Convention, DecoderShape
from dpn_model.cost.ledger import sample_cost
from dpn_model.methods.dpn.budget import Dial, RouteTable, build_dial
from dpn_model.methods.dpn.reducer import DynamicPoolingExperts
from dpn_model.methods.dpn.routing_loss import compression_rates
from dpn_model.methods.dpn.settings import DpnSettings
from dpn_model.methods.dpn.steering import DpnSteering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpn_model.modeling import DpnForConditionalGeneration
    from dpn_model.outputs import RoutingReport

#: passes over the samples that a calibration may take: experts to the power of (sites - 1)
MAX_PASSES = 256


def calibrate(
    model: DpnForConditionalGeneration, samples: Iterable[Mapping[str, Any]], convention: Convention = "eq8"
) -> Dial:
    """Measure what every budget takes on these samples, and keep it in `model.config.dial`.

    The dial then stands at no budget. Samples without an image cost the same on every route and are left out of the
    means, here and wherever a request is to be met. On these samples a request is met to within `budget.STEP`, or one
    sample's step; on others there remains the sampling error of both sets, which is the router's: the spread of costs
    between samples over the root of their number. The dial does not narrow that spread.

    Args:
        model: a DPN; its mode (training or not) is kept.
        samples: batches of any size, as `forward` takes them; labels are ignored. Passed over several times.
        convention: in which FLOPs ratios are measured (`dpn_model.cost.flops`).

    Raises:
        ValueError: no router to bias, no sample with an image, too many routes, or an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention = {convention!r}; allowed: {', '.join(CONVENTIONS)}")
    steering = model.parts.steering
    if not isinstance(steering, DpnSteering):
        raise ValueError(f"method {model.config.method['name']} has no budget dial; only {DpnSettings.name} has")
    sites = steering.sites
    sizes = [len(site.kernels) for site in sites]
    if math.prod(sizes[:-1]) > MAX_PASSES:
        raise ValueError(
            f"experts per site {sizes} make {math.prod(sizes[:-1])} routes up to the last site; allowed: {MAX_PASSES}"
        )
    batches = [{name: value for name, value in batch.items() if name != "labels"} for batch in samples]
    tree = _RouteTree(sites, DecoderShape.from_config(model.model.language_model.config), convention)
    with _undisturbed(model, sites), torch.no_grad():
        for route in product(*(range(size) for size in sizes[:-1])):
            for site, expert in zip(sites, (*route, None), strict=True):
                site.favoured_expert = expert
            seen = 0
            for batch in batches:
                seen += tree.read(model(**batch).routing, seen)
    if not tree.visual_tokens:
        raise ValueError("samples hold no image; the dial needs samples whose visual tokens can be reduced")
    dial = build_dial(tree.table(), convention)
    model.set_dial(dial.to_dict())
    return dial


@contextmanager
def _undisturbed(model: DpnForConditionalGeneration, sites: Sequence[DynamicPoolingExperts]) -> Iterator[None]:
    """Inference without forced routes; mode, routes and biases are as before afterwards."""
    was_training, before = model.training, [(site.forced_expert, site.threshold) for site in sites]
    model.eval()
    for site in sites:
        site.forced_expert = site.threshold = None
    try:
        yield
    finally:
        model.train(was_training)
        for site, (forced, threshold) in zip(sites, before, strict=True):
            site.forced_expert, site.threshold, site.favoured_expert = forced, threshold, None


class _RouteTree:
    """Collects, per sample with an image and per route up to a site, the router's logits and every expert's tokens."""

    def __init__(self, sites: Sequence[DynamicPoolingExperts], shape: DecoderShape, convention: Convention) -> None:
        self.shape, self.convention = shape, convention
        self.layers = tuple(site.layer for site in sites)
        self.sizes = [len(site.kernels) for site in sites]
        self.rates = [np.asarray(compression_rates(site.kernels, "log2_area")) for site in sites]
        #: by (sample, experts so far): logits and tokens per expert
        self.places: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, tuple[int, ...]]] = {}
        self.visual_tokens: dict[int, int] = {}
        self.text_tokens: dict[int, int] = {}

    def read(self, routing: RoutingReport, first: int) -> int:
        """Take in a batch whose first sample with an image has number `first`; returns how many it holds."""
        with_image = [b for b, tokens in enumerate(routing.visual_tokens) if tokens]
        logits = [r.router_logits_BE.double().cpu().numpy() for r in routing.records if r.router_logits_BE is not None]
        for place, sample in enumerate(with_image):
            number = first + place
            self.visual_tokens[number] = routing.visual_tokens[sample]
            self.text_tokens[number] = routing.text_tokens[sample]
            path: tuple[int, ...] = ()
            for record, logits_BE in zip(routing.records, logits, strict=True):
                self.places[number, path] = (logits_BE[place], record.expert_tokens_BE[place])
                path = (*path, record.expert_index[place])
        return len(with_image)

    def table(self) -> RouteTable:
        """Dense arrays; logits of a route that a sample cannot take are -inf, its ratio NaN."""
        count = len(self.visual_tokens)
        widths = [math.prod(self.sizes[:site]) for site in range(len(self.sizes) + 1)]
        logits = [np.full((count, width, size), -np.inf) for width, size in zip(widths, self.sizes, strict=False)]
        ratios = np.full((count, widths[-1]), np.nan)
        for (number, path), (logits_E, tokens_E) in self.places.items():
            place = self._index(path)
            logits[len(path)][number, place] = logits_E
            if len(path) == len(self.sizes) - 1:
                for expert in np.flatnonzero(tokens_E):
                    ratios[number, place * self.sizes[-1] + expert] = self._ratio(number, (*path, int(expert)))
        return RouteTable(self.rates, logits, ratios)

    def _index(self, path: Sequence[int]) -> int:
        index = 0
        for size, expert in zip(self.sizes, path, strict=False):
            index = index * size + expert
        return index

    def _ratio(self, number: int, route: tuple[int, ...]) -> float:
        tokens = [self.places[number, route[:site]][1][expert] for site, expert in enumerate(route)]
        stages = (self.visual_tokens[number], *tokens)
        return sample_cost(self.shape, self.layers, stages, self.text_tokens[number], self.convention).ratio
