"""How routers are learned from measured routes: every objective and remedy alone, on one checkpoint of all routes.

    python -m tests.benchmarks.routing_ablations CHECKPOINT DATA [--train 1500] [--test 4000] [--curves FILE]

CHECKPOINT is the export of a run with `method.sandwich`, DATA a published data set. Its routes are measured once on
training rows, from which routers are fitted anew for each line, and once on held-out rows, on which they are judged:
by teacher forcing, an answer is right where every token is the most probable one, as in greedy decoding. The gain is
over the best mixture of two fixed routes at equal mean cost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.dpn.measured import Measured, measure
from dpn_model.methods.dpn.route_fit import fit_routers, route_log_probs
from dpn_model.methods.dpn.router import Router
from dpn_model.methods.dpn.settings import RouteFit
from dpn_platform.config.load import parse_config
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.data.reading.collate import SampleCollator
from dpn_platform.evaluation.answering.loading import load_ours, local_folder
from dpn_platform.training.held_out import batches_of
from dpn_platform.training.loop import to_device

SEEDS = 3
#: bias per log2 of an expert's area, at which a fit is read: a dial
BIASES = np.arange(-1.0, 2.01, 0.05)
COST = 0.48
FITS: dict[str, dict[str, Any]] = {
    "expected cost (the recipe)": {},
    "labels off policy: later sites leave all": {"off_policy": True},
    "score function, two draws": {"objective": "score"},
    "score function, four times the passes": {"objective": "score", "passes": 240},
    "ranking of pairs": {"objective": "ranking"},
    "batch held to 0.48 by its price": {"target": 0.48},
    "ranking, batch held to 0.48": {"objective": "ranking", "target": 0.48},
    "entropy 0.2: soft to the end": {"entropy": 0.2},
    "entropy 0.002: greedy": {"entropy": 0.002},
    "no ceiling on losses": {"ceiling": 100.0},
    "375 samples": {"samples": 375},
    "only the first site decides": {"blind": (1, 2)},
    "the first site decides nothing": {"blind": (0,)},
}


@dataclass(frozen=True)
class Routes:
    """Samples on all routes; `right_NR` says which answers are right."""

    measured: Measured
    right_NR: Tensor


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--test", type=int, default=4000)
    parser.add_argument("--curves", help="JSON file of entropy, information and regret before every pass")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with local_folder(given.checkpoint) as folder:
        model, processor = load_ours(folder)
    model.eval()
    collate = SampleCollator(processor, router=True)
    config = parse_config({"name": "ablations", "data": {"uri": given.data}}, "ablations")
    train = routes_of(model, config, collate, "train", given.train)
    test = routes_of(model, config, collate, "test", given.test)
    costs, accuracies = test.measured.ratios_NR.mean(dim=0).numpy(), test.right_NR.float().mean(dim=0).numpy()
    print(f"{len(test.right_NR)} questions; dearest route {accuracies[0]:.3f}, cheapest {accuracies[-1]:.3f}")
    print(f"{'fit':44s} {'routers alone':>24s} {f'dial at {COST}':>24s}  entropy  information")
    curves = {}
    for name, settings in FITS.items():
        found = [line_of(model, train, test, dict(settings), seed, costs, accuracies) for seed in range(SEEDS)]
        alone, turned = (np.mean([one[key] for one in found], axis=0) for key in ("alone", "turned"))
        curves[name] = found[0]["curve"]
        entropy, information = (np.mean([one["curve"][-1][key] for one in found]) for key in ("entropy", "information"))
        print(f"{name:44s} {told(alone)} {told(turned)}  {entropy:7.2f}  {information:7.2f}", flush=True)
    if given.curves:
        with open(given.curves, "w") as file:
            json.dump(curves, file)


def told(point: Sequence[float]) -> str:
    return f"{100 * point[0]:6.1f}% at {point[1]:.3f} {100 * point[2]:+5.1f}"


def routes_of(model: Any, config: Any, collate: SampleCollator, split: str, rows: int) -> Routes:
    """Evenly spaced rows of a split on all routes."""
    count = load_manifest(config.data.uri).split(split).rows
    places = np.unique(np.linspace(0, count - 1, min(rows, count)).round().astype(np.int64))
    losses_of, walk_of = model.token_losses, model.walk_routes
    is_right: list[Tensor] = []

    def token_losses(final: Any, labels_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses_R, sample_R, logits_RC = losses_of(final, labels_T)
        is_wrong_R = logits_RC.logsumexp(dim=-1) - logits_RC.amax(dim=-1) < losses_R - 1e-6
        is_right.append(torch.zeros(final.num_samples).index_add(0, sample_R, is_wrong_R.float()) == 0)
        return losses_R, sample_R, logits_RC

    def walk_routes(**batch: Any) -> Any:
        walk, losses_NR = walk_of(**batch)
        is_right[-1] = walk.by_route(is_right[-1])[list(walk.pictured)]
        return walk, losses_NR

    model.token_losses, model.walk_routes = token_losses, walk_routes
    batches = batches_of(config, split, places, collate)
    inputs = (to_device(batch, torch.device("cpu"), torch.float32) for batch in batches)
    measured = Measured.of(measure(model, inputs, "swiglu"))
    del model.token_losses, model.walk_routes
    return Routes(measured, torch.cat(is_right))


def line_of(
    model: Any, train: Routes, test: Routes, settings: dict[str, Any], seed: int, costs: np.ndarray, accs: np.ndarray
) -> dict[str, Any]:
    """One fit: its routers alone, and at COST by the dial; (accuracy, cost, gain) each."""
    measured, curve = train.measured, []
    off_policy, blind = settings.pop("off_policy", False), settings.pop("blind", ())
    if (samples := settings.pop("samples", None)) is not None:
        measured = part_of(measured, torch.linspace(0, len(measured.losses_NR) - 1, samples).long())
    if off_policy:
        measured = replace(measured, losses_NR=later_sites_leave_all(measured))
    if blind:
        measured = replace(measured, states=blinded(measured.states, blind))
    watched, judged = (replace(one.measured, states=blinded(one.measured.states, blind)) for one in (train, test))
    torch.manual_seed(seed)
    own = [site.router for site in model.parts.reducers.values()]
    fit = RouteFit(samples=len(measured.losses_NR), **settings)
    fitted = fit_routers(own, measured, fit, lambda number, routers: curve.append(figures(routers, watched)))
    curve.append(figures(fitted, watched))
    points = [read_at(fitted, judged, test.right_NR, bias, costs, accs) for bias in BIASES]
    turned = min(points, key=lambda point: abs(point[1] - COST))
    return {"alone": read_at(fitted, judged, test.right_NR, 0.0, costs, accs), "turned": turned, "curve": curve}


def blinded(states: Sequence[Tensor], sites: Sequence[int]) -> tuple[Tensor, ...]:
    """What routers read, but for those of some sites, which read nothing."""
    return tuple(torch.zeros_like(read) if site in sites else read for site, read in enumerate(states))


def part_of(measured: Measured, rows: Tensor) -> Measured:
    rest = (measured.is_feasible_NR, measured.ratios_NR, measured.losses_NR)
    return Measured(measured.kernels, tuple(read[rows] for read in measured.states), *(one[rows] for one in rest))


def later_sites_leave_all(measured: Measured) -> Tensor:
    """Losses as if everything behind the first expert that takes something away took nothing (the "oracle labels")."""
    sizes = [len(kernels) for kernels in measured.kernels]
    losses = measured.losses_NR.view(-1, *sizes).clone()
    for site in range(len(sizes) - 1):
        for expert in range(1, sizes[site]):
            place = (slice(None), *(0,) * site, expert)
            losses[place] = losses[(*place, *(0,) * (len(sizes) - site - 1))].view(-1, *(1,) * (len(sizes) - site - 1))
    return losses.flatten(1)


@torch.no_grad()
def figures(routers: Sequence[Router], measured: Measured) -> dict[str, float]:
    """Entropy of the mean policy, the samples' information about routes (nats), regret of the most probable route."""
    logits = [router(read) for router, read in zip(routers, measured.states, strict=True)]
    p_NR = route_log_probs(logits, measured.is_feasible_NR).exp()
    entropy_of = lambda p: float(-(p * p.clamp(min=1e-12).log()).sum(dim=-1).mean())  # noqa: E731
    marginal = entropy_of(p_NR.mean(dim=0))
    value_NR = measured.losses_NR.clamp(max=1.0) + 0.1 * measured.ratios_NR
    regret = value_NR.gather(1, p_NR.argmax(dim=1, keepdim=True)).squeeze(1) - value_NR.min(dim=1).values
    return {"entropy": marginal, "information": marginal - entropy_of(p_NR), "regret": float(regret.mean())}


