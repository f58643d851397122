"""Two detection reports beside each other: only of one kind of question, and paired."""

from __future__ import annotations

import numpy as np

from dpn_platform.benchmarks.objects.detection import DetectionReport
from dpn_platform.benchmarks.objects.estimates import Estimate, estimate_of
from dpn_platform.config.errors import DpnError


def check_same_categories(first: str, second: str, names: tuple[str, str] = ("the first", "the second")) -> None:
    """Refuses to hold an AP over given categories against one over all.

    Args:
        first, second: GIVEN or ALL, as reports record it.
        names: of the two, for the error.

    Raises:
        DpnError: they differ.
    """
    if first != second:
        raise DpnError(
            f"AP with {first} categories ({names[0]}) and AP with {second} categories ({names[1]}) are not comparable: "
            "a question that names only what its picture shows is the easier one"
        )


def ap_change(base: DetectionReport, other: DetectionReport, ranking: str | None = None) -> Estimate:
    """AP of `other` minus AP of `base`, the same pictures drawn for both.

    Args:
        base, other: reports on the same questions, made with one seed and number of draws.
        ranking: what ranks the boxes; None: what each report's headline has.

    Raises:
        DpnError: their categories or questions differ, or one of them has no such ranking.
    """
    check_same_categories(base.categories, other.categories)
    if base.digest != other.digest:
        raise DpnError("the two evaluations asked other questions, so their AP cannot be compared by picture")
    before, after = (_ap(report, ranking or report.ranking) for report in (base, other))
    drawn = [(report.seed, len(one.draws)) for report, one in ((base, before), (other, after))]
    if drawn[0] != drawn[1]:
        raise DpnError(f"pictures were drawn with (seed, number) {drawn[0]} and {drawn[1]}; wanted the same for both")
    none = before.value is None or after.value is None
    value = np.nan if none else float(after.value or 0.0) - float(before.value or 0.0)
    return estimate_of(value, after.draws - before.draws, after.n)


def _ap(report: DetectionReport, ranking: str) -> Estimate:
    if ranking not in report.ap:
        raise DpnError(f"no AP by {ranking!r}: ranked by {', '.join(map(repr, report.ap))}")
    return report.ap[ranking]
