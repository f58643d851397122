"""The whole plan of an experiment, as JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpn_model import DpnConfig
from dpn_platform.benchmarks.contract import Benchmark, is_of_families
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.load import fingerprint
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, Split
from dpn_platform.evaluation.answering.variants import variants_of
from dpn_platform.evaluation.axis import axis_of
from dpn_platform.evaluation.runner.data_set import asks_own_data
from dpn_platform.planning import base_model, compute, data_set, methods
from dpn_platform.planning.activations import trace
from dpn_platform.planning.prices import price_per_hour
from dpn_platform.planning.trial import Setting, plan_trial
from dpn_platform.training.base_config import base_config, has_weights


@dataclass(frozen=True)
class Assumptions:
    """What the configuration does not say.

    Attributes:
        text_tokens: of a sample; None: counted in the data set where that is possible, else assumed.
        device: what GPU-hours are of.
        peak_tflops: of that device; None where `compute.PEAK_TFLOPS` knows it.
        mfu: share of the peak that training reaches.
        prices: file of prices per device and hour.
        world_sizes: numbers of devices to tell memory for, beside the recipe's.
        strict: what is missing is an error.
    """

    text_tokens: int | None = None
    device: str = "h200"
    peak_tflops: float | None = None
    mfu: float = compute.ASSUMED_MFU
    prices: Path | None = None
    world_sizes: Sequence[int] = (1, 8, 16, 64)
    strict: bool = False


def build_plan(config: ExperimentConfig, given: Assumptions) -> dict[str, Any]:
    """The plan of a run or sweep.

    Raises:
        DpnError: no such base, a method that does not fit it, a data set without the split, a device without peak or
            price; and, where strict, a data set or weights that are not there.
    """
    axis_of(config.eval)
    variants_of(config.eval)
    base = base_config(config.model.base)
    facts, manifest = data_set.look_at(config)
    missing = _missing(config, facts)
    if given.strict and missing:
        raise DpnError(f"{config.name} cannot start: {'; '.join(missing)}")
    means, source = data_set.sample_means(config, facts, manifest, given.text_tokens)
    batches = _batches(config, base, facts, means)
    runs = methods.planned_methods(config, base)
    model = base_model.meta_model(base, runs[0].methods[0], config.train)
    setting = Setting(base, config.train, means, trace(model), given.world_sizes)
    planned = [_planned(setting, run, config.eval.routes == "all") for run in runs]
    return {
        "name": config.name,
        "fingerprint": fingerprint(config),
        "kind": "run" if config.sweep is None else "sweep",
        "config": config.model_dump(mode="json"),
        "missing": missing,
        "left_out": methods.settled_controls(config, base)[1],
        "batches": batches,
        "data": asdict(facts),
        "sample": {**asdict(means), "tokens_are": source + methods.assumption(base)},
        "methods": planned,
        "total": _totals(config, planned, batches["samples"], _questions(config, manifest), given),
    }


def _planned(setting: Setting, run: methods.PlannedRun, on_all_routes: bool) -> dict[str, Any]:
    """Routes are asked of what is trained and then evaluated, once: not of a dial's points, nor of a run by itself."""
    has_routes = on_all_routes and 0 < run.trials <= run.evaluations
    counts = {"name": run.name, "trials": run.trials, "evaluations": run.evaluations}
    return {**counts, **plan_trial(setting, run.methods, on_all_routes=has_routes)}


def _missing(config: ExperimentConfig, facts: data_set.DataFacts) -> list[str]:
    """What a run would need and a plan does not."""
    found = [] if facts.missing is None else [f"data set {facts.uri}: {facts.missing}"]
    if not has_weights(config.model.base):
        found.append(
            f"model.base: '{config.model.base}' is a shape without weights; give a from_pretrained folder or URI"
        )
    return found


