"""The record with its front: what every form of a report begins with. Draws nothing, so a terminal need not wait."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import pareto_front
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.reports.study.record import StudyRecord


def with_front(record: StudyRecord) -> StudyRecord:
    """The record with seeds of one setting as one point, and each point's `on_front` set from all points.

    Raises:
        DpnError: two points share a name.
    """
    repeated = [name for name, count in Counter(point.name for point in record.points).items() if count > 1]
    if repeated:
        raise DpnError(f"study '{record.name}': more than one point is named '{repeated[0]}', names must differ")
    record = replace(record, points=seeds_together(record.points))
    flags = pareto_front(record.points, record.convention)
    points = (point.model_copy(update={"on_front": flag}) for point, flag in zip(record.points, flags, strict=True))
    return replace(record, points=tuple(points))
