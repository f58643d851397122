"""What Ray Tune runs for one trial: train, then evaluate. Both continue or return what an earlier attempt left."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import ceil
from types import MappingProxyType
from typing import Any, NamedTuple

import ray.tune

from dpn_platform.config.errors import DpnError
from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.evaluation.answering.variants import Variant
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import read_result
from dpn_platform.services.worker_errors import essence, is_fault_of_code
from dpn_platform.storage import MissingObjectError
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.measures import measured
from dpn_platform.sweeps.rungs import answers_at, judge_of, rivals_of
from dpn_platform.sweeps.search import STOPPED, VALUES
from dpn_platform.sweeps.stopping import Answers, Judge, Verdict, beaten_on_questions
from dpn_platform.sweeps.trials import REFERENCE, Trial, run_name, trained_run, trial_config
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run_folder import TrainingOutcome, read_outcome

WAITING_CPUS = 0.01


class Execution(NamedTuple):
    """What a trial left.

    Attributes:
        outcome: of its training, if there was any.
        evaluation: None where it ended early.
        stopped: why, and what it would probably have come to; None: it ran to its end.
    """

    outcome: TrainingOutcome | None
    evaluation: EvaluationResult | None
    stopped: Verdict | None = None


class Assignment(NamedTuple):
    """What a trial is to do.

    Attributes:
        config: with the trial's parameters.
        name: of its run.
        judge: of its training; None: it is not judged.
        checkpoint_uri: to evaluate the method on; None: it is trained.
        main: with a checkpoint: what it is evaluated as, if not with the method of `config`.
        output_uri: folder of its evaluation; None: beside its checkpoint.
        reference_uri: folder of the dense control's run, once it has finished.
        rivals: trials, with the folders of their evaluations, that its answers are held against.
    """

    config: ExperimentConfig
    name: str
    judge: Judge | None = None
    checkpoint_uri: str | None = None
    main: Variant | None = None
    output_uri: str | None = None
    reference_uri: str | None = None
    rivals: Mapping[str, str] = MappingProxyType({})


Execute = Callable[[Assignment], Execution]


def train_and_evaluate(assignment: Assignment) -> Execution:
    """The real thing. Imported here: a study's driver, which sends this to its trials, never needs torch."""
    from dpn_platform.evaluation.run import evaluate
    from dpn_platform.training.base import method_of
    from dpn_platform.training.run import run_training

    config, folder, alone = assignment.config, assignment.output_uri, runs_alone(assignment.config)
    if assignment.checkpoint_uri is not None:
        main = assignment.main or Variant(method=method_of(config.method, config.train.seed).to_dict())
        done = evaluate(assignment.checkpoint_uri, config, output_uri=folder, main=main, in_this_process=alone)
        return Execution(None, done)
    outcome = run_training(
        config,
        run_name=assignment.name,
        judge=assignment.judge,
        reference_uri=assignment.reference_uri,
        in_this_process=alone,
    )
    if outcome.status == "stopped":
        verdict = None if assignment.judge is None else assignment.judge.at_rung(read_metrics(outcome.run_uri))
        return Execution(outcome, None, verdict or Verdict(outcome.stop_reason or "stopped early"))
    looks = _looks(assignment)
    rivals = _answers(assignment, assignment.rivals) if looks else []
    assert config.sweep is not None
    for count, total in looks:
        some = config.model_copy(update={"eval": config.eval.model_copy(update={"limit": count})})
        part = evaluate(outcome.export_uri, some, output_uri=folder, in_this_process=alone)
        [own] = _answers(assignment, {"": part.result_uri.rpartition("/")[0]})
        if (reason := beaten_on_questions(own, rivals, total, len(config.sweep.early_stopping.questions))) is not None:
            ratio = part.flops_ratio[config.sweep.flops_convention]
            return Execution(outcome, None, Verdict(reason, part.accuracy, ratio))
    return Execution(outcome, evaluate(outcome.export_uri, config, output_uri=folder, in_this_process=alone))


def _looks(assignment: Assignment) -> list[tuple[int, int]]:
    """(questions answered, questions in all) at each look at a trial's answers; none where nobody looks."""
    config = assignment.config
    assert config.sweep is not None
    shares = config.sweep.early_stopping.questions
    if not shares or not assignment.rivals or assignment.judge is None:
        return []
    done = None if assignment.output_uri is None else read_result(assignment.output_uri)
    if done is not None and done.key.get("limit") == config.eval.limit:
        return []  # an attempt that was killed had answered them all
    total = load_manifest(config.data.uri).split(config.data.eval_split).rows
    total = min(total, config.eval.limit or total)
    return [(count, total) for count in sorted({ceil(share * total - 1e-9) for share in shares}) if count < total]


def _answers(assignment: Assignment, folders: Mapping[str, str]) -> list[Answers]:
    sweep = assignment.config.sweep
    assert sweep is not None
    return [answers_at(name, uri, sweep.flops_convention) for name, uri in folders.items()]


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
    assert config.sweep is not None
    report: dict[str, Any] = {} if done.outcome is None else {"outcome": asdict(done.outcome)}
    if done.stopped is not None:
        reason, accuracy, flops_ratio = done.stopped
        expected = {} if accuracy is None else {ACCURACY: accuracy, FLOPS_RATIO: flops_ratio}
        report |= {STOPPED: reason, VALUES: expected}
    elif done.evaluation is not None:
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
            raise DpnError(
                f"trial {trial.key}: the run of '{trial.on}', on which it is evaluated, left nothing, or was pruned"
            )
        checkpoint_uri = outcome.export_uri
    name = trained_run(ledger.study, trial)
    folder = f"{ledger.runs_uri}/{run_name(ledger.study, trial)}/{trial.evaluation_folder}"
    main = None
    if trial.route is not None or trial.dial is not None:
        main = Variant(budget=trial.dial, route=None if trial.route is None else tuple(trial.route))
    assert config.sweep is not None
    rule = config.sweep.early_stopping
    trials = ledger.trials() if rule.enabled and (rule.rungs or rule.questions) else _reference_of(ledger)
    # What is evaluated on another's checkpoint, the reference itself and what starts before it know nothing of it.
    reference = trials.get(REFERENCE) if trial.on is None and trial.key != REFERENCE else None
    reference_uri = None if reference is None else f"{ledger.runs_uri}/{trained_run(ledger.study, reference)}"
    outcome = None if reference_uri is None else read_outcome(reference_uri)
    if outcome is None:
        reference_uri = None
    judge = judge_of(config, trial, trials, None if outcome is None else outcome.loss_lm)
    rivals = {} if judge is None else rivals_of(trials)
    return Assignment(trial_config(config, trial), name, judge, checkpoint_uri, main, folder, reference_uri, rivals)


def _reference_of(ledger: Ledger) -> dict[str, Trial]:
    """The dense control alone, where there is one: all that a loss is judged by."""
    try:
        return {REFERENCE: ledger.trial(REFERENCE)}
    except MissingObjectError:
        return {}
