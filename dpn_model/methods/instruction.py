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
