"""Routing statistics as a flat table for spreadsheets: one line per number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

HEAD = ("statistic", "group", "key", "n", "share", "keep_ratio", "low", "high", "accuracy")


def routing_csv(statistics: Mapping[str, Any]) -> str:
    """CSV with `HEAD`: routes and sites per group, then summaries; empty where a column does not apply."""
    target = io.StringIO()
    writer = csv.DictWriter(target, HEAD, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(statistics))
    return target.getvalue()


def _lines(statistics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, group in statistics["groups"].items():
        yield {"statistic": "group", "group": name, "n": group["n"], "keep_ratio": group["keep_ratio"]}
        for route, found in group["routes"].items():
            yield {"statistic": "route", "group": name, "key": route, **found}
        for site in group["sites"]:
            for choice, share in site["choices"].items():
                yield {"statistic": f"site {site['site']}", "group": name, "key": choice, "share": share}
    for statistic in ("question_type", "difficulty", "correctness"):
        for key, summary in statistics[statistic].items():
            yield {"statistic": statistic, "key": key, **_summary(summary)}
    for name, found in statistics["image"].items():
        for one in found["bins"]:
            yield {"statistic": name, "key": f"{one['from']:.6g} to {one['to']:.6g}", **_summary(one)}


def _summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    low, high = summary["ci95"]
    kept = {name: summary[name] for name in ("n", "keep_ratio", "accuracy")}
    return kept | {"low": low, "high": high}
