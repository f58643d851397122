"""The tables of `dpn flops`: the decoder's prefill, the whole bill by part, and the KV cache."""

from __future__ import annotations

from typing import Any

from dpn_platform.cli.console import print_facts, print_table

_GIGA, _MIB = 1e9, 2**20


def show_route(document: dict[str, Any], split: dict[str, Any]) -> None:
    """Tables of one route."""
    sites = ", ".join(map(str, split["sites"]))
    title = f"{document['model']}: route {document['route']} after {sites}, {document['text_tokens']} text tokens"
    _show_prefill(title, {"route": document}, list(split["parts"]))
    _show_split(document, split)


def show_method(document: dict[str, Any], splits: dict[str, Any]) -> None:
    """Tables of a method's settings and of its cheapest and dearest route, or once where they are the same."""
    settings = dict(document["method"])
    name = settings.pop("name")
    if settings:
        print_facts(f"{name}, settings as resolved", settings)
    is_fixed = document["cheapest"] == document["dearest"]
    labels = {"dearest": "every sample"} if is_fixed else {kind: kind for kind in splits}
    at = f" at budget {document['budget']:.4g}" if "budget" in document else ""
    title = f"{document['model']}: {name}{at}, {document['text_tokens']} text tokens"
    accounts = {label: document[kind] for kind, label in labels.items()}
    _show_prefill(title, accounts, list(splits["dearest"]["parts"]))
    for kind, label in labels.items():
        _show_split(document[kind], splits[kind], f"{label}: ")
        if macs := document[kind]["macs"]:
            print_table(
                f"{label}: beside the layers", ("for", "MACs, G"), [(tag, _giga(count)) for tag, count in macs.items()]
            )


def _show_prefill(title: str, accounts: dict[str, dict[str, Any]], conventions: list[str]) -> None:
    rows = []
    for name in conventions:
        costs = [account[name] for account in accounts.values()]
        totals = [_giga(cost["total"]) for cost in costs]
        rows.append((name, *totals, _giga(costs[0]["dense"]), *(f"{cost['ratio']:.4f}" for cost in costs)))
    ratios = [f"ratio, {label}" for label in accounts] if len(accounts) > 1 else ["ratio"]
    head = ("convention", *(f"{label}, G" for label in accounts), "dense, G", *ratios)
    print_table(f"{title}, decoder prefill", head, rows)


def _show_split(account: dict[str, Any], split: dict[str, Any], whose: str = "") -> None:
    conventions = list(split["parts"])
    labels = {"total": "total, to the first token"}
    by_part = [
        (labels.get(part, part.replace("_", " ")), *(_giga(split["parts"][name][part]) for name in conventions))
        for part in split["parts"][conventions[0]]
    ]
    units = "G (true: FLOPs, the others: multiply-accumulates)"
    print_table(f"{whose}by part, {units}", ("part", *conventions), by_part)
    layers = [
        (f"{group['first_layer']}-{group['last_layer']}", visual, group["tokens"], f"{group['num_bytes'] / _MIB:.1f}")
        for group, visual in zip(split["kv"], account["visual_tokens"], strict=True)
    ]
    total_mib = sum(group["num_bytes"] for group in split["kv"]) / _MIB
    layers.append(("all", f"{account['visual_tokens_mean']:.4g} on average", "", f"{total_mib:.1f}"))
    print_table(f"{whose}KV cache after prefill, 16 bits", ("layers", "visual tokens", "all tokens", "MiB"), layers)


def _giga(count: int) -> str:
    return f"{count / _GIGA:,.4g}" if count < _GIGA else f"{count / _GIGA:,.1f}"
