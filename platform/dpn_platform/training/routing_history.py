"""`routing.json` of a run: what its routers did over time, from its metric lines. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpn_platform.training.metric_lines import KEEP_RATIO, SHARES_PREFIX

ROUTING = "routing.json"


def routing_history(lines: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """The content of `routing.json`: per site the share of each expert, entropy and keep ratio over the run's lines.

    Returns:
        Series as long as `steps`, None where a line has no value; None for a run without sites.
    """
    prefix = f"{KEEP_RATIO}_layer_"
    layers = sorted({key.removeprefix(prefix) for line in lines for key in line if key.startswith(prefix)}, key=int)
    if not layers:
        return None

    def series(key: str) -> list[float | None]:
        values = [line.get(key) for line in lines]
        return [None if value is None or not math.isfinite(value) else value for value in values]

    def experts(layer: str) -> dict[str, list[float | None]]:
        prefix = f"{SHARES_PREFIX}layer_{layer}/"
        keys = dict.fromkeys(key for line in lines for key in line if key.startswith(prefix))
        return {key.removeprefix(prefix): series(key) for key in keys}

    return {
        "steps": [int(line["step"]) for line in lines],
        "keep_ratio": series(KEEP_RATIO),
        "sites": [
            {
                "after_layer": int(layer),
                "expert_shares": experts(layer),
                "entropy": series(f"router/entropy_layer_{layer}"),
                "keep_ratio": series(f"{KEEP_RATIO}_layer_{layer}"),
            }
            for layer in layers
        ],
    }
