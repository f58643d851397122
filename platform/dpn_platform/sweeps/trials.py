"""Trials of a study: what each changes in the recipe, the controls among them, and the config each runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from dpn_model.methods.registry import DENSE, find_method
from dpn_platform.config.controls import ControlTrial
from dpn_platform.config.load import parse_config
from dpn_platform.config.method import laid_over
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.storage import DamagedObjectError

State = Literal["waiting", "running", "finished", "stopped", "failed"]
EVALUATION = "evaluation"
REFERENCE = DENSE  # the control that hopeless trials are compared with


@dataclass(frozen=True)
class Trial:
    """One point of a study in the making.

    Attributes:
        key: its name within the study, also the end of its run's name.
        params: dotted configuration keys it sets over the study's config.
        is_control: a control, not a proposal of the search.
        state: "stopped" means ended early, without a point; "failed" is tried again by a resume.
        reason: why it was stopped or failed.
        values: accuracy and FLOPs ratio once finished, as the search is told; what was to be expected of one that
            ended at a rung.
        rungs: step -> what its training measured on held-out rows there.
        evaluation_uri: folder of its evaluation once finished.
        run_id: of its run in the tracker, once it was started.
        resumed_from: step at which its last training attempt started.
        on: key of the trial whose checkpoint it is evaluated on; None: it is trained.
        route: that every sample takes there; None: the trial's own method decides.
        dial: FLOPs ratio that the dial is turned to there.
        point: once finished, the point it makes (`Point.to_json`), so that a study is read from its ledger alone.
        extension: number of the extension of the study that brought it; 0: the study began with it.
        fingerprint: of all that decides its result; trials that share it are one, in whatever study.
        reused_from: `study/key` of the trial whose result it has, where it was not run again.
        evaluation_folder: in its run's; another one where it was evaluated again, on more or other questions.
        device_hours: that all its attempts took.
    """

    key: str
    params: dict[str, Any]
    is_control: bool = False
    state: State = "waiting"
    reason: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    evaluation_uri: str | None = None
    run_id: str | None = None
    resumed_from: int = 0
    on: str | None = None
    route: Sequence[str] | None = None
    dial: float | None = None
    point: dict[str, Any] | None = None
    extension: int = 0
    fingerprint: str = ""
    reused_from: str | None = None
    evaluation_folder: str = EVALUATION
    device_hours: float = 0.0
    rungs: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state in ("finished", "stopped")

    @property
    def is_taken_over(self) -> bool:
        """Whether its result is that of an equal trial; one that was asked anew since has its own."""
        return self.reused_from is not None and self.evaluation_folder == EVALUATION

    def become(self, state: State, **changes: Any) -> Trial:
        """The trial in another state."""
        return replace(self, state=state, **changes)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], source: str) -> Trial:
        """The trial that `to_json` wrote.

        Raises:
            DamagedObjectError: not a trial of this version.
        """
        try:
            trial = cls(**document)
        except TypeError as error:
            raise DamagedObjectError(f"{source}: not a trial of this version: {error}") from error
        if trial.state not in get_args(State) or not isinstance(trial.params, dict):
            raise DamagedObjectError(f"{source}: not a trial of this version: its state is {trial.state!r}")
        return trial


def control_trials(controls: Sequence[ControlTrial]) -> list[Trial]:
    """Trials of controls whose settings are known, in their order."""
    trials = []
    for control in controls:
        # A turned dial changes nothing else of the trial that it belongs to.
        settings = control.method if control.dial is None else {"name": control.method["name"]}
        params = {f"method.{key}": value for key, value in settings.items()}
        params |= {"seed": control.seed} if control.seed else {}
        params |= {} if control.dial is None else {"dial": control.dial}
        trials.append(Trial(control.key, params, is_control=True, on=control.on, dial=control.dial))
    return trials


def route_trials(trial: Trial, routes: Sequence[str]) -> list[Trial]:
    """A dynamic trial's checkpoint on every route that it took, each for all samples.

    Weighted with the shares of the samples that took them, they are what the same routes come to when shuffled.
    """
    return [
        Trial(
            f"{trial.key}-route-{route.replace(',', '-')}",
            {**trial.params, "route": route},
            is_control=True,
            on=trial.key,
            route=route.split(","),
        )
        for route in routes
    ]


def searched_trial(number: int, method: str, params: Mapping[str, Any]) -> Trial:
    """The trial for the search's proposal of that number; `params` by dotted key."""
    return Trial(f"{method}-{number:02d}", {"method.name": method, **params})


def members_of(first: Trial, replicates: int, dial: Sequence[float]) -> list[Trial]:
    """The trials that a proposal comes to: its seeds, and each one's checkpoint at these ratios of its dial."""
    found = []
    for seed in range(replicates):
        own = first if seed == 0 else Trial(f"{first.key}-seed-{seed}", {**first.params, "seed": seed})
        kept = {key: value for key, value in own.params.items() if key in ("method.name", "seed")}
        turned = [Trial(f"{own.key}-dial-{one:g}", {**kept, "dial": one}, on=own.key, dial=one) for one in dial]
        found += [own, *turned]
    return found


def run_name(study: str, trial: Trial) -> str:
    """Name of the trial's own run: fixed, so that an interrupted one continues."""
    return f"{study}-{trial.key}"


def trained_run(study: str, trial: Trial) -> str:
    """Name of the run in which the trial was trained: that of an equal trial, where its result was taken over."""
    return run_name(study, trial) if trial.reused_from is None else trial.reused_from.replace("/", "-", 1)


def trial_config(config: ExperimentConfig, trial: Trial) -> ExperimentConfig:
    """The study's config with the trial's parameters set; of the sweep, what a single run is judged and told by."""
    values = config.model_dump(mode="json")
    # The rest was checked beside the study's own method, and need not fit this one's sites.
    kept = {key: values["sweep"][key] for key in ("early_stopping", "flops_convention", "seed")}
    values["sweep"] = {"num_trials": 0, "controls": [], **kept}
    values["pipeline"] = None
    given: dict[str, Any] = {"method": {}}
    for key, value in trial.params.items():
        if "." in key:  # others (seed, route, dial) are no keys of an experiment
            *sections, last = key.split(".")
            target = given if sections[0] == "method" else values
            for section in sections:
                target = target.setdefault(section, {})
            target[last] = value
    values["train"]["seed"] += trial.params.get("seed", 0)  # a replicate's, beside the study's own
    values["method"] = laid_over(values["method"], given["method"])
    if trial.on is not None or not find_method(method_name(trial)).takes_routes:
        values["eval"]["routes"] = "own"  # there are none, or they are answered where the checkpoint is trained
    return parse_config(values, f"trial {trial.key}")


def shown_params(trial: Trial) -> dict[str, Any]:
    """What a report names beside a point: the searched values, or a control's setting."""
    return {key: value for key, value in trial.params.items() if key != "method.name"}


def method_name(trial: Trial) -> str:
    """The method the trial runs, as in `method.name`."""
    return str(trial.params["method.name"])
