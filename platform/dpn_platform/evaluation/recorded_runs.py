"""What an evaluation recorded of every sample, read back: the outcome table with routes, and the result beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.outcomes import OUTCOMES, is_right, read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, list_files, open_uri, read_json

RESULT = "result.json"
#: what earlier versions called the table
PREDICTIONS = "predictions.parquet"
_NEEDED = {"route", "has_image", "visual_tokens", "visual_tokens_mean"}


@dataclass(frozen=True)
class RecordedRun:
    """One evaluation: its samples in order, and its result document where there is one.

    `name` is the benchmark's as far as known, else the folder's.
    """

    name: str
    uri: str
    rows: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]


def read_recorded(uri: str, variant: str = "") -> RecordedRun:
    """The evaluation in a folder (outcomes.parquet, result.json), or a table alone.

    Args:
        uri: of the folder or file.
        variant: of the checkpoint; default: as it is.

    Raises:
        DpnError: nothing there, or no record of routes.
    """
    location = open_uri(uri).uri.rstrip("/")
    is_file = location.endswith(".parquet")
    folder = location.rpartition("/")[0] if is_file else location
    files = [location] if is_file else [f"{folder}/{name}" for name in (OUTCOMES, PREDICTIONS)]
    file = next((name for name in files if exists(name)), None)
    if file is None:
        found = ", ".join(name.rpartition("/")[2] for name in list_files(folder, recursive=False)) or "nothing"
        raise DpnError(f"{uri}: no {OUTCOMES} there (found {found}); give the output folder of `dpn evaluate`")
    rows = [row for row in read_table(file) if row.get("variant", "") == variant]
    lacking = _NEEDED - set(rows[0] if rows else ())
    if lacking:
        raise DpnError(f"{uri}: no record of routes ({', '.join(sorted(lacking))} missing); evaluate it again")
    result = read_json(f"{folder}/{RESULT}") if exists(f"{folder}/{RESULT}") else {}
    name = result.get("benchmark") or folder.rpartition("/")[2]
    return RecordedRun(str(name), uri, tuple(rows), result)


def require_router(run: RecordedRun) -> list[Mapping[str, Any]]:
    """The samples that took a route: those with an image.

    Raises:
        DpnError: the model has no router, so there is nothing to count.
    """
    shown = [row for row in run.rows if row["has_image"]]
    checkpoint = (run.result.get("key") or {}).get("checkpoint_uri")
    who = f"{run.uri}: the model{f' {checkpoint}' if checkpoint else ''}"
    if not shown:
        raise DpnError(f"{run.uri}: no sample has an image, so none took a route")
    if all(not row["route"] for row in shown):
        raise DpnError(f"{who} has no sites and no routers; routing statistics need a model trained with method dpn")
    if not all(row.get("has_router", True) for row in shown):
        raise DpnError(
            f"{who} has no routers: its reductions are fixed or random (route {shown[0]['route']}); "
            "routing statistics need a model trained with method dpn"
        )
    return shown


def gallery_entry(
    row: Mapping[str, Any], picture: bytes | None, boxes: Sequence[Sequence[float]] | None = None
) -> dict[str, Any]:
    """A sample as galleries take it (see `reports.record.StudyRecord.examples`), its picture as base64.

    Args:
        row: of the outcome table.
        picture: encoded; None without.
        boxes: (x1, y1, x2, y2) in its pixels, which the answer names by their numbers; None without.
    """
    return {
        **({} if boxes is None else {"boxes": [list(box) for box in boxes]}),
        "image": base64.b64encode(picture).decode() if picture else None,
        "question": row["question"],
        "answer": row["answer"],
        "gold": row["gold"],
        "family": row["family"],
        "route": row["route"].split(",") if row["route"] and row["has_image"] else [],
        "visual_tokens": list(row["visual_tokens"]) if row["has_image"] else [],
        "correct": is_right(row),
    }
