"""Bills as JSON values: of one ledger, and of the cheapest and the dearest route of a method at given settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dpn_model.bases.catalogue import base_attributes, base_shape
from dpn_model.cost.bill import ModelShape, cost_parts
from dpn_model.cost.flops import CONVENTIONS
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.budgets import at_budget
from dpn_model.methods.registry import find_method
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import apply_overrides, parse_config
from dpn_platform.config.method import MethodConfig

_MIB = 2**20


def prefill_account(shape: ModelShape, ledger: Ledger) -> dict[str, Any]:
    """Visual tokens by stage and on average; by convention the decoder's prefill, dense, and their ratio."""
    costs = {convention: ledger.prefill(shape.decoder, convention) for convention in CONVENTIONS}
    return {
        "visual_tokens": list(ledger.visual_tokens),
        "visual_tokens_mean": ledger.mean_visual_tokens(),
        **{name: {"total": cost.total, "dense": cost.dense, "ratio": cost.ratio} for name, cost in costs.items()},
    }


def split_account(shape: ModelShape, ledger: Ledger) -> dict[str, Any]:
    """`sites`; `parts` of the whole bill by convention; `kv`, the cache of neighbouring layers that hold the same."""
    parts = {convention: cost_parts(shape, ledger, convention) for convention in CONVENTIONS}
    return {
        "sites": list(ledger.sites),
        "parts": {convention: {**asdict(cost), "total": cost.total} for convention, cost in parts.items()},
        "kv": [asdict(group) for group in ledger.kv_groups(shape.decoder)],
    }


def method_account(
    model: str, name: str, overrides: Sequence[str], budget: str | None, text_tokens: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a method costs, its settings as resolved; and the split of its two routes.

    Args:
        model: a named base.
        name: of a registered method.
        overrides: `method.key=value`, as `dpn train` takes them.
        budget: depth-weighted share of visual tokens, "0.333" or "1/3"; None: as the settings have it.
        text_tokens: of the sample.

    Returns:
        The document, and by "cheapest" and "dearest" what `split_account` gives.

    Raises:
        DpnError: an unknown base, method or setting, settings that do not fit the base, or an unreachable budget.
    """
    section = _method_section(name, overrides)
    spec, settings = section.spec, section.settings
    try:
        shape = base_shape(model)
    except ValueError as error:
        raise DpnError(str(error)) from None
    try:
        spec.check(base_attributes(model))
        if budget is not None:
            if spec.budget is not None and spec.budget.setting in section.model_fields_set:
                raise ValueError(f"--budget finds {spec.budget.setting}, so it cannot be given too")
            settings = at_budget(spec, settings, shape, _share(budget))
        planned = spec.plan(settings, shape, text_tokens)
    except ValueError as error:
        raise DpnError(f"method {name}: {error}") from None
    routes = planned._asdict()
    document = {
        "model": model,
        "method": settings.to_dict(),
        **({} if budget is None else {"budget": _share(budget)}),
        "text_tokens": text_tokens,
        **{kind: _whole_account(shape, ledger) for kind, ledger in routes.items()},
    }
    return document, {kind: split_account(shape, ledger) for kind, ledger in routes.items()}


def _method_section(name: str, overrides: Sequence[str]) -> MethodConfig:
    try:
        find_method(name)
    except ValueError as error:
        raise DpnError(f"--method: {error}") from None
    for override in overrides:
        section, _, key = override.partition("=")[0].strip().partition(".")
        if section != "method" or key == "name":
            raise DpnError(f"override '{override}': settings of --method are written method.key=value")
    values = apply_overrides({"method": {"name": name}}, overrides)
    return parse_config({"name": "flops", **values}, f"method {name}").method


def _share(text: str) -> float:
    above, slash, below = text.partition("/")
    try:
        share = float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError):
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"budget = {text!r}; allowed: a share above 0 and up to 1, for example 0.333 or 1/3")
    return share


def _whole_account(shape: ModelShape, ledger: Ledger) -> dict[str, Any]:
    return {
        "sites": list(ledger.sites),
        **prefill_account(shape, ledger),
        "decode": {convention: ledger.decode(shape.decoder, convention) for convention in CONVENTIONS},
        "macs": dict(ledger.macs),
        "kv_mib": ledger.kv_bytes(shape.decoder) / _MIB,
    }
