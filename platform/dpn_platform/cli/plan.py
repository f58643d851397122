"""`dpn plan`: what a run or sweep will do, need and cost, told before anything starts."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, print_facts, print_json, print_table, print_text, progress
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import dump_config, load_config
from dpn_platform.config.schema import ExperimentConfig

_GIB, _GIGA, _TERA = 2**30, 1e9, 1e12


def register(app: typer.Typer) -> None:
    """Adds `dpn plan`."""
    app.command("plan")(plan)


def plan(
    config: Annotated[Path, typer.Argument(help="Experiment YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted.")] = None,
    text_tokens: Annotated[
        int | None, typer.Option(min=1, help="Text tokens of a sample. Default: counted in the data set, or 150.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device that hours and prices are of.")] = "h200",
    peak_tflops: Annotated[
        float | None, typer.Option(min=1e-6, help="Dense TFLOP/s of that device. Default: measured ones (h200: 790).")
    ] = None,
    mfu: Annotated[float, typer.Option(min=0.001, max=1, help="Share of the peak that training reaches.")] = 0.45,
    prices: Annotated[Path | None, typer.Option(help="YAML of `device: price per hour`.")] = None,
    world_sizes: Annotated[str, typer.Option(help="Numbers of devices to tell memory for.")] = "1,8,16,64",
    strict: Annotated[bool, typer.Option("--strict", help="Fail where data or weights are missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Say what will run: batches, tokens, FLOPs, hours, price, memory per device, checkpoints. Starts nothing."""
    experiment = load_config(config, overrides or [])
    with clean_stdout(), progress("planning"):
        gc.disable()  # torch and transformers come with a million objects that stay; looking for garbage costs a second
        from dpn_platform.planning.build import Assumptions, build_plan

        gc.freeze()  # nor is it looked for among them at the end
        gc.enable()
        sizes = _world_sizes(world_sizes, experiment.train.num_workers)
        given = Assumptions(text_tokens, device, peak_tflops, mfu, prices, sizes, strict)
        document = build_plan(experiment, given)
    if as_json:
        print_json(document)
    else:
        _show(experiment, document)


def _world_sizes(text: str, own: int) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"--world-sizes {text}: write numbers of devices from 1 up, for example 1,8,16")
    return sorted({own, *map(int, words)})


def _show(config: ExperimentConfig, document: dict[str, Any]) -> None:
    print_text(dump_config(config))
    print_facts("batches of one run", _known(document["batches"]))
    print_facts("data", _known({**document["data"], **document["sample"]}))
    _show_methods(document)
    dearest = max(document["methods"], key=lambda method: method["memory"]["total"])
    _show_memory(config, dearest)
    kept = {name.removeprefix("bytes_"): _gib(size) for name, size in dearest["checkpoints"].items()}
    print_facts("checkpoints of one run, GiB", kept)
    _show_totals(document["total"])
    for line in document["left_out"]:
        print_text(line)
    for line in document["missing"]:
        print_text(f"missing: {line}")


def _show_methods(document: dict[str, Any]) -> None:
    rows = [
        (
            method["name"],
            method["trials"],
            ", ".join(map(str, method["sites"])) or "-",
            f"{method['abilities']['needs_training']}, {method['abilities']['chooses']}",
            _range(method["flops_ratio_eq8"]),
            _range(method["flops_ratio_swiglu"]),
            _range(method["forward_per_sample"]["swiglu"]["ratio_with_vision"]),
            _amounts(_training_tflops(method)),
        )
        for method in document["methods"]
    ]
    ratios = ("FLOPs ratio eq8", "swiglu", "swiglu with vision")
    columns = ("method", "trials", "sites", "training, choice", *ratios, "training TFLOPs a sample")
    print_table(f"{document['kind']} {document['name']} ({document['fingerprint']})", columns, rows)
    bill = document["methods"][0]["forward_per_sample"]
    parts = [
        (name, *(_giga(costs[part]) for part in ("vision", "projector", "decoder", "total")))
        for name, costs in bill.items()
    ]
    title = f"{document['methods'][0]['name']}: forward pass of one sample, G (true: FLOPs, the others: MACs)"
    print_table(title, ("convention", "vision", "projector", "decoder", "in all"), parts)
    for method in document["methods"]:
        if (samples := method["lesson"]["samples"]) and method["trials"]:
            spent = _amount(samples * method["lesson"]["flops_per_sample"] / _TERA)
            passes = _amount(method["lesson"]["dense_passes"])
            print_text(
                f"{method['name']}: behind the training, all routes of {samples:,} samples, each as {passes} dense "
                f"passes: {spent} TFLOPs in all"
            )
        if (routes := method["all_routes"]) is not None and routes["routes"]["high"]:
            print_text(
                f"{method['name']}: every question on all its routes too ({_amounts(routes['routes'])}), as "
                f"{_amounts(routes['dense_passes'])} dense passes"
            )


