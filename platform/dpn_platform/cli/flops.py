"""`dpn flops`: what one sample costs on a given route, in every convention; no model is built, no weights are read."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, print_json, print_table
from dpn_platform.config.errors import DpnError

if TYPE_CHECKING:
    from dpn_model.cost.bill import CostParts

#: system prompt, a short question and the routing token in Vicuna's conversation (spec base-models A.2.1)
TYPICAL_TEXT_TOKENS = 60
_GIGA, _MIB = 1e9, 2**20


def register(app: typer.Typer) -> None:
    """Adds `dpn flops`."""
    app.command("flops")(flops)


def flops(
    model: Annotated[str, typer.Option(help="A named base: tiny, llava-1.5-7b, llava-1.5-13b, llava-hr-7b, ...")],
    route: Annotated[str, typer.Option(help="One entry per site: a kernel's area (1, 2, 4) or a kernel (1x2).")],
    text_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that are not visual; `eq8` leaves them out.")
    ] = TYPICAL_TEXT_TOKENS,
    parts: Annotated[bool, typer.Option("--parts", help="Add the split by part and the KV cache to --json.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Cost of one sample with one image on a route: decoder prefill against dense, and everything around it."""
    with clean_stdout():
        document, split = build_account(model, route, text_tokens)
    if as_json:
        print_json({**document, **split} if parts else document)
    else:
        _show(document, split)


def build_account(model: str, route: str, text_tokens: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The account as JSON values: absolute counts of the decoder's prefill; and its split ("sites", "parts", "kv").

    Raises:
        DpnError: unknown base, or a route that does not fit it.
    """
    from dpn_model.bases.catalogue import base_shape
    from dpn_model.cost.bill import cost_parts
    from dpn_model.cost.flops import CONVENTIONS
    from dpn_model.methods.dpn.planned_route import parse_route, planned_run

    try:
        shape = base_shape(model)
        run = planned_run(shape, parse_route(route), text_tokens)
    except ValueError as error:
        raise DpnError(str(error)) from None
    document: dict[str, Any] = {
        "model": model,
        "route": route,
        "text_tokens": text_tokens,
        "visual_tokens": list(run.visual_tokens),
        "visual_tokens_mean": run.mean_visual_tokens(),
    }
    for convention in CONVENTIONS:
        cost = run.prefill(shape.decoder, convention)
        document[convention] = {"total": cost.total, "dense": cost.dense, "ratio": cost.ratio}
    split = {
        "sites": list(run.sites),
        "parts": {convention: _parts(cost_parts(shape, run, convention)) for convention in CONVENTIONS},
        "kv": [asdict(group) for group in run.kv_groups(shape.decoder)],
    }
    return document, split


def _parts(cost: CostParts) -> dict[str, int]:
    return {**asdict(cost), "total": cost.total}


def _show(document: dict[str, Any], split: dict[str, Any]) -> None:
    conventions = list(split["parts"])
    sites = ", ".join(map(str, split["sites"]))
    title = f"{document['model']}: route {document['route']} after {sites}, {document['text_tokens']} text tokens"
    rows = [
        (name, _giga(document[name]["total"]), _giga(document[name]["dense"]), f"{document[name]['ratio']:.4f}")
        for name in conventions
    ]
    print_table(f"{title}, decoder prefill", ("convention", "route, G", "dense, G", "ratio"), rows)
    labels = {"total": "total, to the first token"}
    by_part = [
        (labels.get(part, part.replace("_", " ")), *(_giga(split["parts"][name][part]) for name in conventions))
        for part in split["parts"][conventions[0]]
    ]
    print_table("by part, G (true: FLOPs, the others: multiply-accumulates)", ("part", *conventions), by_part)
    layers = [
        (f"{group['first_layer']}-{group['last_layer']}", visual, group["tokens"], f"{group['num_bytes'] / _MIB:.1f}")
        for group, visual in zip(split["kv"], document["visual_tokens"], strict=True)
    ]
    total_mib = sum(group["num_bytes"] for group in split["kv"]) / _MIB
    layers.append(("all", f"{document['visual_tokens_mean']:.4g} on average", "", f"{total_mib:.1f}"))
    print_table("KV cache after prefill, 16 bits", ("layers", "visual tokens", "all tokens", "MiB"), layers)


def _giga(count: int) -> str:
    return f"{count / _GIGA:,.4g}" if count < _GIGA else f"{count / _GIGA:,.1f}"
