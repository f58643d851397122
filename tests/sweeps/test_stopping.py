"""When a trial ends early: what its bound is learnt from, what beats it, and how often it is wrong."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.sweep import EarlyStopping
from dpn_platform.data.published.manifest import Manifest, Quarantine, Split
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import write_bytes, write_json
from dpn_platform.sweeps.rungs import answers_at, judge_of, proxies, rungs_of, saving
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.stopping import Answers, Finished, Judge, beaten_on_questions, bound
from dpn_platform.sweeps.trainable import Assignment, _looks
from dpn_platform.sweeps.trials import Trial
from tests.sweeps.written_studies import Made, rows_of

RULE = EarlyStopping(rungs=(0.5, 1.0), min_trials=4)
STEPS = (50, 100)


def line(step: int, loss: float, ratio: float = 0.5) -> dict[str, float]:
    return {"step": step, "train/loss_lm": 0.1, "eval/loss_lm": loss, "eval/flops_ratio": ratio}


def finished(name: str, loss: float, accuracy: float, ratio: float = 0.5, **more: Any) -> Finished:
    at = {"eval/loss_lm": loss, "eval/flops_ratio": more.pop("rung_ratio", ratio)}
    return Finished(name, more.pop("method", "dpn"), {50: at}, accuracy, ratio, **more)


#: accuracy is 1 - loss but for a tenth of a point
PEERS = tuple(
    finished(f"dpn-{number:02d}", loss, 1.0 - loss + 0.001 * (-1) ** number)
    for number, loss in enumerate((0.05, 0.1, 0.2, 0.3, 0.4))
)


def judge(peers: tuple[Finished, ...] = PEERS, rule: EarlyStopping = RULE, **more: Any) -> Judge:
    return Judge(rule, "dpn", STEPS, None, peers, **more)


def test_a_trial_ends_where_a_finished_one_is_as_good_as_it_can_become() -> None:
    verdict = judge().at_rung([line(50, 0.35)])
    assert verdict is not None
    assert verdict.accuracy == pytest.approx(0.65, abs=0.005)
    assert verdict.flops_ratio == pytest.approx(0.5)
    assert verdict.reason == ("at step 50 it can still become 66.1% at 0.500, by 5 trials; dpn-00 has 95.1% at 0.500")
    assert judge()([line(50, 0.35)]) == verdict.reason
    assert judge().at_rung([line(50, 0.01)]) is None, "it may become the best"
    assert judge().at_rung([line(40, 0.35)]) is None, "no rung"
    later = [line(50, 0.35), {"step": 60, "train/loss_lm": 0.1}]
    assert judge().at_rung(later) == verdict, "a resume judges by the rung that it has passed"


def test_what_is_cheaper_than_every_rival_goes_on() -> None:
    assert judge().at_rung([line(50, 0.35, ratio=0.4)]) is None
    moving = (*PEERS[:4], finished("dpn-04", 0.4, 0.6, 0.3, rung_ratio=0.5))
    assert judge(moving).at_rung([line(50, 0.35, 0.65)]) is None, "the last one became 0.2 cheaper, so may this one"
    strangers = tuple(one._replace(method="static") for one in PEERS)
    assert judge(strangers).at_rung([line(50, 0.35)]) is None, "nobody knows how its method's cost moves"
    assert judge((*strangers[:3], *PEERS[3:])).at_rung([line(50, 0.35)]) is None, "two have not shown it"
    assert judge((*strangers[:2], *PEERS[2:])).at_rung([line(50, 0.35)]) is not None
    # In another convention than the rung's everything is dearer: what it can become is still not.
    offset = tuple(one._replace(flops_ratio=0.7) for one in PEERS)
    assert judge(offset).at_rung([line(50, 0.35, ratio=0.6)]) is None


def test_a_level_leaves_the_outermost_out() -> None:
    """Of eleven trials one became much cheaper and one much better: one in six may come to more."""
    many = tuple(finished(f"dpn-{number:02d}", 0.1 + 0.02 * number, 0.9 - 0.02 * number, 0.5) for number in range(9))
    odd = (finished("dpn-09", 0.3, 0.95, 0.5), finished("dpn-10", 0.2, 0.8, 0.2, rung_ratio=0.5))
    for level, is_ended in ((0.0, False), (1 / 6, True)):
        strict = RULE.model_copy(update={"level": level})
        assert (judge((*many, *odd), strict).at_rung([line(50, 0.28)]) is not None) is is_ended


def test_few_trials_judge_nobody_and_infeasible_ones_beat_nobody() -> None:
    assert judge(PEERS[:3]).at_rung([line(50, 0.35)]) is None
    broken = tuple(one._replace(is_feasible=False) for one in PEERS)
    assert judge(broken).at_rung([line(50, 0.35)]) is None


def test_a_constraint_that_cannot_be_kept_ends_it() -> None:
    strict = judge(constraints=("accuracy >= dense - 5",), dense={"accuracy": 0.98})
    found = strict.at_rung([line(50, 0.2, ratio=0.1)])
    assert found is not None
    assert found.reason.endswith("it would break accuracy >= dense - 5")
    assert strict.at_rung([line(50, 0.05, ratio=0.1)]) is None
    dear = judge(constraints=("flops_ratio <= 0.4",), dense={})
    assert dear.at_rung([line(50, 0.01)]) is not None


def test_a_hopeless_loss_ends_it_behind_the_grace_period() -> None:
    lines = [{"step": step, "train/loss_lm": 2.1} for step in range(10, 110, 10)]
    rule = EarlyStopping(grace_steps=60)
    told = [Judge(rule, "dpn", (), 1.0)(lines[:count]) for count in range(1, 11)]
    assert told[:5] == [None] * 5
    assert told[5] == "mean train/loss_lm 2.1 above 2 at step 60"
    assert Judge(rule, "dpn", (), 1.2)(lines) is None
    assert Judge(rule, "dpn", (), None)(lines) is None


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Of trials that are alike, about one in n + 1 ends above it; proxies with noise, twelve peers."""
    draws, above = np.random.default_rng(0), dict.fromkeys((0.0, 0.25), 0)
    for _ in range(2000):
        quality = draws.normal(0.9, 0.03, 13)
        measured = quality + draws.normal(0, 0.02, 13)
        known = list(zip(measured[:12], quality[:12], strict=True))
        for level in above:
            above[level] += quality[12] > bound(known, measured[12], level)[1]
    assert 0 < above[0.0] / 2000 < 0.1, "a bound that never fails bounds nothing"
    assert 0.15 < above[0.25] / 2000 < 0.25


