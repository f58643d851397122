"""Uniform grid: keeps a regular lattice of every picture's tokens; the control every selection method must beat."""

from __future__ import annotations

import numpy as np

from dpn_model.methods.contract import Host, Parts, TokenReducer
from dpn_model.methods.probe import Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.settings import kept_count
from dpn_model.methods.uniform_grid.lattice import lattice
from dpn_model.methods.uniform_grid.spec import UniformGridSettings
from dpn_model.packing import ImageSpan, PackedSequence


def build(settings: UniformGridSettings, host: Host) -> Parts:
    """A lattice at every site."""
    return Parts({layer: UniformGrid(layer, settings) for layer in settings.resolve_sites(host.num_layers)})


class UniformGrid(TokenReducer):
    """Keeps tokens by their place alone (`lattice`). What is no grid any more counts as one long row.

    Where a grid's rows end with newlines, those of the rows that are left are kept beside the counted tokens.
    """

    def __init__(self, layer: int, settings: UniformGridSettings) -> None:
        super().__init__(layer)
        self.settings = settings

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Keep the lattice of every picture."""
        tokens_in = state.visual_tokens()
        rows = [kept_lattice(image, self.settings.keep) for image in state.images]
        after, _ = replace_image_rows(state, rows, keep_positions=self.settings.positions == "keep")
        told: list[list[str]] = [[] for _ in tokens_in]
        for image in after.images:
            told[image.sample].append(f"{image.height}x{image.width}" if image.is_grid else str(image.num_tokens))
        choices = tuple("+".join(one) or "-" for one in told)
        return after, ReductionRecord(self.layer, tokens_in, after.visual_tokens(), choices)


def kept_lattice(image: ImageSpan, keep: float) -> ImageRows:
    """The rows of one picture, a grid where all its rows have equally many cells."""
    rows = lattice(kept_count(keep, image.height * image.width), image.height, image.width)
    newline = [image.width] * image.row_end
    cells = np.concatenate([row * (image.width + image.row_end) + np.append(columns, newline) for row, columns in rows])
    widths = {len(columns) for _, columns in rows}
    if not image.is_grid or len(widths) > 1:
        return ImageRows.kept(cells.astype(np.int64))
    return ImageRows(cells.astype(np.int64)[:, None], len(rows), widths.pop(), row_end=image.row_end)
