"""Histograms of a data set's lengths and image sizes, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dpn_platform.data.published.stats import DataStats
from dpn_platform.storage import join_uri, write_bytes

#: file name -> (column, what its axis says)
FIGURES = {
    "lengths.png": (
        ("prompt_tokens", "prompt tokens"),
        ("answer_tokens", "answer tokens"),
        ("expected_cost", "tokens of a dense decoder"),
    ),
    "sizes.png": (("width", "image width, pixels"), ("height", "image height, pixels"), ("num_turns", "turns")),
}
_BINS = 40


def write_histograms(stats: DataStats, folder: str) -> list[str]:
    """Writes `lengths.png` and `sizes.png` into a folder (any URI); older ones are replaced.

    Returns:
        Their URIs.

    Raises:
        DpnError: the folder cannot be written to.
    """
    written = []
    for name, panels in FIGURES.items():
        uri = join_uri(folder, name)
        write_bytes(uri, _draw(stats, panels))
        written.append(uri)
    return written


def _draw(stats: DataStats, panels: Sequence[tuple[str, str]]) -> bytes:
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    for axes, (column, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        values = stats.values(column)
        is_few = len(values) > 0 and np.ptp(values) < _BINS  # then every number has a bar of its own
        bins = np.arange(values.min(), values.max() + 2) - 0.5 if is_few else _BINS
        axes.hist(values, bins=bins, color="#4477aa")
        if len(values):
            axes.axvline(float(np.median(values)), color="#cc3311", label=f"median {np.median(values):g}")
            axes.legend()
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)  # a single row is a bar, too
        axes.set_xlabel(label)
        axes.set_ylabel("rows")
    figure.suptitle(f"{len(stats.values('num_turns'))} rows")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
