"""What Ray Tune runs for one trial: train, then evaluate. Both continue or return what an earlier attempt left."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import ray.tune

from dpn_platform.config.errors import DpnError
from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.answering.variants import Variant
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import read_result
from dpn_platform.services.worker_errors import essence, is_fault_of_code
from dpn_platform.storage import MissingObjectError
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.measures import measured
from dpn_platform.sweeps.search import VALUES
from dpn_platform.sweeps.trials import REFERENCE, Trial, run_name, trained_run, trial_config
from dpn_platform.training.run_folder import TrainingOutcome, read_outcome

WAITING_CPUS = 0.01


class Execution(NamedTuple):
    """What a trial left: its training, if there was any, and its evaluation unless it was stopped as hopeless."""

    outcome: TrainingOutcome | None
    evaluation: EvaluationResult | None


class Assignment(NamedTuple):
    """What a trial is to do.

    Attributes:
        config: with the trial's parameters.
        name: of its run.
        reference_loss: what its training is judged by.
        checkpoint_uri: to evaluate the method on; None: it is trained.
        main: with a checkpoint: what it is evaluated as, if not with the method of `config`.
        output_uri: folder of its evaluation; None: beside its checkpoint.
    """

    config: ExperimentConfig
    name: str
    reference_loss: float | None = None
    checkpoint_uri: str | None = None
    main: Variant | None = None
    output_uri: str | None = None


Execute = Callable[[Assignment], Execution]


def train_and_evaluate(assignment: Assignment) -> Execution:
    """The real thing. Imported here: a study's driver, which sends this to its trials, never needs torch."""
    from dpn_platform.evaluation.run import evaluate
    from dpn_platform.training.base import method_of
    from dpn_platform.training.run import run_training

    config, name, reference_loss, checkpoint_uri, main, folder = assignment
    alone = runs_alone(config)
    if checkpoint_uri is not None:
        main = main or Variant(method=method_of(config.method, config.train.seed).to_dict())
        return Execution(None, evaluate(checkpoint_uri, config, output_uri=folder, main=main, in_this_process=alone))
    outcome = run_training(config, run_name=name, reference_loss=reference_loss, in_this_process=alone)
    if outcome.status == "stopped":
        return Execution(outcome, None)
    return Execution(outcome, evaluate(outcome.export_uri, config, output_uri=folder, in_this_process=alone))


def runs_alone(config: ExperimentConfig) -> bool:
    """Whether a trial needs no process but its own, which Tune keeps for the next trial and starts again when lost."""
    return config.train.num_workers == 1 and config.eval.num_actors == 1


def trial_resources(config: ExperimentConfig) -> dict[str, float]:
    """What Tune reserves per trial: one that waits for workers needs next to nothing itself."""
    if not runs_alone(config):
        return {"CPU": WAITING_CPUS}
    return {"CPU": config.train.cpus_per_worker, **({"GPU": 1} if config.train.use_gpu else {})}


def build_trainable(
    config: ExperimentConfig, runs_uri: str, study: str, execute: Execute
) -> Callable[[dict[str, Any]], None]:
    """The function for `Tuner`: takes `{"key": ...}` and reports once, at its end.

    An exception is reported as `error` and not raised: the driver writes it down as the trial's reason, and Tune
    repeats only what lost its process.
    """

    def run_trial(assignment: dict[str, Any]) -> None:
        try:
            report = _run(config, Ledger(runs_uri, study), assignment["key"], execute)
        except Exception as error:
            report = {
                "error": essence(error), "traceback": traceback.format_exc(), "is_fault": is_fault_of_code(error)
            }  # fmt: skip
        ray.tune.report(report)

    return run_trial


def _run(config: ExperimentConfig, ledger: Ledger, key: str, execute: Execute) -> dict[str, Any]:
    trial = ledger.trial(key)
    done = _of_equal_trial(ledger, trial) or execute(_assignment(config, ledger, trial))
    report: dict[str, Any] = {} if done.outcome is None else {"outcome": asdict(done.outcome)}
    if done.evaluation is not None:
        assert config.sweep is not None
        report["evaluation_uri"] = done.evaluation.result_uri.rpartition("/")[0]
        report[VALUES] = measured(done.evaluation, done.outcome, config.sweep.flops_convention)
        report[ACCURACY] = done.evaluation.accuracy
        report[FLOPS_RATIO] = done.evaluation.flops_ratio[config.sweep.flops_convention]
    return report


def _of_equal_trial(ledger: Ledger, trial: Trial) -> Execution | None:
    """What an equal trial left, where it was found when this one was put down; None: it is to be run."""
    if trial.reused_from is None or trial.evaluation_uri is None:
        return None
    outcome = None if trial.on is not None else read_outcome(f"{ledger.runs_uri}/{trained_run(ledger.study, trial)}")
    return Execution(outcome, read_result(trial.evaluation_uri))


def _assignment(config: ExperimentConfig, ledger: Ledger, trial: Trial) -> Assignment:
    """Raises DpnError where the checkpoint that it is evaluated on is not there."""
    checkpoint_uri = None
    if trial.on is not None:
        outcome = read_outcome(f"{ledger.runs_uri}/{trained_run(ledger.study, ledger.trial(trial.on))}")
        if outcome is None:
            raise DpnError(f"trial {trial.key}: the run of '{trial.on}', on which it is evaluated, has left nothing")
        checkpoint_uri = outcome.export_uri
    name = trained_run(ledger.study, trial)
    folder = f"{ledger.runs_uri}/{run_name(ledger.study, trial)}/{trial.evaluation_folder}"
    main = None
    if trial.route is not None or trial.dial is not None:
        main = Variant(budget=trial.dial, route=None if trial.route is None else tuple(trial.route))
    loss = _reference_loss(ledger, trial)
    return Assignment(trial_config(config, trial), name, loss, checkpoint_uri, main, folder)


def _reference_loss(ledger: Ledger, trial: Trial) -> float | None:
    """What a searched trial is judged by; controls always run to their end."""
    if trial.is_control:
        return None
    try:
        reference = ledger.trial(REFERENCE)
    except MissingObjectError:
        return None
    outcome = read_outcome(f"{ledger.runs_uri}/{trained_run(ledger.study, reference)}")
    return None if outcome is None else outcome.loss_lm
