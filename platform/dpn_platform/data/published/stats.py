"""What is in a published data set: its composition by source, and the lengths and sizes of its rows.

Only the scalar columns of the shards are read, never the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_columns
from dpn_platform.data.published.schema import OBJECTS

#: not a column, but counted from one: the boxes that a row's turns name
BOXES = "boxes"
NUMBERS = ("prompt_tokens", "answer_tokens", "expected_cost", "num_turns", "text_length", "width", "height")
_COLUMNS = (
    *("split", "source", "rows", "images", "text only"),
    *("mean prompt tokens", "mean answer tokens", "mean cost", "mean turns", "median size"),
)
_BOXES_COLUMN = "mean boxes"
_QUANTILES = (0.5, 0.95, 1.0)

Numbers = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class DataStats:
    """Every row's `NUMBERS` and `BOXES`, by (split, source).

    `width` and `height` are NaN for text-only rows, `boxes` for rows without them.
    """

    groups: dict[tuple[str, str], Numbers]

    def columns(self) -> tuple[str, ...]:
        """Heads of `table`; boxes are told of only where there are some."""
        return (*_COLUMNS, _BOXES_COLUMN) if len(self.values(BOXES)) else _COLUMNS

    def table(self) -> list[tuple[Any, ...]]:
        """Composition: counts, then means per row (tokens, turns, boxes) and the median image size."""
        width = len(self.columns())
        return [(*key, *_line(numbers))[:width] for key, numbers in sorted(self.groups.items())]

    def values(self, name: str) -> npt.NDArray[np.float64]:
        """One of `NUMBERS`, or `BOXES`, over all rows that have it."""
        together = np.concatenate([numbers[name] for numbers in self.groups.values()] or [np.empty(0)])
        return together[~np.isnan(together)]

    def to_json(self) -> dict[str, Any]:
        """The composition by source, and quantiles over all rows."""
        names = [name.replace(" ", "_") for name in self.columns()]
        quantiles = {
            name: {f"p{int(100 * q)}": float(np.quantile(values, q)) for q in _QUANTILES}
            for name in (*NUMBERS, BOXES)
            if len(values := self.values(name))
        }
        return {"composition": [dict(zip(names, row, strict=True)) for row in self.table()], "quantiles": quantiles}


def collect_stats(manifest: Manifest, on_progress: Callable[[int, int], None] | None = None) -> DataStats:
    """Reads the numbers of every row.

    Args:
        manifest: as loaded from where the data set lies.
        on_progress: called with (shards done, shards in all).

    Raises:
        DpnError: a shard cannot be read.
    """
    parts: dict[tuple[str, str], list[Numbers]] = {}
    done, total = 0, sum(len(split.shards) for split in manifest.splits.values())
    for split_name, split in manifest.splits.items():
        for shard in split.shards:
            table = read_columns(manifest.shard_uri(shard), ["source", *NUMBERS], [OBJECTS.name])
            sources = np.asarray(table.column("source").to_pylist())
            numbers = {name: table.column(name).to_pandas().to_numpy(np.float64) for name in NUMBERS}
            numbers[BOXES] = _boxes(table)
            for source in np.unique(sources):
                here = {name: values[sources == source] for name, values in numbers.items()}
                parts.setdefault((split_name, str(source)), []).append(here)
            done += 1
            if on_progress:
                on_progress(done, total)
    groups = {
        key: {name: np.concatenate([one[name] for one in many]) for name in (*NUMBERS, BOXES)}
        for key, many in parts.items()
    }
    return DataStats(groups)


def _boxes(table: pa.Table) -> npt.NDArray[np.float64]:
    """float64[rows]: how many boxes each row has; NaN for rows without."""
    if OBJECTS.name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    texts = table.column(OBJECTS.name).to_pylist()
    return np.asarray([np.nan if text is None else len(json.loads(text)["boxes"]) for text in texts], np.float64)


def _line(numbers: Numbers) -> tuple[Any, ...]:
    has_image = ~np.isnan(numbers["width"])
    images, rows = int(has_image.sum()), len(has_image)
    widths, heights = (np.median(numbers[name][has_image]) if images else 0 for name in ("width", "height"))
    means = (round(float(numbers[name].mean()), 1) for name in ("prompt_tokens", "answer_tokens", "expected_cost"))
    size = f"{widths:.0f}x{heights:.0f}" if images else "-"
    boxes = numbers[BOXES][~np.isnan(numbers[BOXES])]
    turns, mean_boxes = float(numbers["num_turns"].mean()), float(boxes.mean()) if len(boxes) else 0.0
    return (rows, images, rows - images, *means, round(turns, 2), size, round(mean_boxes, 2))
