"""How much the best of many points is flattered by the questions that chose it.

Shape letters: P points, C pictures, R draws.
"""

from __future__ import annotations

import numpy as np

from dpn_platform.benchmarks.statistics.pictures import Floats, Pictures

NUM_DRAWS = 200


def flattery_of_best(pictures: Pictures, score_PC: Floats, price_P: Floats, seed: int = 0) -> float:
    """What the best value is above what such a choice is worth on questions that had no part in it.

    Every draw chooses among the points anew, and its choice is measured on the pictures that it left out, beside the
    best one. Where one point is far ahead, all draws choose it, and it is not flattered.

    Args:
        pictures: the questions.
        score_PC: every point's sums of scores; its value is its accuracy minus its price.
        price_P: one per point.
    """
    inside_PR, outside_PR = pictures.drawn_means(score_PC, seed, NUM_DRAWS)
    chosen_R = (inside_PR - price_P[:, None]).argmax(axis=0)
    worth_PR = outside_PR - price_P[:, None]
    best = int((pictures.means(score_PC) - price_P).argmax())
    return max(0.0, float(np.nanmean(worth_PR[best] - worth_PR[chosen_R, np.arange(NUM_DRAWS)])))
