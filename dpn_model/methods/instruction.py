"""Where a sample's instruction stands: what a part may hear of the text without hearing an answer.

Shape letters: W rows of the instruction.
"""

from __future__ import annotations

import numpy as np

from dpn_model.packing import PackedSequence


def instruction_rows(state: PackedSequence, sample: int) -> np.ndarray:
    """int64[W]: rows of a sample's text up to the row that asks first, so that no answer is among them.

    Whoever reads it has "turns" among its looks.
    """
    start = state.starts[sample]
    end = start + state.lengths[sample]
    asking = state.asking_rows_R[(state.asking_rows_R >= start) & (state.asking_rows_R < end)]
    rows = np.arange(start, asking[0] + 1 if len(asking) else end)
    visual = [np.arange(one.start, one.start + one.num_tokens) for one in state.images if one.sample == sample]
    return np.setdiff1d(rows, np.concatenate([*visual, state.router_rows_R]))


def prompt_end(state: PackedSequence, sample: int) -> int:
    """The packed row behind the prompt that holds a sample's pictures: behind the row that asks next after them.

    Where turns go on, later ones are not in it, nor is any answer unless a picture stands behind it.
    """
    pictured = max(image.start + image.num_tokens for image in state.images if image.sample == sample)
    end = state.starts[sample] + state.lengths[sample]
    asking: np.ndarray = state.asking_rows_R[(state.asking_rows_R >= pictured - 1) & (state.asking_rows_R < end)]
    return int(asking[0]) + 1 if len(asking) else end
