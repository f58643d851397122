"""The section `sweep` of an experiment: how a study searches, what it carries, and how far it may go."""

from __future__ import annotations

import re
from datetime import datetime
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from dpn_model.methods.registry import DEFAULT_CONTROLS
from dpn_platform.config.controls import Control, all_control_trials
from dpn_platform.config.evaluation import Budget
from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO, ConstraintText, Objective
from dpn_platform.config.search import SearchConfig
from dpn_platform.config.section import Section
from dpn_platform.config.training import TrainConfig

Share = Annotated[float, Field(gt=0, le=1)]
Proxy = Literal["loss", "exact", "kl"]
_SAMPLERS = ("tpe", "random", "grid", "nsga2", "nsga3")


def _checked_sampler(name: str) -> str:
    if name not in _SAMPLERS and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise ValueError(f"allowed: {', '.join(_SAMPLERS)}, or module:function")
    return name


Sampler = Annotated[str, AfterValidator(_checked_sampler)]


def _dated(value: Any) -> Any:
    """A number, also one in quotes, would be taken for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise ValueError("must be a date and time as 2026-11-26T06:00 (local time) or 2026-11-26T06:00+01:00")


Moment = Annotated[datetime, BeforeValidator(_dated)]


class EarlyStopping(Section):
    """When a searched trial ends early: once it is hopeless, or once all that it can still become is dominated.

    Hopeless by `loss_margin`; dominated at `rungs` of its training and of its questions (see `sweeps.stopping`).
    """

    enabled: bool = True
    grace_steps: int = Field(80, gt=0, description="no trial is judged by its loss before this step")
    loss_margin: float = Field(
        1.0, gt=0, description="stopped when loss_lm exceeds the dense control's by more, in nats per token"
    )
    rungs: tuple[Share, ...] = Field(
        (), description="shares of the training at which train.eval_samples held-out rows say what a trial can become"
    )
    by: Proxy = Field("loss", description="what is measured there: held-out loss, right answers, KL from dense")
    level: float = Field(0.1, ge=0, lt=0.5, description="share of trials that may come to more than their bound")
    min_trials: int = Field(
        6,
        ge=4,
        description="finished trials, before which nobody is judged at a rung; as many as are trained: nobody ever is",
    )
    questions: tuple[Annotated[Share, Field(lt=1)], ...] = Field(
        (), description="shares of the questions after which a trial is judged"
    )

    def steps_of_rungs(self, train: TrainConfig) -> tuple[int, ...]:
        """Steps at which a training is measured, those of metric lines; none where stopping is off."""
        every = train.log_every_steps
        steps = {min(train.steps, every * ceil(share * train.steps / every - 1e-9)) for share in self.rungs}
        return tuple(sorted(steps)) if self.enabled else ()


class StudyLimits(Section):
    """What a study may take. Once reached, running trials end their work, nothing new starts; more goes on with more.

    Attributes:
        device_hours: of trainings and evaluations together, interrupted attempts included.
        currency: of these hours at `price_per_hour`, in whatever you count.
        until: ISO 8601; local time (2026-11-26T06:00) unless it names its zone (2026-11-26T06:00+01:00).
        confirm_above: device-hours above which `dpn sweep` and `dpn study extend` ask before they start.
    """

    device_hours: float | None = Field(None, gt=0)
    currency: float | None = Field(None, gt=0)
    price_per_hour: float | None = Field(None, gt=0)
    until: Moment | None = None
    confirm_above: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _has_a_price(self) -> StudyLimits:
        if self.currency is not None and self.price_per_hour is None:
            raise ValueError("currency needs price_per_hour, of one device")
        return self

    @property
    def hours(self) -> float | None:
        """Device-hours that hours and currency allow; None: any number."""
        paid = None if self.currency is None else self.currency / (self.price_per_hour or 1.0)
        return min((one for one in (self.device_hours, paid) if one is not None), default=None)


class SweepConfig(Section):
    """A study: controls always, then `num_trials` trials of the searched method that Optuna proposes."""

    num_trials: int = Field(6, ge=0, description="that the sampler proposes; 0: the controls and points alone")
    max_concurrent_trials: int = Field(1, gt=0)
    search: SearchConfig = Field(SearchConfig(), validate_default=False)
    sampler: Sampler = Field(
        "tpe",
        description="of Optuna; grid: the whole space, whatever num_trials; or module:function, called with a seed",
    )
    points: tuple[dict[str, Any], ...] = Field((), description="run first: method, settings and keys as in search")
    replicates: int = Field(1, ge=1, le=100, description="seeds of every searched trial; they make one point")
    dial: tuple[Budget, ...] = Field((), description="FLOPs ratios at which what a searched trial trained is run again")
    objectives: tuple[Objective, ...] = (ACCURACY, FLOPS_RATIO)
    constraints: tuple[ConstraintText, ...] = Field((), description="what a point keeps to, or is on no front")
    reuse: Literal["all", "study", "none"] = Field(
        "all", description="equal trials are not run again: of all studies in storage, of this one, or they are"
    )
    limits: StudyLimits = StudyLimits()
    controls: tuple[Control, ...] = Field(DEFAULT_CONTROLS, description="always run, under the same recipe")
    budgets: tuple[Budget, ...] = Field(
        (), description="shares of the visual tokens, weighted by depth, at which the study's own controls run"
    )
    controls_at_front: bool = Field(False, description="own controls also at the budgets of the search's own front")
    early_stopping: EarlyStopping = EarlyStopping()
    flops_convention: Literal["eq8", "swiglu", "executed"] = Field(
        "swiglu", description="cost axis: the decoder's prefill, or executed: tower, projector, method and head as well"
    )
    seed: int = 0

    @property
    def num_proposals(self) -> int:
        """Trials of the search, replicates and dials not counted: explicit points, then what the sampler proposes."""
        is_grid = self.sampler == "grid" and self.num_trials > 0
        return len(self.points) + (len(self.search.grid()) if is_grid else self.num_trials)

    @property
    def carries_controls(self) -> bool:
        """Whether the study brings controls of its own."""
        return bool(self.budgets) or self.controls_at_front

    @property
    def control_names(self) -> set[str]:
        """Methods of the controls that are named."""
        return {trial.key for trial in all_control_trials(self.controls)}

    @field_validator("objectives")
    @classmethod
    def _looks_for_something(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if not objectives:
            raise ValueError(f"names nothing to look for; the default is {ACCURACY}, {FLOPS_RATIO}")
        return objectives

    @model_validator(mode="after")
    def _on_something(self) -> SweepConfig:
        trials = all_control_trials(self.controls)
        trained = {trial.key for trial in trials if trial.on is None}
        for trial in trials:
            if trial.on is not None and trial.on not in trained:
                raise ValueError(
                    f"control {trial.key} is to run on '{trial.on}', which is not among those that are trained: "
                    f"{', '.join(sorted(trained)) or 'none'}"
                )
        return self
