"""What ending trials early saves, and what it costs the front: a study that ended none, replayed under many rules.

    dpn sweep jobs/configs/demo-search.yaml sweep.early_stopping.min_trials=28 sweep.early_stopping.questions=[]
    python -m tests.benchmarks.stopping_in_time STUDY [--runs-uri URI] [--questions 0.25 0.5]

Nobody is judged before as many trials have finished as are trained, 24 and four controls. So all were measured at every
rung and none was judged, and any rule can be tried on them: each trial meets, in the study's order, those that the rule
let finish before it. Steps and answers are counted; a front's difference is that of hypervolumes, with a 95% interval
over pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from dpn_platform.cli.study_place import DEFAULT_RUNS, locate
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.common_outcomes import common_outcomes
from dpn_platform.evaluation.front_statistics import DrawnPoints
from dpn_platform.evaluation.pareto import dominated_area
from dpn_platform.evaluation.points import Point
from dpn_platform.sweeps.rungs import answers_at, judge_of, proxies
from dpn_platform.sweeps.stopping import Answers, beaten_on_questions
from dpn_platform.sweeps.trials import Trial


@dataclass
class Replay:
    """What a rule comes to: shares of the search's steps and answers that were not needed, and who was ended."""

    steps: float
    answers: float
    ended: list[str]


def replay(
    config: ExperimentConfig,
    trials: Sequence[Trial],
    answers: dict[str, Answers],
    *,
    by: str,
    level: float,
    rungs: Sequence[int],
    questions: Sequence[float],
) -> Replay:
    """The search under another rule; `rungs` in steps."""
    assert config.sweep is not None
    rule = config.sweep.early_stopping.model_copy(
        update={"by": by, "level": level, "min_trials": 6, "rungs": tuple(step / config.train.steps for step in rungs)}
    )
    config = config.model_copy(update={"sweep": config.sweep.model_copy(update={"early_stopping": rule})})
    finished = {trial.key: trial for trial in trials if trial.is_control}
    searched, ended, steps, answered = [trial for trial in trials if not trial.is_control], [], 0, 0.0
    total = len(next(iter(answers.values())).scores)
    for trial in searched:
        judge = judge_of(config, trial, finished, None)
        assert judge is not None
        lines = [{"step": float(step), **line} for step, line in trial.rungs.items() if int(step) in rungs]
        lines.sort(key=lambda line: line["step"])
        at = next((int(line["step"]) for line in lines if judge.at_rung([line]) is not None), None)
        steps += config.train.steps if at is None else at
        if at is not None:
            ended.append(trial.key)
            continue
        looked = [round(share * total) for share in questions]
        rivals = [answers[key] for key in finished]
        for count in looked:
            own = Answers(trial.key, answers[trial.key].scores[:count], answers[trial.key].costs[:count])
            if beaten_on_questions(own, rivals, total, len(looked)) is not None:
                ended.append(trial.key)
                answered += count
                break
        else:
            finished[trial.key] = trial
            answered += total
    return Replay(1 - steps / (len(searched) * config.train.steps), 1 - answered / (len(searched) * total), ended)


def loss_of_front(points: Sequence[Point], ended: Sequence[str], drawn: DrawnPoints) -> tuple[float, float, float]:
    """Hypervolume that is lost without these points: as measured, and its 95% interval."""
    columns = [(point.name, drawn.columns[point.name]) for point in points]

    def volumes(names: set[str]) -> np.ndarray:
        kept = [(one.cost_R, one.accuracy_R) for name, one in columns if name in names]
        cost_RP, accuracy_RP = (np.stack(each).T for each in zip(*kept, strict=True))
        pairs = zip(cost_RP, accuracy_RP, strict=True)
        return np.array([dominated_area(zip(costs, values, strict=True)) for costs, values in pairs])

    names = {point.name for point in points}
    lost = volumes(names) - volumes(names - set(ended))
    low, high = np.percentile(lost[:-1], [2.5, 97.5])
    return float(lost[-1]), float(low), float(high)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--runs-uri", default=DEFAULT_RUNS)
    parser.add_argument("--level", type=float, default=0.1, help="of the bounds at rungs")
    parser.add_argument("--questions", type=float, nargs="*", default=[0.25, 0.5])
    given = parser.parse_args()
    ledger = locate(given.study, given.runs_uri)
    config = ledger.config()
    assert config.sweep is not None
    convention = config.sweep.flops_convention
    trials = [one for one in ledger.trials().values() if one.state == "finished" and one.on is None]
    points = [Point.from_json(trial.point) for trial in trials if trial.point is not None]
    answers = {one.key: answers_at(one.key, str(one.evaluation_uri), convention) for one in trials}
    drawn = DrawnPoints(convention)
    drawn.add(points, common_outcomes(points, convention))
    print(f"{ledger.study}: {sum(not one.is_control for one in trials)} searched trials, none ended")
    for step, measures in proxies(trials).items():
        print(f"  step {step}: rank correlation with accuracy {measures}")
    steps = sorted({int(step) for trial in trials for step in trial.rungs})
    columns = f"{'rungs':>18} {'by':>6} {'looks':>6} {'steps saved':>12} {'answers saved':>14} {'ended':>6}"
    print(f"{columns}  lost hypervolume")
    choices = chain.from_iterable(combinations(steps, count) for count in range(len(steps) + 1))
    for rungs in choices:
        for by in ("loss", "exact", "kl") if rungs else ("loss",):
            for looks in ([], given.questions):
                found = replay(config, trials, answers, by=by, level=given.level, rungs=rungs, questions=looks)
                lost, low, high = loss_of_front(points, found.ended, drawn)
                print(
                    f"{','.join(map(str, rungs)):>18} {by if rungs else '-':>6} {len(looks):>6} {found.steps:>12.1%} "
                    f"{found.answers:>14.1%} {len(found.ended):>6}  {lost:.4f} ({low:.4f} to {high:.4f})"
                )


if __name__ == "__main__":
    main()
