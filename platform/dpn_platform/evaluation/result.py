"""EvaluationResult: what one evaluation found, as plain JSON; and the Point a study makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.points import FamilyScore, Point

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EvaluationResult:
    """Accuracy with its interval, cost and routes of one checkpoint on one split.

    Attributes:
        key: what was evaluated: checkpoint, split, data fingerprint, limits. Equal keys mean the same evaluation.
        benchmark: name of the data set, as in the metric `eval/<benchmark>/accuracy`.
        n: questions asked, one per sample: the first turn of its conversation.
        accuracy_ci: Wilson's 95% interval.
        flops_ratio_eq8, flops_ratio_swiglu: mean prefill cost over mean uncompressed cost, as it really ran.
        visual_tokens_mean: per layer, over samples with an image; NaN without any.
        examples: samples for the gallery (see `reports.record.StudyRecord.examples`).
    """

    key: dict[str, Any]
    benchmark: str
    n: int
    accuracy: float
    accuracy_ci: tuple[float, float]
    per_family: dict[str, FamilyScore]
    flops_ratio_eq8: float
    flops_ratio_swiglu: float
    visual_tokens_mean: float
    routes: dict[str, dict[str, int]]
    predictions_uri: str
    result_uri: str
    duration_s: float = 0.0
    examples: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        plain = {**asdict(self), "schema_version": SCHEMA_VERSION}
        plain["per_family"] = {name: score.model_dump(mode="json") for name, score in self.per_family.items()}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in plain.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], source: str = "result.json") -> EvaluationResult:
        """The result that `to_json` wrote.

        Raises:
            DpnError: of another version, or not a result.
        """
        values = dict(document)
        if values.pop("schema_version", None) != SCHEMA_VERSION:
            raise DpnError(f"{source}: not an evaluation result of schema_version {SCHEMA_VERSION}")
        try:
            for name in ("accuracy", "flops_ratio_eq8", "flops_ratio_swiglu", "visual_tokens_mean"):
                values[name] = math.nan if values[name] is None else float(values[name])
            values["accuracy_ci"] = tuple(values["accuracy_ci"])
            values["per_family"] = {name: FamilyScore(**score) for name, score in values["per_family"].items()}
            values["examples"] = tuple(values["examples"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise DpnError(f"{source}: cannot be read: {error}") from error

    def metrics(self) -> dict[str, float]:
        """The metrics a tracker is given; what was not measured is left out."""
        prefix = f"eval/{self.benchmark}"
        values = {
            f"{prefix}/accuracy": self.accuracy,
            f"{prefix}/accuracy_low": self.accuracy_ci[0],
            f"{prefix}/accuracy_high": self.accuracy_ci[1],
            f"{prefix}/num_questions": float(self.n),
            **{f"{prefix}/{family}/accuracy": score.accuracy for family, score in self.per_family.items()},
            "cost/flops_ratio_eq8": self.flops_ratio_eq8,
            "cost/flops_ratio_swiglu": self.flops_ratio_swiglu,
            "cost/visual_tokens_mean": self.visual_tokens_mean,
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def to_point(
        self, name: str, method: str, *, params: Mapping[str, Any], is_control: bool, **more: str | None
    ) -> Point:
        """This result as a point of a study; `more`: `run_id`, `checkpoint_uri`."""
        return Point(
            name=name,
            method=method,
            params=dict(params),
            accuracy=self.accuracy,
            accuracy_ci=self.accuracy_ci,
            per_family=self.per_family,
            flops_ratio_eq8=self.flops_ratio_eq8,
            flops_ratio_swiglu=self.flops_ratio_swiglu,
            visual_tokens_mean=self.visual_tokens_mean,
            is_control=is_control,
            routes=self.routes,
            n=self.n,
            predictions_uri=self.predictions_uri,
            run_id=more.get("run_id"),
            checkpoint_uri=more.get("checkpoint_uri"),
        )
