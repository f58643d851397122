"""`dpn plan`: what a run or sweep will do and cost, told before anything starts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, print_facts, print_json, print_table, print_text, progress
from dpn_platform.cli.estimate import (
    Bounds,
    base_config,
    batch_arithmetic,
    method_cost,
    model_facts,
    planned_methods,
    training_tflops,
)
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import dump_config, fingerprint, load_config
from dpn_platform.config.schema import ExperimentConfig


def register(app: typer.Typer) -> None:
    """Adds `dpn plan`."""
    app.command("plan")(plan)


def plan(
    config: Annotated[Path, typer.Argument(help="Experiment YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted.")] = None,
    text_tokens: Annotated[int, typer.Option(min=0, help="Text tokens of one sample, for `swiglu`.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Say what will run: resolved config, batches, trials, parameters, FLOPs. Starts nothing."""
    experiment = load_config(config, overrides or [])
    with clean_stdout(), progress("reading the base model"):
        document = build_plan(experiment, text_tokens)
    if as_json:
        print_json(document)
    else:
        _show(experiment, document)


def build_plan(config: ExperimentConfig, text_tokens: int) -> dict[str, Any]:
    """The plan as JSON values.

    Raises:
        DpnError: the base is not there, the method does not fit it, or the data set lacks a split.
    """
    base = base_config(config.model.base)
    batches = batch_arithmetic(config)
    trials: list[dict[str, Any]] = []
    for name, method, count in planned_methods(config):
        cost = method_cost(base, method, text_tokens)
        bounds = {key: asdict(value) if isinstance(value, Bounds) else value for key, value in cost.items()}
        tflops = training_tflops(cost, batches["samples"])
        trials.append({"name": name, "trials": count, **bounds, "training_tflops_per_trial": tflops})
    num_trials = sum(trial["trials"] for trial in trials)
    return {
        "name": config.name,
        "fingerprint": fingerprint(config),
        "kind": "run" if config.sweep is None else "sweep",
        "config": config.model_dump(mode="json"),
        "batches": batches,
        "data": _data_facts(config, batches["samples"]),
        "model": model_facts(base),
        "text_tokens_assumed": text_tokens,
        "methods": trials,
        "total": {
            "trials": num_trials,
            "samples": num_trials * batches["samples"],
            "training_tflops": sum(trial["trials"] * trial["training_tflops_per_trial"] for trial in trials),
        },
    }


def _data_facts(config: ExperimentConfig, samples: int) -> dict[str, Any]:
    """Size of the data set, where it can be reached without starting anything."""
    facts: dict[str, Any] = {"uri": config.data.uri, "rows": None, "epochs": None, "eval_rows": None}
    from dpn_platform.services import connect, endpoints, external_services

    if config.data.uri.startswith("s3://") and "s3" not in external_services():
        if endpoints() is None:
            return {**facts, "note": "not looked at: the services are not running (`dpn up`)"}
        connect()
    from dpn_platform.data.manifest import load_manifest

    try:
        manifest = load_manifest(config.data.uri)
    except DpnError as error:
        return {**facts, "note": str(error)}
    rows = manifest.split(config.data.train_split).rows
    eval_rows = manifest.split(config.data.eval_split).rows
    return {**facts, "rows": rows, "epochs": samples / max(rows, 1), "eval_rows": eval_rows}


def _show(config: ExperimentConfig, document: dict[str, Any]) -> None:
    print_text(dump_config(config))
    print_facts("batches of one run", document["batches"])
    print_facts("data", document["data"])
    print_facts("base model", document["model"])
    rows = [
        (
            method["name"],
            method["trials"],
            ", ".join(map(str, method["sites"])) or "-",
            _range(method["flops_ratio_eq8"]),
            _range(method["flops_ratio_swiglu"]),
            float(method["training_tflops_per_trial"]),
        )
        for method in document["methods"]
    ]
    columns = ("method", "trials", "sites", "FLOPs ratio eq8", "FLOPs ratio swiglu", "training TFLOPs each, at most")
    print_table(f"{document['kind']} {document['name']} ({document['fingerprint']})", columns, rows)
    print_facts("in all", document["total"])


def _range(bounds: dict[str, float]) -> str:
    low, high = bounds["low"], bounds["high"]
    return f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