def _show_memory(config: ExperimentConfig, method: dict[str, Any]) -> None:
    print_facts(f"parameters of {method['name']}", {part: f"{count:,}" for part, count in method["parameters"].items()})
    train = config.train
    title = "memory of one device, GiB, on the dearest route"
    settings = {"ZeRO stage": train.zero_stage, "devices": train.num_workers}
    memory: dict[str, Any] = {part: _gib(size) for part, size in method["memory"].items() if size or part != "host"}
    print_facts(title, settings | memory)
    parts = list(method["activations"]["kept"])
    rows = [
        (name, *(_gib(method["activations"][key][part]) for part in parts))
        for name, key in (("off", "kept"), ("on", "checkpointed"))
    ]
    print_table("activations of one micro-batch, GiB", ("checkpointing", *parts), rows)
    sizes = sorted({row["num_workers"] for row in method["alternatives"]})
    totals = {(row["zero_stage"], row["num_workers"]): row["total"] for row in method["alternatives"]}
    stages = sorted({stage for stage, _ in totals})
    by_stage = [(f"ZeRO-{stage}", *(_gib(totals[stage, size]) for size in sizes)) for stage in stages]
    print_table("the same micro-batch on other numbers of devices, GiB each", ("", *map(str, sizes)), by_stage)


def _show_totals(total: dict[str, Any]) -> None:
    facts: dict[str, Any] = {"trials": total["trials"], "samples": f"{total['samples']:,}"}
    facts["training, TFLOPs"] = _amounts({key: value / _TERA for key, value in total["training_flops"].items()})
    if total["evaluations"]:
        asked = "as many as its files hold" if total["questions"] is None else f"{total['questions']:,}"
        facts["evaluations, questions each"] = f"{total['evaluations']}, {asked}"
        if total["evaluation_flops"] is not None:
            facts["evaluation, TFLOPs"] = _amounts({key: v / _TERA for key, v in total["evaluation_flops"].items()})
    facts["storage kept, GiB"] = _gib(total["bytes_kept"])
    if total["device"] is None:
        facts["time"] = "not told: train.use_gpu is false, and no --peak-tflops is given"
    else:
        alone = ", training alone" if total["evaluations"] and total["evaluation_flops"] is None else ""
        speed = f"at {total['mfu']:.0%} of {total['peak_tflops']:g} TFLOP/s{alone}"
        facts[f"{total['device']}-hours {speed}"] = _amounts(total["device_hours_in_all"])
        facts["hours, one trial after another"] = _amounts(total["hours_one_after_another"])
    if "price" in total:
        facts[f"price, {total['price_per_hour']:g} an hour"] = _amounts(total["price"])
    print_facts("in all, from the cheapest route to the dearest", facts)


def _training_tflops(method: dict[str, Any]) -> dict[str, float]:
    flops = method["training_flops_per_sample"]
    return {"low": flops["cheapest"]["total"] / _TERA, "high": flops["dearest"]["total"] / _TERA}


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _gib(size: float) -> str:
    return _amount(size / _GIB)


def _giga(value: float | dict[str, float]) -> str:
    if isinstance(value, dict):
        return _amounts({bound: count / _GIGA for bound, count in value.items()})
    return _amount(value / _GIGA)


def _amount(value: float) -> str:
    """Four significant digits, never an exponent above them."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _amounts(bounds: dict[str, float]) -> str:
    return _joined(_amount(bounds["low"]), _amount(bounds["high"]))


def _range(ratios: dict[str, float]) -> str:
    return _joined(f"{ratios['low']:.3f}", f"{ratios['high']:.3f}")


def _joined(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
