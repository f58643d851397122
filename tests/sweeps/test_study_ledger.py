"""The ledger: one object per trial, one study per name, the same config to continue."""

import pytest

from dpn_platform.config.controls import all_control_trials
from dpn_platform.config.errors import DpnError
from dpn_platform.sweeps.ledger import Ledger, latest_unfinished
from dpn_platform.sweeps.neighbours import comparable_proposals
from dpn_platform.sweeps.trials import Trial, control_trials, searched_trial


@pytest.fixture
def ledger(make_config):
    return Ledger(make_config().storage.runs_uri, "study")


def test_trials_come_back_controls_first(ledger, make_config):
    ledger.create(make_config())
    for trial in [
        searched_trial(10, "dpn", {}),
        searched_trial(2, "dpn", {}),
        *control_trials(all_control_trials(make_config().sweep.controls)),
    ]:
        ledger.put(trial)
    ledger.put(searched_trial(2, "dpn", {}).become("finished", values={"accuracy": 0.5}))
    assert list(ledger.trials()) == ["dense", "static_2x2", "dpn-02", "dpn-10"]
    assert ledger.trials()["dpn-02"].state == "finished"
    assert ledger.trial("dense") == Trial("dense", {"method.name": "dense"}, is_control=True)


def test_a_name_is_taken_once(ledger, make_config):
    ledger.create(make_config())
    with pytest.raises(DpnError, match="exists already: continue it with --resume"):
        ledger.create(make_config())


def test_there_must_be_a_study_to_continue(ledger, make_config):
    with pytest.raises(DpnError, match="there is no study 'study'"):
        ledger.open(make_config())


def test_another_config_is_refused_and_the_difference_named(ledger, make_config):
    ledger.create(make_config())
    with pytest.raises(DpnError, match=r"another config \(train.lr: 0.001 -> 0.01\)"):
        ledger.open(make_config(train={"lr": 0.01}))
    with pytest.raises(DpnError, match="sweep.controls"):
        ledger.open(make_config(controls=["dense"]))


def test_how_it_is_run_and_how_far_it_goes_may_change(ledger, make_config):
    ledger.create(make_config())
    longer = make_config(train={"checkpoint_every_steps": 1}, num_trials=9, max_concurrent_trials=2)
    assert ledger.open(longer).state == "running"
    ledger.reopen(longer)
    assert "num_trials: 9" in ledger.header().config


def test_the_newest_unfinished_study_of_a_config(make_config):
    config = make_config()
    runs_uri = config.storage.runs_uri
    with pytest.raises(DpnError, match="no unfinished study of 'try'"):
        latest_unfinished(runs_uri, "try")
    for name in ("a", "b", "c"):
        Ledger(runs_uri, name).create(config if name != "c" else config.model_copy(update={"name": "other"}))
    Ledger(runs_uri, "b").finish(12.0)
    assert latest_unfinished(runs_uri, "try") == "a"
    assert Ledger(runs_uri, "b").header().duration_s == 12.0


def test_a_study_learns_from_others_of_the_same_data_alone(make_config):
    config = make_config()
    for name, data in (("same", "data1"), ("other", "data2")):
        there = Ledger(config.storage.runs_uri, name)
        there.create(config, data)
        there.put(
            searched_trial(0, "dpn", {"x": name}).become("finished", values={"accuracy": 0.5, "flops_ratio": 0.4})
        )
    Ledger(config.storage.runs_uri, "slow").create(make_config(train={"lr": 0.5}), "data1")
    found = comparable_proposals(Ledger(config.storage.runs_uri, "study"), config, "data1")
    assert [params["x"] for params, _ in found] == ["same"]
