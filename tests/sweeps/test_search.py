"""What is tried next: controls, what the ledger has open, then Optuna, which knows what was found before."""

import copy
import pickle

import pytest
from ray.tune.search import Searcher

from dpn_platform.config.controls import all_control_trials
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.trials import control_trials, searched_trial

WEIGHT, TARGET, EXPERTS = "method.routing_loss.weight", "method.routing_loss.target", "method.experts"


class Notes(dict):
    def put(self, trial, known):
        self[trial.key] = trial
        return trial


def open_search(sweep, known=None):
    notes = Notes()
    known = control_trials(all_control_trials(sweep.controls)) if known is None else known
    return StudySearch(sweep, known, notes.put), notes


def finish(search, trial_id, accuracy=0.5, flops_ratio=0.5):
    search.on_trial_complete(trial_id, {"accuracy": accuracy, "flops_ratio": flops_ratio})


def test_controls_first_then_proposals_then_the_end(make_config):
    search, notes = open_search(make_config().sweep)
    assert search.num_open == 5
    keys = []
    while (suggestion := search.suggest(f"t{len(keys)}")) != Searcher.FINISHED:
        finish(search, f"t{len(keys)}")
        keys.append(suggestion["key"])
    assert keys == ["dense", "static_2x2", "dpn-00", "dpn-01", "dpn-02"]
    assert search.num_open == 0
    assert list(notes) == ["dpn-00", "dpn-01", "dpn-02"], "proposals reach the ledger before they run"


def test_searched_trials_wait_for_the_reference(make_config):
    search, _ = open_search(make_config().sweep)
    assert search.suggest("a") == {"key": "dense"}
    assert search.suggest("b") == {"key": "static_2x2"}
    assert search.suggest("c") is None
    finish(search, "b")
    assert search.suggest("c") is None
    finish(search, "a")
    assert search.suggest("c") == {"key": "dpn-00"}


def test_what_runs_on_the_reference_waits_for_it_and_holds_up_nobody(make_config):
    search, _ = open_search(make_config(controls=[{"name": "fastv", "on": "dense"}, "dense", "static_2x2"]).sweep)
    assert [search.suggest(name)["key"] for name in "ab"] == ["dense", "static_2x2"]
    assert search.suggest("c") is None
    finish(search, "a")
    assert search.suggest("c") == {"key": "fastv-free"}


def test_proposals_lie_in_the_space_and_differ(make_config):
    space = {"routing_loss_weight": [0.02, 0.3], "routing_loss_target": [1.0, 1.5], "experts": [["1x1", "2x2"]]}
    search, notes = open_search(make_config(num_trials=12, controls=[], search=space).sweep)
    for number in range(12):
        search.suggest(f"t{number}")
        finish(search, f"t{number}")
    trials = list(notes.values())
    assert len({(trial.params[WEIGHT], trial.params[TARGET]) for trial in trials}) == 12
    assert all(0.02 <= trial.params[WEIGHT] <= 0.3 and 1.0 <= trial.params[TARGET] <= 1.5 for trial in trials)
    assert all(trial.params[EXPERTS] == ["1x1", "2x2"] for trial in trials)


def test_a_range_of_one_value(make_config):
    space = {"routing_loss_weight": [0.1, 0.1], "routing_loss_target": [1.25, 1.25]}
    search, notes = open_search(make_config(controls=[], search=space).sweep)
    search.suggest("a")
    assert (notes["dpn-00"].params[WEIGHT], notes["dpn-00"].params[TARGET]) == (0.1, 1.25)


def test_the_seed_decides(make_config):
    def proposals(seed):
        search, notes = open_search(make_config(controls=[], seed=seed).sweep)
        for number in range(3):
            search.suggest(f"t{number}")
            finish(search, f"t{number}")
        return [trial.params for trial in notes.values()]

    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


def params(weight):
    return {WEIGHT: weight, TARGET: 1.0, EXPERTS: ["1x1", "1x2", "2x2"]}


def test_a_resume_goes_on_where_the_ledger_ends(make_config):
    sweep = make_config().sweep
    dense, static = control_trials(all_control_trials(sweep.controls))
    known = [
        dense.become("finished", values={"accuracy": 0.9, "flops_ratio": 1.0}),
        static.become("running"),
        searched_trial(0, "dpn", params(0.1)).become("finished", values={"accuracy": 0.8, "flops_ratio": 0.5}),
        searched_trial(1, "dpn", params(0.2)).become("failed"),
    ]
    search, notes = open_search(sweep, known)
    assert search.num_open == 3
    assert [trial.params for trial in search.study.trials] == [{WEIGHT: 0.1, TARGET: 1.0, EXPERTS: "1x1,1x2,2x2"}], (
        "Optuna is told of the finished one"
    )
    keys = []
    for number in range(3):
        keys.append(search.suggest(f"t{number}")["key"])
        finish(search, f"t{number}", accuracy=0.7)
    assert keys == ["static_2x2", "dpn-01", "dpn-02"]
    assert search.suggest("t3") == Searcher.FINISHED
    assert [trial.values for trial in search.study.trials] == [[0.8, 0.5], [0.7, 0.5], [0.7, 0.5]]
    assert notes["dpn-02"].params[WEIGHT] not in (0.1, 0.2)


def test_a_continued_study_does_not_propose_its_first_trial_again(make_config):
    sweep = make_config(controls=[]).sweep
    first, notes = open_search(sweep)
    first.suggest("a")
    done = notes["dpn-00"].become("finished", values={"accuracy": 0.5, "flops_ratio": 0.5})
    second, later = open_search(sweep, [done])
    second.suggest("b")
    assert later["dpn-01"].params != done.params


@pytest.mark.parametrize("result", [None, {"error": "lost"}])
def test_a_trial_without_a_result_leaves_no_value(make_config, result):
    search, _ = open_search(make_config(controls=[]).sweep)
    search.suggest("a")
    search.on_trial_complete("a", result)
    assert [trial.state.name for trial in search.study.trials] == ["FAIL"]


def test_tune_may_pickle_it(make_config):
    search, _ = open_search(make_config().sweep)
    pickle.dumps(search)
    copy.copy(search)
