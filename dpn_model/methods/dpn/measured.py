"""What every route did to some samples: the walks of several batches, put together.

Shape letters: N samples with a picture, E experts of a site, P routes up to a site, R whole routes, D model width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from dpn_model.cost.flops import Convention
from dpn_model.cost.ledger import sample_cost
from dpn_model.methods.dpn.budget import RouteTable
from dpn_model.methods.dpn.router import Router
from dpn_model.methods.dpn.routing_loss import compression_rates

if TYPE_CHECKING:
    from dpn_model.methods.dpn.reducer import DynamicPoolingExperts
    from dpn_model.modeling import DpnForConditionalGeneration

IGNORE_INDEX = -100
Kernels = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Measured:
    """Of samples with a picture, on the host in float32.

    Attributes:
        kernels: of every site's experts.
        states: per site, float[N, P, D], what its router reads.
        is_feasible_NR: bool.
        ratios_NR: FLOPs ratio of every route; NaN where it is not feasible.
        losses_NR: mean cross entropy over the sample's supervised tokens; NaN there too, and without labels.
    """

    kernels: tuple[Kernels, ...]
    states: tuple[Tensor, ...]
    is_feasible_NR: Tensor
    ratios_NR: Tensor
    losses_NR: Tensor

    @classmethod
    def of(cls, parts: Sequence[Measured]) -> Measured:
        """Those of all parts.

        Raises:
            ValueError: there is none.
        """
        if not parts:
            raise ValueError(
                "samples hold no image (with labels: none with an answer); routes need visual tokens to reduce"
            )
        states = tuple(torch.cat(reads) for reads in zip(*(part.states for part in parts), strict=True))
        rest = [(part.is_feasible_NR, part.ratios_NR, part.losses_NR) for part in parts]
        return cls(parts[0].kernels, states, *(torch.cat(tensors) for tensors in zip(*rest, strict=True)))

    @torch.no_grad()
    def table(self, routers: Sequence[Router]) -> RouteTable:
        """As the dial is built from it: what these routers say at every place of the tree."""
        logits = []
        for site, (router, read) in enumerate(zip(routers, self.states, strict=True)):
            weight = next(router.parameters())
            logits_NPE = router(read.to(weight)).float().cpu()
            behind = int(np.prod([len(kernels) for kernels in self.kernels[site + 1 :]], dtype=int))
            open_NPE = self.is_feasible_NR.view(*logits_NPE.shape, behind).any(dim=-1)
            logits.append(logits_NPE.masked_fill(~open_NPE, -np.inf).double().numpy())
        rates = [np.asarray(compression_rates(kernels, "log2_area")) for kernels in self.kernels]
        return RouteTable(rates, logits, self.ratios_NR.double().numpy())


def measure(
    model: DpnForConditionalGeneration, batches: Iterable[Mapping[str, Any]], convention: Convention
) -> list[Measured]:
    """Walk the routes of every batch. Samples without a picture are left out, and with labels those without an answer.

    Args:
        model: a DPN, in evaluation; nobody steers it.
        batches: as `forward` takes them; with labels all of them, or none.
        convention: of the ratios.

    Returns:
        Of every batch that holds such samples.
    """
    found = []
    decoder, layers = model.model_shape.decoder, tuple(model.parts.reducers)
    kernels = tuple(cast("DynamicPoolingExperts", site).kernels for site in model.parts.reducers.values())

    @cache
    def ratio(stages: tuple[int, ...], text_tokens: int) -> float:
        return sample_cost(decoder, layers, stages, text_tokens, convention).ratio

    for batch in batches:
        walk, losses_NR = model.walk_routes(**batch)
        kept = list(walk.pictured)
        if losses_NR is not None:
            kept = [sample for sample in kept if bool(losses_NR[sample].isfinite().all())]
        if not kept:
            continue
        places = [walk.pictured.index(sample) for sample in kept]
        is_feasible_NR = torch.from_numpy(walk.is_feasible_NR[kept])
        reports = [walk.routing(route) for route in range(len(walk.routes))]
        # Costs are of prompts: that is what a route is chosen for.
        answers = [0] * walk.num_samples if losses_NR is None else (batch["labels"] != IGNORE_INDEX).sum(dim=1).tolist()
        prompts = {sample: reports[0].text_tokens[sample] - answers[sample] for sample in kept}
        ratios = [[ratio(one.visual_tokens_per_stage(each), prompts[each]) for one in reports] for each in kept]
        ratios_NR = torch.tensor(ratios).masked_fill(~is_feasible_NR, np.nan)
        losses = torch.full_like(ratios_NR, np.nan) if losses_NR is None else losses_NR[kept].float().cpu()
        states = tuple(read[places].float().cpu() for read in walk.states)
        losses = losses.masked_fill(~is_feasible_NR, np.nan)
        found.append(Measured(kernels, states, is_feasible_NR, ratios_NR, losses))
    return found