def test_a_measure_that_says_nothing_bounds_by_the_best() -> None:
    known = [(0.1, 0.8), (0.1, 0.9), (0.1, 0.7), (0.1, 0.85)]
    expected, most = bound(known, 0.1)
    assert expected == pytest.approx(0.8125)
    assert most >= 0.9
    falling = [(0.1, 0.9), (0.2, 0.8), (0.3, 0.7), (0.4, 0.6)]
    assert bound(falling, 0.9)[1] >= 0.9, "more of a good measure promises no less"


def answers(name: str, scores: Any, ratio: float = 0.5) -> Answers:
    return Answers(name, list(map(float, scores)), [(ratio, 1.0)] * len(scores))


def test_answers_end_a_trial_that_is_surely_beaten() -> None:
    draws = np.random.default_rng(1)
    rival = answers("static", draws.random(1000) < 0.95)
    bad = answers("", np.array(rival.scores[:250]) * (draws.random(250) < 0.8))
    assert beaten_on_questions(bad, [rival], 1000, 2) == (
        f"after 250 of 1000 questions static is {100 * (np.mean(rival.scores[:250]) - np.mean(bad.scores)):.1f} points "
        "ahead, at 0.500 against 0.500"
    )
    assert beaten_on_questions(bad, [answers("dear", rival.scores, 0.6)], 1000, 2) is None
    assert beaten_on_questions(bad, [answers("few", rival.scores[:400])], 1000, 2) is None
    same = answers("", rival.scores[:250])
    assert beaten_on_questions(same, [rival], 1000, 2) is None


@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_answers_seldom_end_what_would_not_have_been_beaten(gain: float) -> None:
    """Trials as good as their rivals, or better; two looks, three rivals: 1% in all, and ties end nobody for sure."""
    draws, wrong = np.random.default_rng(2), 0
    for _ in range(1000):
        hard = draws.random(1000)
        own = (0.3 * draws.random(1000) + 0.7 * hard < 0.85 + gain).astype(float)
        rivals = [answers(str(one), 0.3 * draws.random(1000) + 0.7 * hard < 0.85) for one in range(3)]
        ended = any(beaten_on_questions(answers("", own[:count]), rivals, 1000, 2) for count in (250, 500))
        wrong += ended and own.mean() >= max(np.mean(one.scores) for one in rivals)
    assert wrong <= 10


def test_answers_are_read_in_their_order_with_their_costs(tmp_path: Any) -> None:
    made = Made(trial("dpn-00"), 0.5, [True, False, True, True])
    rows = rows_of(made)
    other = [{**row, "variant": "route", "score": 0.0} for row in rows]
    write_bytes(f"{tmp_path}/outcomes.parquet", encode_table([*reversed(rows), *other]))
    found = answers_at("dpn-00", str(tmp_path), "swiglu")
    assert found.scores == [1.0, 0.0, 1.0, 1.0]
    assert found.flops_ratio(4) == pytest.approx(0.5, abs=0.01)