def _batches(
    config: ExperimentConfig, base: DpnConfig, facts: data_set.DataFacts, means: compute.SampleMeans
) -> dict[str, Any]:
    batches: dict[str, Any] = dict(methods.batch_arithmetic(config))
    visual = means.images_per_sample * math.prod(methods.image_grid(base))
    epochs = batches["samples"] / facts.rows if facts.rows else None
    return {**batches, "tokens": round(batches["samples"] * (visual + means.text_tokens)), "epochs": epochs}


def _flops_of_trial(entry: dict[str, Any], samples: int, route: str) -> float:
    lesson = entry["lesson"]["samples"] * entry["lesson"]["flops_per_sample"]
    return float(samples * entry["training_flops_per_sample"][route]["total"] + lesson)


def _flops_of_question(entry: dict[str, Any], bound: str) -> float:
    """By all evaluations of these trials; on all routes once for every training."""
    own = entry["evaluations"] * entry["forward_per_sample"]["true"]["total"][bound]
    routes = entry["all_routes"]
    return float(own + (0 if routes is None else entry["trials"] * routes["flops_per_question"][bound]))


def _questions(config: ExperimentConfig, manifest: Manifest | None) -> int | None:
    """That one evaluation asks at most; None where files say it that were not looked at."""
    limit, sizes = config.eval.limit, []
    split = None if manifest is None else manifest.splits.get(config.data.eval_split)
    for entry in config.eval.benchmarks:
        rows = None if split is None or not asks_own_data(entry) else _rows(split, find_benchmark(entry.name))
        sizes.append(min((one for one in (rows, limit) if one is not None), default=None))
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _rows(split: Split, benchmark: Benchmark) -> int:
    """Of the families that it asks."""
    if not benchmark.families:
        return split.rows
    return sum(count for family, count in split.sources.items() if is_of_families(family, benchmark.families))


def _totals(
    config: ExperimentConfig, planned: list[dict[str, Any]], samples: int, questions: int | None, given: Assumptions
) -> dict[str, Any]:
    """All trials together: operations, hours and price, from the cheapest routes to the dearest.

    Evaluations are counted by their prefills: of the method's own answer, and where all routes are asked for, of these
    too. `device_hours` are those of the trainings, `device_hours_in_all` of both.
    """
    trials = sum(entry["trials"] for entry in planned)
    totals: dict[str, Any] = {"trials": trials, "samples": trials * samples}
    totals["bytes_kept"] = sum(entry["trials"] * entry["checkpoints"]["bytes_kept"] for entry in planned)
    bounds = {
        bound: sum(entry["trials"] * _flops_of_trial(entry, samples, route) for entry in planned)
        for bound, route in (("low", "cheapest"), ("high", "dearest"))
    }
    totals["training_flops"] = bounds
    answers = sum(entry["evaluations"] for entry in planned)
    totals |= {"evaluations": answers, "questions": questions}
    asked = {bound: (questions or 0) * sum(_flops_of_question(entry, bound) for entry in planned) for bound in bounds}
    totals["evaluation_flops"] = None if questions is None else asked
    if not config.train.use_gpu and given.peak_tflops is None:  # nobody has measured these cores
        if given.prices is not None:
            raise ConfigError("--prices: train.use_gpu is false; give --device and --peak-tflops for hours and a price")
        return {**totals, "device": None}
    tflops = compute.peak_tflops(given.device, given.peak_tflops)
    hours = {bound: compute.device_hours(flops, tflops, given.mfu) for bound, flops in bounds.items()}
    totals |= {"device": given.device, "peak_tflops": tflops, "mfu": given.mfu, "device_hours": hours}
    in_all = {bound: compute.device_hours(bounds[bound] + asked[bound], tflops, given.mfu) for bound in bounds}
    totals["device_hours_in_all"] = in_all
    workers = config.train.num_workers
    totals["hours_one_after_another"] = {bound: value / workers for bound, value in in_all.items()}
    if given.prices is not None:
        price = price_per_hour(given.prices, given.device)
        totals |= {"price_per_hour": price, "price": {bound: value * price for bound, value in in_all.items()}}
    return totals
