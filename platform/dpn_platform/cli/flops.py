"""`dpn flops`: what one sample costs on a route, or with a method, in every convention; no model is built."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, print_json
from dpn_platform.config.errors import DpnError

#: system prompt, a short question and the routing token in Vicuna's conversation (spec base-models A.2.1)
TYPICAL_TEXT_TOKENS = 60


def register(app: typer.Typer) -> None:
    """Adds `dpn flops`."""
    app.command("flops")(flops)


def flops(
    model: Annotated[str, typer.Option(help="A named base: tiny, llava-1.5-7b, llava-1.5-13b, llava-hr-7b, ...")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of --method: method.key=value, dotted.")
    ] = None,
    route: Annotated[
        str | None, typer.Option(help="One entry per site: a kernel's area (1, 2, 4) or a kernel (1x2).")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="A registered method, at its defaults or with settings behind it.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Of --method: the share of visual tokens, weighted by depth: 0.333, 1/3.")
    ] = None,
    text_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that are not visual; `eq8` leaves them out.")
    ] = TYPICAL_TEXT_TOKENS,
    parts: Annotated[bool, typer.Option("--parts", help="Add the split by part and the KV cache to --json.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Cost of one sample with one image: decoder prefill against dense, and everything around it.

    Of a route (--route), or of the cheapest and the dearest route that a method takes (--method).
    """
    from dpn_platform.cli.flops_account import method_account
    from dpn_platform.cli.flops_tables import show_method, show_route

    if (route is None) == (method is None):
        raise DpnError(f"{'neither' if route is None else 'both'} of --route and --method; give one of the two")
    if method is not None:
        with clean_stdout():
            document, splits = method_account(model, method, overrides or [], budget, text_tokens)
        if as_json:
            print_json({**document, **{kind: document[kind] | split for kind, split in splits.items() if parts}})
        else:
            show_method(document, splits)
        return
    if overrides or budget is not None:
        raise DpnError(f"{overrides[0] if overrides else '--budget'}: settings and budgets are --method's")
    with clean_stdout():
        document, split = build_account(model, str(route), text_tokens)
    if as_json:
        print_json({**document, **split} if parts else document)
    else:
        show_route(document, split)


def build_account(model: str, route: str, text_tokens: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The account as JSON values: absolute counts of the decoder's prefill; and its split ("sites", "parts", "kv").

    Raises:
        DpnError: unknown base, or a route that does not fit it.
    """
    from dpn_model.bases.catalogue import base_shape
    from dpn_model.methods.dpn.planned_route import parse_route, planned_run
    from dpn_platform.cli.flops_account import prefill_account, split_account

    try:
        shape = base_shape(model)
        run = planned_run(shape, parse_route(route), text_tokens)
    except ValueError as error:
        raise DpnError(str(error)) from None
    document = {"model": model, "route": route, "text_tokens": text_tokens, **prefill_account(shape, run)}
    return document, split_account(shape, run)
