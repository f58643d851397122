"""What a study knows of its rungs: who has measured what there, who is judged by it, and what it has saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from dpn_platform.benchmarks.outcomes import OUTCOMES, read_columns
from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.routing_statistics import rank_correlation
from dpn_platform.sweeps.stopping import MEASURES, Answers, Finished, Judge
from dpn_platform.sweeps.trials import EVALUATION, REFERENCE, Trial, method_name
from dpn_platform.training.metric_lines import PREFILL_RATIO, Line

_KEYS = (*(key for key, _ in MEASURES.values()), PREFILL_RATIO)


def rungs_of(lines: Sequence[Line]) -> dict[str, Line]:
    """What a run measured on held-out rows, by step, as a ledger keeps it."""
    found = {str(int(line["step"])): {key: line[key] for key in _KEYS if key in line} for line in lines}
    return {step: measured for step, measured in found.items() if measured}


def judge_of(config: ExperimentConfig, trial: Trial, trials: Mapping[str, Trial], loss: float | None) -> Judge | None:
    """Who judges a trial; None: nobody, as of controls, of what is not trained, and of what has had a point already.

    Args:
        config: of the study.
        trials: of the study, as the ledger has them when the trial starts.
        loss: the dense control's `train/loss_lm`.
    """
    assert config.sweep is not None
    rule = config.sweep.early_stopping
    is_asked_again = trial.evaluation_folder != EVALUATION
    if trial.is_control or trial.on is not None or is_asked_again or not rule.enabled:
        return None
    finished = tuple(
        Finished(
            one.key,
            method_name(one),
            {int(step): line for step, line in one.rungs.items()},
            one.values[ACCURACY],
            one.values[FLOPS_RATIO],
            _is_feasible(one),
        )
        for one in trials.values()
        if one.state == "finished" and one.key != trial.key and {ACCURACY, FLOPS_RATIO} <= set(one.values)
    )
    dense = trials[REFERENCE].values if REFERENCE in trials else {}
    steps = rule.steps_of_rungs(config.train)
    return Judge(rule, method_name(trial), steps, loss, finished, config.sweep.constraints, dense)


def rivals_of(trials: Mapping[str, Trial]) -> dict[str, str]:
    """Trial -> folder of its evaluation, of those whose points may be on a front."""
    return {
        one.key: one.evaluation_uri
        for one in trials.values()
        if one.state == "finished" and one.evaluation_uri is not None and _is_feasible(one)
    }


def answers_at(name: str, evaluation_uri: str, convention: str) -> Answers:
    """What was answered in an evaluation's folder, by the checkpoint as it is."""
    macs, dense = f"{convention}_macs", f"{convention}_dense"
    table = read_columns(f"{evaluation_uri}/{OUTCOMES}", ("variant", "place", "score", macs, dense))
    rows = sorted((row for row in table.to_pylist() if not row.get("variant")), key=lambda row: row["place"])
    costs = [(row[macs] or 0.0, row[dense] or 0.0) for row in rows]
    return Answers(name, [row["score"] or 0.0 for row in rows], costs)


def saving(trials: Iterable[Trial]) -> dict[str, float] | None:
    """Device-hours that ending trials early has saved, if each had taken as long as finished ones of the search.

    Returns:
        `{ended, saved_device_hours, device_hours}`, the last of the whole study; None where none was ended.
    """
    trials = list(trials)
    typical = [
        one.device_hours for one in trials if one.state == "finished" and not one.is_control and not one.is_taken_over
    ]
    ended = [one for one in trials if one.state == "stopped"]
    if not ended or not typical:
        return None
    saved = sum(max(0.0, fmean(typical) - one.device_hours) for one in ended)
    taken = sum(one.device_hours for one in trials)
    return {"ended": len(ended), "saved_device_hours": round(saved, 4), "device_hours": round(taken, 4)}


def proxies(trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """Step -> measure -> its rank correlation with the accuracy of trials that have finished, and their number.

    A good measure has one near 1; losses and divergences count with their sign turned.
    """
    done = [one for one in trials if one.state == "finished" and one.on is None]
    found: dict[str, dict[str, Any]] = {}
    for step in sorted({step for one in done for step in one.rungs}, key=int):
        for name, (key, is_share) in MEASURES.items():
            known = [(one.rungs[step][key], one.values[ACCURACY]) for one in done if key in one.rungs.get(step, {})]
            if len(known) > 2:
                measured, came = np.array(known).T
                rho = rank_correlation(measured if is_share else -measured, came)
                found.setdefault(step, {"trials": len(known)})[name] = None if rho is None else round(float(rho), 3)
    return found


def _is_feasible(trial: Trial) -> bool:
    return bool((trial.point or {}).get("is_feasible", True))
