"""The points of a front as models: each logged in its trial's run, and a version of the study's registered model."""

from __future__ import annotations

from collections.abc import Mapping

from dpn_platform.config.aliases import KNEE, registry_alias
from dpn_platform.evaluation.pareto import best_within, flops_ratio, front_points, knee
from dpn_platform.evaluation.points import Point
from dpn_platform.evaluation.standing import point_metrics
from dpn_platform.reports.look.labels import interval, percent, ratio, short_params
from dpn_platform.reports.look.methods import label_of_method
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.summary import headline
from dpn_platform.tracking import Tracker, Version

#: FLOPs ratios at which a study is asked for its best point
BUDGETS = (0.25, 0.40, 0.50, 0.60)
BEST = "best"
#: of a version: where its checkpoint lies
URI_TAG = "dpn.uri"


def register_front(record: StudyRecord, tracker: Tracker, run_id: str, held: Mapping[str, str]) -> None:
    """Every point of the front that has a checkpoint as one version of the model named like the study.

    Aliases `best`, `knee` and `budget-40` (the best at no more than 40% of the FLOPs) follow the front, unless they are
    among those that are held by a point until another one is proven better; others stay.
    """
    convention = record.convention
    front = front_points(record.points, convention)
    versions = {
        point.name: _version(record, point, tracker)
        for point in front
        if point.run_id is not None and point.checkpoint_uri is not None
    }
    chosen = {BEST: front[-1] if front else None, KNEE: knee(record.points, convention)}
    chosen |= {registry_alias(f"budget-{budget:g}"): best_within(front, budget, convention) for budget in BUDGETS}
    aliases = {
        alias: point.name if point is not None and point.name in versions else None
        for alias, point in chosen.items()
        if alias not in held
    }
    aliases |= {alias: name for alias, name in held.items() if name in versions}
    if versions:
        tracker.register_models(
            run_id, record.name, list(versions.values()), description=headline(record), aliases=aliases
        )


def _version(record: StudyRecord, point: Point, tracker: Tracker) -> Version:
    """Of one point. What was trained is a model of its trial already; what runs on another's checkpoint becomes one."""
    convention, cost = record.convention, ratio(flops_ratio(point, record.convention))
    trial = next(iter(point.seeds), point.name)
    settings = {"method": point.method, **point.params, **({"on": point.on} if point.on is not None else {})}
    model_id = tracker.log_model(
        str(point.run_id),
        f"{record.name}-{trial}",
        str(point.checkpoint_uri),
        params=settings,
        metrics=point_metrics(point, convention),
    )
    accuracy = f"{percent(point.accuracy)}% ({interval(point.accuracy_ci)}, n = {point.n})"
    words = [f"{label_of_method(point.method)}: {accuracy} at {cost} of the FLOPs ({convention})."]
    words += [f"Settings: {short_params(point.params)}."] if point.params else []
    words += [f"Runs on the checkpoint of `{point.on}`, with these settings."] if point.on is not None else []
    tags = {
        "dpn.accuracy": accuracy,
        "dpn.flops_ratio": cost,
        "dpn.convention": convention,
        "dpn.method": point.method,
        URI_TAG: str(point.checkpoint_uri),
    }
    return Version(point.name, model_id, " ".join(words), tags)