def test_an_evaluation_that_is_complete_is_not_looked_at(
    make_config: Any, write_evaluation: Any, tmp_path: Any
) -> None:
    split = Split(rows=1000, images=1000, text_only=0, sources={}, shards=())
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="m",
        source="",
        splits={"test": split},
        quarantine=Quarantine(),
        fingerprint="f",
    )
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    config = make_config(early_stopping={"questions": [0.25, 0.1]})
    config = config.model_copy(update={"data": config.data.model_copy(update={"uri": str(tmp_path)})})
    run_uri = f"{config.storage.runs_uri}/s-dpn-00"
    given = Assignment(config, "s-dpn-00", judge(), output_uri=f"{run_uri}/evaluation", rivals={"dense": "x"})
    assert _looks(given) == [(100, 1000), (250, 1000)]
    assert _looks(given._replace(rivals={})) == _looks(given._replace(judge=None)) == []
    result = write_evaluation(run_uri)
    assert _looks(given) == [], "an attempt that was killed behind its evaluation"
    part = replace(result, key={**result.key, "limit": 100})
    write_json(result.result_uri, part.to_json())
    assert len(_looks(given)) == 2, "one that was killed behind a look goes on"


def trial(key: str, state: str = "finished", **more: Any) -> Trial:
    values = more.pop("values", {"accuracy": 0.9, "flops_ratio": 0.5} if state == "finished" else {})
    return Trial(key, {"method.name": more.pop("method", "dpn")}, state=state, values=values, **more)  # type: ignore[arg-type]


def test_the_judge_of_a_trial_knows_who_has_finished(make_config: Any) -> None:
    config = make_config(
        train={"steps": 100}, early_stopping={"rungs": [0.5, 0.77]}, constraints=["accuracy >= dense - 1"]
    )
    done = trial("dense", method="dense", is_control=True, rungs={"50": {"eval/loss_lm": 0.2}})
    open_ = trial("dpn-01", "waiting")
    trials = {one.key: one for one in (done, open_, trial("dpn-00", point={"is_feasible": False}))}

    found = judge_of(config, open_, trials, 0.3)

    assert found is not None
    assert (found.steps, found.reference_loss, found.dense) == ((50, 80), 0.3, done.values)
    assert [(one.name, one.is_feasible) for one in found.finished] == [("dense", True), ("dpn-00", False)]
    assert found.finished[0].rungs == {50: {"eval/loss_lm": 0.2}}
    assert pickle.loads(pickle.dumps(found)) == found, "every worker is sent it"
    assert judge_of(config, done, trials, 0.3) is None, "controls run to their end"
    again = replace(open_, evaluation_folder="evaluation-0123")
    assert judge_of(config, again, trials, 0.3) is None, "its point is known, and an alias may hold it"
    off = make_config(early_stopping={"enabled": False, "rungs": [0.5]})
    assert judge_of(off, open_, trials, 0.3) is None
    assert off.sweep.early_stopping.steps_of_rungs(off.train) == ()


def test_what_it_saved_and_what_its_measures_are_worth() -> None:
    lines = [{"step": 40, "train/loss_lm": 1.0}, {"step": 50, "eval/loss_lm": 0.5, "eval/exact": 0.3, "lr": 1.0}]
    assert rungs_of(lines) == {"50": {"eval/loss_lm": 0.5, "eval/exact": 0.3}}
    trials = [
        trial(
            f"dpn-{number:02d}",
            values={"accuracy": accuracy, "flops_ratio": 0.5},
            device_hours=1.0,
            rungs={"50": {"eval/loss_lm": 1 - accuracy, "eval/kl_dense": accuracy, "eval/exact": 0.5}},
        )
        for number, accuracy in enumerate((0.7, 0.8, 0.9))
    ]
    found = proxies(trials)["50"]
    assert (found["trials"], found["loss"], found["kl"]) == (3, 1.0, -1.0)
    assert saving(trials) is None
    trials += [trial("dpn-03", "stopped", device_hours=0.25), trial("dense", is_control=True, device_hours=9.0)]
    assert saving(trials) == {"ended": 1, "saved_device_hours": 0.75, "device_hours": 12.25}


def test_the_search_hears_what_was_to_be_expected(make_config: Any) -> None:
    search = StudySearch(make_config(controls=["dense"]).sweep, [], lambda trial, known: trial)
    search.suggest("a")
    search.on_trial_complete(
        "a", {"outcome": {}, "stopped": "dominated", "values": {"accuracy": 0.7, "flops_ratio": 0.6}}
    )
    search.suggest("b")
    search.on_trial_complete("b", {"outcome": {}, "stopped": "hopeless", "values": {}})
    states = [(one.state.name, one.values) for one in search.study.trials]
    assert states == [("COMPLETE", [0.7, 0.6]), ("FAIL", None)]


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"objectives": ["accuracy", "kv_mib"]}, "what becomes of kv_mib they cannot say"),
        ({"dial": [0.5], "search": {"method": "dpn"}}, "a trial with sweep.dial is a curve"),
        ({"replicates": 2}, "would end unlucky seeds of a point"),
        ({"early_stopping": {"rungs": [1.0], "by": "kl"}, "controls": []}, "measured from the control 'dense'"),
        ({"early_stopping": {"rungs": [1.5]}}, "less than or equal to 1"),
    ],
)
def test_what_has_no_bound_is_refused(make_config: Any, sweep: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config(
            method={"route_fit": {"samples": 100}, "scaling": "off"},
            **{"early_stopping": {"rungs": [0.5], "questions": [0.5]}, **sweep},
        )
