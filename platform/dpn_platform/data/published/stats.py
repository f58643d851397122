"""What is in a published data set: its composition by source, and the lengths and sizes of its rows.

Only the scalar columns of the shards are read, never the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_columns

NUMBERS = ("prompt_tokens", "answer_tokens", "expected_cost", "num_turns", "text_length", "width", "height")
_COLUMNS = (
    *("split", "source", "rows", "images", "text only"),
    *("mean prompt tokens", "mean answer tokens", "mean cost", "mean turns", "median size"),
)
_QUANTILES = (0.5, 0.95, 1.0)

Numbers = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class DataStats:
    """Every row's numbers, by (split, source); `width` and `height` are NaN for text-only rows."""

    groups: dict[tuple[str, str], Numbers]

    def columns(self) -> tuple[str, ...]:
        """Heads of `table`."""
        return _COLUMNS

    def table(self) -> list[tuple[Any, ...]]:
        """Composition: counts, then means per row (tokens, turns) and the median image size."""
        return [(*key, *_line(numbers)) for key, numbers in sorted(self.groups.items())]

    def values(self, name: str) -> npt.NDArray[np.float64]:
        """One of `NUMBERS` over all rows that have it."""
        together = np.concatenate([numbers[name] for numbers in self.groups.values()] or [np.empty(0)])
        return together[~np.isnan(together)]

    def to_json(self) -> dict[str, Any]:
        """The composition by source, and quantiles over all rows."""
        names = [name.replace(" ", "_") for name in self.columns()]
        quantiles = {
            name: {f"p{int(100 * q)}": float(np.quantile(values, q)) for q in _QUANTILES}
            for name in NUMBERS
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
            table = read_columns(manifest.shard_uri(shard), ["source", *NUMBERS])
            sources = np.asarray(table.column("source").to_pylist())
            numbers = {name: table.column(name).to_pandas().to_numpy(np.float64) for name in NUMBERS}
            for source in np.unique(sources):
                here = {name: values[sources == source] for name, values in numbers.items()}
                parts.setdefault((split_name, str(source)), []).append(here)
            done += 1
            if on_progress:
                on_progress(done, total)
    groups = {
        key: {name: np.concatenate([one[name] for one in many]) for name in NUMBERS} for key, many in parts.items()
    }
    return DataStats(groups)


def _line(numbers: Numbers) -> tuple[Any, ...]:
    has_image = ~np.isnan(numbers["width"])
    images, rows = int(has_image.sum()), len(has_image)
    widths, heights = (np.median(numbers[name][has_image]) if images else 0 for name in ("width", "height"))
    means = (round(float(numbers[name].mean()), 1) for name in ("prompt_tokens", "answer_tokens", "expected_cost"))
    size = f"{widths:.0f}x{heights:.0f}" if images else "-"
    return (rows, images, rows - images, *means, round(float(numbers["num_turns"].mean()), 2), size)
