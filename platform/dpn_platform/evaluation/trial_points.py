"""The point that a trial of a ledger makes: kept with the trial, or (earlier versions) made of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dpn_platform.evaluation.points import Point
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.storage import DamagedObjectError


def point_of_trial(trial: Mapping[str, Any], source: str) -> Point | None:
    """The point of a finished trial; None for another one.

    Args:
        trial: the ledger's document (`sweeps.trials.Trial`).
        source: its address, for messages.

    Raises:
        DamagedObjectError: no trial, or neither its point nor its evaluation can be read.
    """
    try:
        if trial["state"] != "finished":
            return None
        if trial.get("point") is not None:
            return Point.from_json(trial["point"])
        return _from_evaluation(trial, source)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedObjectError(f"{source}: not a trial of a study: {error!r}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedObjectError(f"{source}: its point cannot be read, {where}: {first['msg']}") from None


def _from_evaluation(trial: Mapping[str, Any], source: str) -> Point:
    from dpn_platform.evaluation.run import read_result  # brings Ray, which no newer ledger needs

    result = read_result(str(trial["evaluation_uri"]))
    if result is None:
        raise DamagedObjectError(f"{source}: the evaluation {trial['evaluation_uri']} is missing")
    return point_of_result(trial, result)


def point_of_result(trial: Mapping[str, Any], result: EvaluationResult) -> Point:
    """The point that a trial's evaluation makes; whether it keeps the study's constraints is not asked."""
    params = dict(trial["params"])
    point = result.to_point(
        trial["key"],
        params.pop("method.name"),
        params=params,
        is_control=trial["is_control"],
        run_id=trial["run_id"],
        checkpoint_uri=result.key.get("checkpoint_uri"),
        on=trial.get("on"),
    )
    return point.model_copy(update={"extension": trial.get("extension", 0)})