@torch.no_grad()
def read_at(
    routers: Sequence[Router], measured: Measured, right_NR: Tensor, bias: float, costs: np.ndarray, accs: np.ndarray
) -> tuple[float, float, float]:
    rows, path = torch.arange(len(right_NR)), torch.zeros(len(right_NR), dtype=torch.long)
    for router, read, kernels in zip(routers, measured.states, measured.kernels, strict=True):
        areas = torch.tensor([float(np.log2(height * width)) for height, width in kernels])
        path = path * len(kernels) + (router(read[rows, path]) + bias * areas).argmax(dim=-1)
    accuracy, cost = float(right_NR[rows, path].float().mean()), float(measured.ratios_NR[rows, path].mean())
    return accuracy, cost, accuracy - static_mixture(cost, costs, accs)


def static_mixture(cost: float, costs: np.ndarray, accuracies: np.ndarray) -> float:
    """Accuracy of the best mixture of two routes, or one cheaper route, at this mean cost."""
    best = float(accuracies[costs <= cost + 1e-9].max(initial=0.0))
    for low, of_low in zip(costs, accuracies, strict=True):
        for high, of_high in zip(costs, accuracies, strict=True):
            if low <= cost < high:
                best = max(best, float(of_low + (of_high - of_low) * (cost - low) / (high - low)))
    return best


if __name__ == "__main__":
    main()
