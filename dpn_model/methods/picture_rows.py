"""Which rows of a sample are its picture's half, and which the question's: what methods that route by either share."""

from __future__ import annotations

import numpy as np

from dpn_model.methods.layer_call import LayerCall


def picture_rows(call: LayerCall) -> list[np.ndarray]:
    """For every sample int64[n], ascending: rows of its pictures, and those in front of the first (the system prompt).

    Without a picture there are none.
    """
    found = []
    for start, length in zip(call.starts.tolist(), call.lengths, strict=True):
        visual = start + np.flatnonzero(call.is_visual_T[start : start + length])
        before = np.arange(start, visual[0]) if len(visual) else visual
        found.append(np.concatenate([before, visual]))
    return found
