"""How much of a setting's uncertainty is its training seeds', and how much its questions'.

Shape letters: S seeds, C pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dpn_platform.benchmarks.statistics.pictures import Floats, Pictures


class VarianceParts(NamedTuple):
    """Of a mean's variance: `seeds` falls with more seeds, `questions` with more of these."""

    seeds: float
    questions: float


def variance_parts(pictures: Pictures, score_SC: Floats) -> VarianceParts:
    """Analysis of variance with seeds crossed with pictures: all seeds answer the same questions.

    What seeds differ in on single pictures is counted with the questions: it averages out over them. A part that comes
    out below zero, as it may by chance, is zero.

    Args:
        pictures: the questions.
        score_SC: every seed's sum of scores on each picture; two seeds at least.
    """
    num_seeds = len(score_SC)
    between = float(pictures.means(score_SC).var(ddof=1))
    num_benchmarks = int(pictures.benchmark_C[-1]) + 1
    common = apart = 0.0
    for place in range(num_benchmarks):
        inside = pictures.benchmark_C == place
        count = int(inside.sum())
        if count < 2:
            continue
        value_SC = score_SC[:, inside] * (count / pictures.size_C[inside].sum())
        mean_C = value_SC.mean(axis=0)
        rest_SC = value_SC - mean_C - value_SC.mean(axis=1, keepdims=True) + value_SC.mean()
        of_rest = float((rest_SC**2).sum()) / ((num_seeds - 1) * (count - 1))
        of_pictures = max(0.0, float(np.var(mean_C, ddof=1)) - of_rest / num_seeds)
        common += of_pictures / (count * num_benchmarks**2)
        apart += of_rest / (count * num_benchmarks**2)
    return VarianceParts(max(0.0, between - apart) / num_seeds, common + apart / num_seeds)
