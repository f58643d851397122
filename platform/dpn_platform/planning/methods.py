"""What runs, and what each method does to the tokens of a sample: sites, cheapest and dearest route, FLOPs ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

from pydantic import ValidationError

from dpn_model import DpnConfig
from dpn_model.bases.shapes import model_shape
from dpn_model.cost.bill import ModelShape, cost_parts
from dpn_model.cost.flops import CONVENTIONS, MAC_CONVENTIONS
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.settings import MethodSettings
from dpn_model.methods.spec import ASSUMED_GRID, Dimension, Planned
from dpn_platform.config.budgets import at_budgets
from dpn_platform.config.controls import ControlTrial, all_control_trials
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.method import MethodConfig, laid_over, method_config
from dpn_platform.config.schema import ExperimentConfig


@dataclass(frozen=True)
class Bounds:
    """The cheapest and the dearest route a method can take."""

    low: float
    high: float


def batch_arithmetic(config: ExperimentConfig) -> dict[str, int]:
    """Steps and samples of one run."""
    train = config.train
    return {
        "steps": train.steps,
        "global_batch_size": train.global_batch_size,
        "micro_batch_size": train.micro_batch_size,
        "num_workers": train.num_workers,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "samples": train.steps * train.global_batch_size,
        "checkpoints": -(-train.steps // train.checkpoint_every_steps),
    }


class PlannedRun(NamedTuple):
    """Trials that are planned as one.

    Attributes:
        methods: of a search, every corner of its space: all choices, and both ends of every range.
        trials: that are trained; 0 of what is evaluated on another's checkpoint.
        evaluations: of checkpoints, at every point of their dials.
    """

    name: str
    methods: list[MethodConfig]
    trials: int
    evaluations: int


def planned_methods(config: ExperimentConfig, base: DpnConfig) -> list[PlannedRun]:
    """What will run: the controls and the search's trials, or the one run.

    Raises:
        ConfigError: choices that do not go together, or a control that cannot reach its budget.
    """
    if config.sweep is None:
        return [PlannedRun(config.method.name, [config.method], 1, 0)]
    before = config.method.model_dump(mode="json")
    runs: dict[str, PlannedRun] = {}
    for control in settled_controls(config, base)[0]:
        name = control.key if control.seed == 0 else control.key.rpartition("-seed-")[0] + "-seed-0"
        run = runs.get(name) or PlannedRun(name, [method_config(laid_over(before, control.method))], 0, 0)
        runs[name] = run._replace(trials=run.trials + (control.on is None), evaluations=run.evaluations + 1)
    found = list(runs.values())
    spaces = config.sweep.search.spaces if config.sweep.num_proposals else {}
    # Which method a proposal is for, the sampler decides: each is planned with its share.
    trials = -(-config.sweep.num_proposals * config.sweep.replicates // max(1, len(spaces)))
    for name in spaces:
        corners = _corners(laid_over(before, {"name": name}), config.sweep.search.of_method(name))
        found.append(PlannedRun(name, corners, trials, trials * (1 + len(config.sweep.dial))))
    return found


def settled_controls(config: ExperimentConfig, base: DpnConfig) -> tuple[list[ControlTrial], list[str]]:
    """A study's controls at its budgets, and why any of its own are left out; see `config.budgets.at_budgets`."""
    if config.sweep is None:
        return [], []
    controls = all_control_trials(config.sweep.controls, config.sweep.budgets)
    return at_budgets(controls, config.method.model_dump(mode="json"), base.base, model_shape(base.base))


def _corners(before: Mapping[str, Any], dimensions: Sequence[Dimension]) -> list[MethodConfig]:
    found: dict[MethodSettings, MethodConfig] = {}
    for point in product(*(each.choices or (each.low, each.high) for each in dimensions)):
        values = before
        for dimension, value in zip(dimensions, point, strict=True):
            nested: Any = value
            for key in reversed(dimension.setting.split(".")):
                nested = {key: nested}
            values = laid_over(values, nested)
        try:
            method = method_config(values)
        except ValidationError as error:
            told = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            given = ", ".join(f"{each.setting}: {value}" for each, value in zip(dimensions, point, strict=True))
            raise ConfigError(f"sweep.search can draw {{{given}}}: {told}") from None
        found.setdefault(method.settings, method)
    return list(found.values())


def image_grid(base: DpnConfig) -> tuple[int, int]:
    """Visual tokens of one picture as (height, width), before any reduction; assumed where each has its own grid."""
    return model_shape(base.base).image_grid or ASSUMED_GRID


def assumption(base: DpnConfig) -> str:
    """What is assumed of a picture where every one has its own grid, as the end of a sentence; else nothing."""
    if model_shape(base.base).image_grid is not None:
        return ""
    height, width = ASSUMED_GRID
    return f"; {height} x {width} visual tokens per picture are assumed, and the vision tower is not counted"


