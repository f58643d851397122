"""Routers learned from what every route was measured to do (`settings.RouteFit`), and the dial that goes with them.

With all routes of a sample known, the expected loss of a policy is no estimate: it is the sum over routes of their
probability, a product of routers' softmaxes, times loss plus price times cost. Minimised with entropy, that is the
soft policy of its optimum: a router's logits become minus (loss + price * cost) over the entropy's weight, looked ahead
through the later sites as they decide themselves. So the budget dial, which adds to logits in proportion to what an
expert takes away, moves the price.

Shape letters: N samples, S sites, E experts of a site, P routes up to a site, R whole routes, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dpn_model.cost.flops import Convention
from dpn_model.methods.dpn.budget import build_dial
from dpn_model.methods.dpn.measured import Measured, measure
from dpn_model.methods.dpn.router import Router
from dpn_model.methods.dpn.settings import DpnSettings, RouteFit

Watch = Callable[[int, Sequence[Router]], None]
#: samples per step
_BATCH = 100
_WEIGHT_DECAY = 0.01
#: of the price, per step and unit of the mean FLOPs ratio
_DUAL_STEP = 0.02
#: log probabilities below count as this where they are multiplied with
_LEAST = -1e4
#: costs that differ by less are one
_TIE = 1e-3
#: of the dial's FLOPs ratios and of the prices
_CONVENTION: Convention = "swiglu"


class RouteLesson:
    """Measure, fit, calibrate: what a DPN with `route_fit` learns behind its training (`contract.Lesson`)."""

    def __init__(self, settings: DpnSettings) -> None:
        self.settings = settings
        self.num_samples = settings.route_fit.samples

    def look(self, model: Any, batches: Iterable[Mapping[str, Any]]) -> list[Measured]:
        """See `Lesson`."""
        return measure(model, batches, _CONVENTION)

    def learn(self, model: Any, seen: Sequence[list[Measured]]) -> Mapping[str, float]:
        """See `Lesson`. The dial is calibrated on the same samples."""
        measured = Measured.of([one for share in seen for one in share])
        routers: list[Router] = [site.router for site in model.parts.reducers.values()]
        fitted = fit_routers(routers, measured, self.settings.route_fit)
        for router, learned in zip(routers, fitted, strict=True):
            router.load_state_dict(learned.state_dict())
        model.set_dial(build_dial(measured.table(routers), _CONVENTION).to_dict())
        return _figures(fitted, measured)


def fit_routers(
    routers: Sequence[Router], measured: Measured, fit: RouteFit, watch: Watch | None = None
) -> list[Router]:
    """Fresh routers of the same form, fitted in float32 on the host; draws come from torch's generator.

    Args:
        routers: one per site.
        measured: with losses.
        fit: how.
        watch: called before every pass with its number and the routers as they stand.
    """
    routers = [deepcopy(router).float().cpu() for router in routers]
    for router in routers:
        router.reset_parameters()
        nn.init.zeros_(router.predictor.weight)  # all experts equally probable: no route is favoured by chance
    parameters = [parameter.requires_grad_(True) for router in routers for parameter in router.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=fit.lr, weight_decay=_WEIGHT_DECAY)
    losses_NR = measured.losses_NR.clamp(max=fit.ceiling).nan_to_num()  # a route that cannot be taken is never taken
    ratios_NR, feasible_NR = measured.ratios_NR.nan_to_num(), measured.is_feasible_NR
    steps, price = fit.passes * math.ceil(len(losses_NR) / _BATCH), fit.price
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for passed in range(fit.passes):
        if watch is not None:
            watch(passed, routers)
        for chosen in torch.randperm(len(losses_NR)).split(_BATCH):
            logits = [router(read[chosen]) for router, read in zip(routers, measured.states, strict=True)]
            log_p_NR = route_log_probs(logits, feasible_NR[chosen])
            value_NR = losses_NR[chosen] + price * ratios_NR[chosen]
            loss = _OBJECTIVES[fit.objective](logits, log_p_NR, value_NR, fit.entropy)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if fit.target is not None:
                mean = float((log_p_NR.detach().exp() * ratios_NR[chosen]).sum(dim=1).mean())
                price = max(0.0, price + _DUAL_STEP * (mean - fit.target))
    return routers


def _expected(logits: Sequence[Tensor], log_p_NR: Tensor, value_NR: Tensor, entropy: float) -> Tensor:
    return (log_p_NR.exp() * (value_NR + entropy * log_p_NR.clamp(min=_LEAST))).sum(dim=1).mean()


def _score(logits: Sequence[Tensor], log_p_NR: Tensor, value_NR: Tensor, entropy: float) -> Tensor:
    """A zero with an unbiased estimate of the gradient of `_expected`."""
    drawn_N2 = log_p_NR.detach().exp().multinomial(2, replacement=True)
    log_p_N2 = log_p_NR.gather(1, drawn_N2)
    cost_N2 = value_NR.gather(1, drawn_N2) + entropy * log_p_N2.detach()
    return ((cost_N2 - cost_N2.flip(1)) * (log_p_N2 - log_p_N2.detach())).mean()


def _ranking(logits: Sequence[Tensor], log_p_NR: Tensor, value_NR: Tensor, entropy: float) -> Tensor:
    """Mean over places, as often as the policy comes there, of the logistic loss of all pairs of experts.

    What lies behind an expert is the expected cost under the policy at the later sites, as it stands.
    """
    p_NR, losses = log_p_NR.detach().exp(), []
    for site, logits_NPE in enumerate(logits):
        shape = (*logits_NPE.shape, math.prod(one.shape[-1] for one in logits[site + 1 :]))
        share_NPE = p_NR.view(shape).sum(dim=-1)
        behind_NPE = (p_NR * value_NR).view(shape).sum(dim=-1) / share_NPE.clamp(min=1e-9)
        gain_NPEE = behind_NPE[..., None, :] - behind_NPE[..., None]  # of the first over the second
        apart_NPEE = logits_NPE[..., None] - logits_NPE[..., None, :]
        seen_NPEE = (share_NPE[..., None] > 1e-6) & (share_NPE[..., None, :] > 1e-6) & (gain_NPEE > _TIE)
        weight_NPEE = seen_NPEE * share_NPE.sum(dim=-1)[..., None, None] * gain_NPEE
        losses.append((weight_NPEE * softplus(-apart_NPEE)).sum(dim=(1, 2, 3)))
    return torch.stack(losses).sum(dim=0).mean()


_OBJECTIVES = {"expected": _expected, "score": _score, "ranking": _ranking}


def route_log_probs(logits: Sequence[Tensor], is_feasible_NR: Tensor) -> Tensor:
    """float[N, R]: log probability of every route; -inf where it is not feasible.

    Args:
        logits: per site, float[N, P, E].
        is_feasible_NR: bool.
    """
    log_p_NR = logits[0].new_zeros(len(is_feasible_NR), 1)
    for site, logits_NPE in enumerate(logits):
        behind = math.prod(one.shape[-1] for one in logits[site + 1 :])
        open_NPE = is_feasible_NR.view(*logits_NPE.shape, behind).any(dim=-1)
        # Where nothing is open the place is never reached: any number will do, but no NaN.
        masked_NPE = logits_NPE.masked_fill(~open_NPE & open_NPE.any(dim=-1, keepdim=True), -math.inf)
        log_p_NR = (log_p_NR[:, :, None] + masked_NPE.log_softmax(dim=-1)).flatten(1)
    return log_p_NR.masked_fill(~is_feasible_NR, -math.inf)


def _figures(routers: Sequence[Router], measured: Measured) -> dict[str, float]:
    """Of the most probable routes on the measured samples: their mean loss and cost beside the best and the dearest."""
    with torch.no_grad():
        logits = [router(read) for router, read in zip(routers, measured.states, strict=True)]
        log_p_NR = route_log_probs(logits, measured.is_feasible_NR)
        marginal_R = log_p_NR.exp().mean(dim=0)
        entropy_N = -(log_p_NR.exp() * log_p_NR.clamp(min=_LEAST)).sum(dim=1)
        chosen_N = log_p_NR.argmax(dim=1)
        losses_N, ratios_N = (
            values.gather(1, chosen_N[:, None]).squeeze(1) for values in (measured.losses_NR, measured.ratios_NR)
        )
        best_N = measured.losses_NR.nan_to_num(nan=math.inf).min(dim=1).values
    marginal = -(marginal_R * marginal_R.clamp(min=1e-12).log()).sum()
    return {
        "lesson/samples": float(len(losses_N)),
        "lesson/loss": float(losses_N.mean()),
        "lesson/loss_best_route": float(best_N.mean()),
        "lesson/flops_ratio": float(ratios_N.mean()),
        "lesson/entropy_of_mean": float(marginal),
        "lesson/information": float(marginal - entropy_N.mean()),
    }
