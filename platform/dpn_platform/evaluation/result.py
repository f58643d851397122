"""EvaluationResult: what one evaluation found, as plain JSON; and the Point a study makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpn_platform.benchmarks.contract import FRACTION
from dpn_platform.evaluation.points import FamilyScore, Point, with_flops_ratio, without_nan
from dpn_platform.storage import DamagedObjectError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EvaluationResult:
    """Accuracy with its interval, cost and routes of one checkpoint, on one benchmark or on all that a study asks for.

    Attributes:
        key: what was evaluated: checkpoint, questions, limits, variants. Equal keys mean the same evaluation.
        benchmark: as in the metrics `eval/<benchmark>/...`; of the held-out split the data set's name, of several
            benchmarks the name of their axis.
        n: questions that the accuracy is over.
        accuracy: a fraction (see `points`); NaN where nothing was scored.
        accuracy_ci: its 95% interval: Wilson's on the held-out split, else the bootstrap's.
        per_family: question family -> score.
        flops_ratio: convention -> mean prefill cost over mean uncompressed cost, as it really ran, over all questions.
        visual_tokens_mean: per layer, over questions with a picture; NaN without any.
        examples: samples for the gallery (see `reports.record.StudyRecord.examples`).
        scores: benchmark -> `{label, metric, value, ci, n, unit}`, its headline as papers print it.
        cost: every figure of `runner.costs.cost_of`.
        variants: for each variant of the checkpoint, itself first, `{name, budget, method, accuracy, accuracy_ci,
            scores, flops_ratio, visual_tokens_mean}`.
        about: how it was done and where the files are: layout, split, convention, sub-scores, caution, shards, ...
    """

    key: dict[str, Any]
    benchmark: str
    n: int
    accuracy: float
    accuracy_ci: tuple[float, float]
    per_family: dict[str, FamilyScore]
    flops_ratio: dict[str, float]
    visual_tokens_mean: float
    routes: dict[str, dict[str, int]]
    outcomes_uri: str
    result_uri: str
    duration_s: float = 0.0
    examples: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict, repr=False)
    variants: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    about: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        plain: dict[str, Any] = without_nan({**asdict(self), "schema_version": SCHEMA_VERSION})
        plain["per_family"] = {name: score.model_dump(mode="json") for name, score in self.per_family.items()}
        return plain

    @classmethod
    def from_json(cls, document: Mapping[str, Any], source: str = "result.json") -> EvaluationResult:
        """The result that `to_json` wrote, in this version or one with a field per convention.

        Raises:
            DamagedObjectError: of another version, or not a result.
        """
        values = with_flops_ratio(document)
        if values.pop("schema_version", None) != SCHEMA_VERSION:
            raise DamagedObjectError(f"{source}: not an evaluation result of schema_version {SCHEMA_VERSION}")
        try:
            for name in ("accuracy", "visual_tokens_mean"):
                values[name] = _number(values[name])
            values["flops_ratio"] = {name: _number(value) for name, value in values["flops_ratio"].items()}
            values["accuracy_ci"] = tuple(map(_number, values["accuracy_ci"]))
            values["per_family"] = {name: FamilyScore(**score) for name, score in values["per_family"].items()}
            values["examples"], values["variants"] = tuple(values["examples"]), tuple(values.get("variants", ()))
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedObjectError(f"{source}: cannot be read: {error}") from error

    def metrics(self) -> dict[str, float]:
        """The metrics a tracker is given; what was not measured is left out.

        `eval/<benchmark>/...` of every benchmark, in the unit that papers print, with its costs; `cost/...` and the
        families' accuracies, fractions, of the evaluation as a whole.
        """
        prefix = f"eval/{self.benchmark}"
        low, high = self.accuracy_ci
        values: dict[str, Any] = {}
        if all(one["label"] != self.benchmark for one in self.scores.values()):  # a mean, or of an earlier version
            values |= {f"{prefix}/accuracy": self.accuracy, f"{prefix}/num_questions": self.n}
            values |= {f"{prefix}/accuracy_low": low, f"{prefix}/accuracy_high": high}
        for one in self.scores.values():
            label, stem = f"eval/{one['label']}", f"{one['metric']}_" if one["unit"] == FRACTION else ""
            values |= {f"{label}/{one['metric']}": one["value"], f"{label}/num_questions": one["n"]}
            values |= {f"{label}/{stem}low": one["ci"][0], f"{label}/{stem}high": one["ci"][1]}
            values |= {f"{label}/cost/{name}": value for name, value in one["cost"].items()}
        values |= {f"{prefix}/{family}/accuracy": score.accuracy for family, score in self.per_family.items()}
        values |= {f"cost/flops_ratio_{name}": value for name, value in self.flops_ratio.items()}
        values["cost/visual_tokens_mean"] = self.visual_tokens_mean
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def to_point(
        self, name: str, method: str, *, params: Mapping[str, Any], is_control: bool, **more: str | None
    ) -> Point:
        """This result as a point of a study; `more`: `run_id`, `checkpoint_uri`, `on`."""
        return Point(
            name=name,
            method=method,
            params=dict(params),
            accuracy=self.accuracy,
            accuracy_ci=self.accuracy_ci,
            per_family=self.per_family,
            flops_ratio=self.flops_ratio,
            visual_tokens_mean=self.visual_tokens_mean,
            scores=self.scores,
            is_control=is_control,
            routes=self.routes,
            n=self.n,
            outcomes_uri=self.outcomes_uri,
            run_id=more.get("run_id"),
            checkpoint_uri=more.get("checkpoint_uri"),
            on=more.get("on"),
        )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