def abilities(method: MethodConfig) -> dict[str, Any]:
    """What a reader of the plan has to know of the method: what it must be trained in, what its choice depends on."""
    spec = method.spec
    return {
        "needs_training": spec.needs_training,
        "chooses": spec.chooses,
        "is_query_aware": spec.is_query_aware,
        "is_random": spec.is_random,
        "has_dial": spec.has_dial,
    }


def widest_plan(base: DpnConfig, methods: Sequence[MethodConfig], text_tokens: int) -> tuple[Planned, MethodConfig]:
    """The cheapest and the dearest route of several methods, and the method that can take the dearest.

    Raises:
        ConfigError: settings that do not fit the model.
    """
    decoder = model_shape(base.base).decoder
    plans = [method_plan(base, method, text_tokens) for method in methods]
    cheapest = min((plan.cheapest for plan in plans), key=lambda ledger: ledger.prefill(decoder, "true").total)
    costs = [plan.dearest.prefill(decoder, "true").total for plan in plans]
    place = costs.index(max(costs))
    return Planned(cheapest, plans[place].dearest), methods[place]


def method_plan(base: DpnConfig, method: MethodConfig, text_tokens: int) -> Planned:
    """Ledgers of one sample's cheapest and dearest route, from the method's own spec.

    Args:
        base: of the model.
        method: what is attached to it.
        text_tokens: of one sample.

    Raises:
        ConfigError: settings that do not fit the model.
    """
    try:
        method.spec.check(base.base)
        return method.spec.plan(method.settings, model_shape(base.base), text_tokens)
    except ValueError as error:
        raise ConfigError(f"method.{error}") from None


def training_routes(base: DpnConfig, methods: Sequence[MethodConfig], text_tokens: int) -> dict[str, list[Ledger]]:
    """The cheapest and the dearest route that a sample takes in training, by their names in a `Planned`.

    Returns:
        One ledger for every time the sample goes through the decoder.
    """
    shape = model_shape(base.base)
    copies = [method.spec.plan_training(method.settings, shape, text_tokens) for method in methods]

    def cost(ledgers: Sequence[Ledger]) -> int:
        return sum(ledger.prefill(shape.decoder, "true").total for ledger in ledgers)

    return {
        "cheapest": min(([copy.cheapest for copy in each] for each in copies), key=cost),
        "dearest": max(([copy.dearest for copy in each] for each in copies), key=cost),
    }


def method_cost(base: DpnConfig, planned: Planned) -> dict[str, Any]:
    """Sites, FLOPs ratios and multiply-accumulates of one sample's prefill, cheapest and dearest route."""
    decoder = model_shape(base.base).decoder
    tokens = [list(ledger.visual_tokens) for ledger in planned]
    cost: dict[str, Any] = {
        "sites": list(planned.cheapest.sites),
        "visual_tokens_cheapest": tokens[0],
        "visual_tokens_dearest": tokens[1],
        "visual_tokens_at_the_end": Bounds(tokens[0][-1], tokens[1][-1]),
        "visual_tokens_mean": Bounds(*(ledger.mean_visual_tokens() for ledger in planned)),
        "kv_bytes": Bounds(*(ledger.kv_bytes(decoder) for ledger in planned)),
    }
    for convention in MAC_CONVENTIONS:
        low, high = (ledger.prefill(decoder, convention) for ledger in planned)
        cost[f"flops_ratio_{convention}"] = Bounds(low.ratio, high.ratio)
        cost[f"prefill_macs_{convention}"] = Bounds(low.total, high.total)
    return cost


def forward_bill(base: DpnConfig, planned: Planned) -> dict[str, Any]:
    """One sample's forward pass with everything around the decoder, in each convention's own unit.

    Returns:
        By convention: vision, projector, decoder, in all, and that as a ratio to the dense model's.
    """
    shape = counted_tower(model_shape(base.base))
    packed = planned.dearest.packed
    bare = Ledger.of_stages(shape.decoder.num_layers, (), (packed.visual,), packed.text, num_images=1)
    bill: dict[str, Any] = {}
    for convention in CONVENTIONS:
        low, high, dense = (cost_parts(shape, ledger, convention) for ledger in (*planned, bare))
        bill[convention] = {
            "vision": low.vision,
            "projector": low.projector,
            "decoder": Bounds(low.prefill, high.prefill),
            "total": Bounds(low.total, high.total),
            "ratio_with_vision": Bounds(low.total / dense.total, high.total / dense.total),
        }
    return bill


def counted_tower(shape: ModelShape) -> ModelShape:
    """The shape, with nothing for a tower that nobody has counted."""
    return replace(shape, vision_macs=shape.vision_macs or 0, projector_macs=shape.projector_macs or 0)
