"""All routes of a batch in one pass: the tree of routes, every stage once per distinct beginning.

Tower and projector run once, the layers up to the first site once, those up to the second once per expert of the first,
and so on. At a site the batch becomes as many times larger as there are experts, so one pass of the decoder does it: 27
routes of three sites at 1/4, 1/2 and 3/4 of the depth cost about four dense passes, where 27 runs cost about sixteen.

Shape letters: N samples, S sites, E experts of a site, P routes up to a site, R whole routes, D model width, C
vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.cache import PackedCache
from dpn_model.layers import embedding_scale, layer_arguments
from dpn_model.methods.contract import ChoosingReducer, Parts
from dpn_model.methods.records import ReductionRecord
from dpn_model.outputs import RoutingReport
from dpn_model.packed_inputs import Packed
from dpn_model.packing import PackedSequence


@dataclass(frozen=True)
class RouteWalk:
    """What every route made of every sample of a batch.

    Leaves are (route, sample) pairs, in the order that branching leaves them: the last site's expert is the slowest
    index, the sample the fastest. `leaves` says where a pair is.

    Attributes:
        routes: names of the experts, the first site's the slowest: as `itertools.product` counts.
        sizes: experts per site.
        is_feasible_NR: bool, on the host; a route that a sample cannot take ran as another, and is not to be used.
        states: per site, float[N, P, D], what its router reads behind every route up to it; only of the samples with a
            picture.
        pictured: which samples these are.
        final: the batch of all leaves behind the final norm; None where the walk ended at the last site.
        records: per site, of E times the samples that came to it.
        report: of what happened before the decoder, for all routes.
    """

    routes: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]
    is_feasible_NR: np.ndarray
    states: tuple[Tensor, ...]
    pictured: tuple[int, ...]
    final: PackedSequence | None
    records: tuple[ReductionRecord, ...]
    report: RoutingReport

    @property
    def num_samples(self) -> int:
        """N."""
        return len(self.is_feasible_NR)

    @property
    def leaves_RN(self) -> np.ndarray:
        """int64[R, N]: where the leaf of a route and a sample is."""
        return self._places(len(self.sizes))

    def _places(self, sites: int) -> np.ndarray:
        """int64[P, N]: where every route through the first `sites` sites has a sample behind them."""
        shape = (*self.sizes[:sites][::-1], self.num_samples)
        places = np.arange(math.prod(shape)).reshape(shape)
        return places.transpose(*range(sites - 1, -1, -1), sites).reshape(-1, self.num_samples)

    def routing(self, route: int) -> RoutingReport:
        """The report of all samples on one route (its number), as a pass that was forced on it would have left it."""
        records, index = [], route
        below = math.prod(self.sizes)
        for site, record in enumerate(self.records):
            below //= self.sizes[site]
            path = index // below
            records.append(_of_samples(record, self._places(site + 1)[path].tolist()))
        return replace(self.report, records=(*self.report.records, *records))

    def by_route(self, leaves: Tensor) -> Tensor:
        """[leaves, ...] to [N, R, ...]."""
        return leaves[torch.from_numpy(self.leaves_RN.T.copy()).to(leaves.device)]


def choosing_sites(parts: Parts) -> list[ChoosingReducer]:
    """The reducers of a method that only chooses, in order of depth.

    Raises:
        ValueError: another method's parts.
    """
    sites = [reducer for _, reducer in sorted(parts.reducers.items()) if isinstance(reducer, ChoosingReducer)]
    if not sites or len(sites) < len(parts.all()):
        raise ValueError("all routes are walked at once only where a method does nothing but choose among experts")
    return sites


@torch.no_grad()
def walk_routes(
    language_model: Any,
    packed: Packed,
    report: RoutingReport,
    parts: Parts,
    cache: PackedCache | None = None,
    *,
    to_the_end: bool = True,
) -> RouteWalk:
    """Walk.

    Args:
        language_model: as in `run_decoder`.
        packed: the batch in front of the first layer.
        report: of what happened before the decoder; sites are added.
        parts: of the method.
        cache: filled, for all leaves.
        to_the_end: whether leaves run the layers behind the last site.
    """
    sites = choosing_sites(parts)
    by_layer = {site.layer: site for site in sites}
    state, count = packed.state, packed.state.num_samples
    pictured = tuple(sorted({image.sample for image in state.images}))
    sizes = tuple(len(site.expert_names) for site in sites)
    is_feasible_RN = np.ones((1, count), dtype=bool)  # of the routes so far, in the order of branching
    states: list[Tensor] = []
    records: list[ReductionRecord] = []
    state = state.with_hidden(state.hidden_TD * embedding_scale(language_model))
    arguments: list[dict[str, object]] = []
    for number in range(len(language_model.layers) + 1):
        if number:
            hidden_TD = language_model.layers[number - 1](state.hidden_TD[None], **arguments[number - 1])[0]
            state = state.with_hidden(hidden_TD).injected()
        if number in by_layer:
            site = by_layer[number]
            if pictured:
                states.append(_by_path(site.read(state), sizes[: len(states)]))
            state, record, feasible_EB = site.branched(state)
            records.append(record)
            is_feasible_RN = (feasible_EB.reshape(-1, *is_feasible_RN.shape) & is_feasible_RN).reshape(-1, count)
        if len(records) == len(sites) and not to_the_end:
            break
        if number in by_layer or not number:
            arguments = layer_arguments(language_model, state, cache)
    final = state.with_hidden(language_model.norm(state.hidden_TD)) if to_the_end else None
    routes = tuple(product(*(site.expert_names for site in sites)))
    walk = RouteWalk(routes, sizes, is_feasible_RN.T, tuple(states), pictured, final, tuple(records), report)
    if cache is not None:
        cache.tile(len(routes) * count)
    return replace(walk, is_feasible_NR=is_feasible_RN.reshape(-1)[walk.leaves_RN].T)


def _by_path(read_BD: Tensor, sizes: Sequence[int]) -> Tensor:
    """float[P * N', D] in the order of branching to float[N', P, D]."""
    sites, width = len(sizes), read_BD.shape[-1]
    read = read_BD.reshape(*sizes[::-1], -1, width).permute(sites, *range(sites - 1, -1, -1), sites + 1)
    return read.reshape(-1, math.prod(sizes), width)


def _of_samples(record: ReductionRecord, samples: Sequence[int]) -> ReductionRecord:
    pick = lambda values: tuple(values[sample] for sample in samples)  # noqa: E731
    macs = {tag: pick(spent) for tag, spent in record.macs.items()}
    return ReductionRecord(
        record.layer, pick(record.tokens_in), pick(record.tokens_out), pick(record.choices), macs=macs
    )
