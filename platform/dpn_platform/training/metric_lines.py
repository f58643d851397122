"""Metric lines as they lie in the run's folder, and the names in them that others go by. Imports no torch.

Drivers, studies and reports read lines; `metrics` makes them, in the workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from dpn_platform.storage import MissingObjectError, read_bytes

FILE_NAME = "metrics.jsonl"
KEEP_RATIO = "router/keep_ratio"
DEVICE_HOURS = "train/device_hours"
GRAD_NORM = "train/grad_norm"
#: on the held-out split, see `held_out`
HELD_OUT_LOSS, EXACT, KL_DENSE = "eval/loss_lm", "eval/exact", "eval/kl_dense"
PREFILL_RATIO = "eval/flops_ratio"
#: of what is kept in lines and in `routing.json`, and not sent to a tracker: one series per site and expert
SHARES_PREFIX = "routes/"

Line = dict[str, float]


def read_metrics(run_uri: str) -> list[Line]:
    """The run's metric lines in order of step; empty before the first."""
    try:
        text = read_bytes(f"{run_uri}/{FILE_NAME}").decode()
    except MissingObjectError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def tracked_metrics(line: Mapping[str, float]) -> Line:
    """What of a line goes to a tracker: all but its step and the shares of experts."""
    return {key: value for key, value in line.items() if key != "step" and not key.startswith(SHARES_PREFIX)}
