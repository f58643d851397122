"""The accuracy axis of a study: one benchmark's headline, a named mean of several, or the paper's average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import EvalConfig, MeanSettings

AVG = "AVG"
#: the columns of the paper's average in table 1 (spec peer-methods 0, A7), MME as MME/20
PAPER_COLUMNS = ("gqa", "scienceqa-img", "textvqa", "vqav2", "mme", "mm-vet", "mmbench", "pope")


@dataclass(frozen=True)
class Axis:
    """What a study calls accuracy: the mean of these benchmarks' headlines, each as a fraction."""

    name: str
    benchmarks: tuple[str, ...]

    def value(self, scores: Mapping[str, Mapping[str, Any]]) -> tuple[float, tuple[float, float]]:
        """The accuracy and its 95% interval, both fractions.

        The parts' questions are drawn apart, so the half widths of a mean add as squares.

        Args:
            scores: benchmark -> its score with `accuracy` and `accuracy_ci`, both fractions.

        Raises:
            DpnError: a benchmark of the axis has no score.
        """
        lacking = [name for name in self.benchmarks if name not in scores]
        if lacking:
            raise DpnError(
                f"eval.accuracy {self.name}: {lacking[0]} was not scored (its gold is private, or eval.limit cut it); "
                "choose a benchmark or split with public gold, and leave out eval.limit"
            )
        parts = [scores[name] for name in self.benchmarks]
        if len(parts) == 1:
            low, high = parts[0]["accuracy_ci"]
            return parts[0]["accuracy"], (low, high)
        mean = sum(part["accuracy"] for part in parts) / len(parts)
        below = sum((part["accuracy"] - part["accuracy_ci"][0]) ** 2 for part in parts) ** 0.5 / len(parts)
        above = sum((part["accuracy_ci"][1] - part["accuracy"]) ** 2 for part in parts) ** 0.5 / len(parts)
        return mean, (mean - below, mean + above)


def axis_of(settings: EvalConfig) -> Axis:
    """The axis that `eval.accuracy` names; by default the first benchmark.

    Raises:
        DpnError: a benchmark that is unknown or not evaluated.
    """
    evaluated = [find_benchmark(entry.name).name for entry in settings.benchmarks]
    wanted = settings.accuracy
    if wanted is None:
        return Axis(evaluated[0], (evaluated[0],))
    if isinstance(wanted, MeanSettings):
        axis = Axis(wanted.name, tuple(dict.fromkeys(find_benchmark(name).name for name in wanted.of)))
    elif wanted.upper() == AVG:
        axis = Axis(AVG, PAPER_COLUMNS)
    else:
        name = find_benchmark(wanted).name
        axis = Axis(name, (name,))
    absent = [name for name in axis.benchmarks if name not in evaluated]
    if absent:
        raise DpnError(
            f"eval.accuracy {axis.name}: {', '.join(absent)} is not evaluated; eval.benchmarks lists "
            f"{', '.join(evaluated)}"
        )
    return axis
