"""What each trial changes in the recipe."""

from pathlib import Path

import pytest

from dpn_platform.config.controls import all_control_trials
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import difference, load_config
from dpn_platform.sweeps.trials import Trial, control_trials, run_name, searched_trial, shown_params, trial_config

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


def test_controls_with_dense_first(make_config):
    config = make_config(controls=["random_drop", "static_1x2", "dense", "static_2x2", "dense"])
    trials = control_trials(all_control_trials(config.sweep.controls))
    assert [trial.key for trial in trials] == ["dense", "random_drop", "static_1x2", "static_2x2"]
    assert all(trial.is_control for trial in trials)
    methods = {trial.key: trial_config(config, trial).method for trial in trials}
    assert methods["static_1x2"].name == "static"
    assert methods["static_1x2"].kernel == "1x2"
    assert methods["random_drop"].name == "random_drop"


def test_a_control_may_have_a_kernel_per_site_and_keeps_it_to_itself(make_config):
    config = make_config(controls=["dense", "static_2x2", "static_1x1-2x2-2x2"])
    trials = [*control_trials(all_control_trials(config.sweep.controls)), searched_trial(0, "dpn", {})]
    methods = {trial.key: trial_config(config, trial).method for trial in trials}
    assert methods["static_1x1-2x2-2x2"].site_kernels == ("1x1", "2x2", "2x2")
    own = [key for key, method in methods.items() if getattr(method, "site_kernels", None) is not None]
    assert own == ["static_1x1-2x2-2x2"]
    assert shown_params(trials[2]) == {"method.site_kernels": ["1x1", "2x2", "2x2"]}


def test_a_trial_changes_its_method_and_nothing_else(make_config):
    config = make_config()
    params = {
        "method.routing_loss.weight": 0.25,
        "method.routing_loss.target": 1.1,
        "method.experts": ["1x1", "2x2"],
    }
    trial = searched_trial(7, "dpn", params)
    assert (trial.key, run_name("study", trial), trial.is_control) == ("dpn-07", "study-dpn-07", False)
    changed = trial_config(config, trial)
    assert changed.method.routing_loss.weight == 0.25
    assert changed.method.experts == ("1x1", "2x2")
    assert all(line.startswith(("method.", "sweep.")) for line in difference(config, changed))
    assert (changed.sweep.early_stopping, changed.sweep.num_trials) == (config.sweep.early_stopping, 0)
    assert shown_params(trial) == params


def test_controls_that_fit_the_study_need_not_fit_a_trial_of_another_method(make_config):
    """AVG-LLaVA has one site: the fixed pyramid of the study's three is not its business, nor is another's dial."""
    dial = {"key": "fit", "name": "dpn", "sites": [1, 4, 6], "scaling": "off", "sandwich": {"drawn": 1}, "dial": 0.5}
    config = make_config(controls=["static_1x1-2x2-2x2", "avg_llava", {**dial, "route_fit": {"samples": 100}}])
    trials = control_trials(all_control_trials(config.sweep.controls))
    methods = {trial.key: trial_config(config, trial).method.name for trial in trials}
    assert methods["avg_llava"] == "avg_llava"


@pytest.mark.parametrize("recipe", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_trial_of_the_shipped_studies_has_a_valid_config(recipe):
    config = load_config(recipe)
    if config.sweep is None:
        return
    for trial in control_trials(all_control_trials(config.sweep.controls, config.sweep.budgets)):
        assert trial_config(config, trial).method.name == trial.params["method.name"]


def test_json_round_trip():
    trial = searched_trial(0, "dpn", {"method.experts": ["1x1"]}).become("failed", reason="why")
    assert Trial.from_json(trial.to_json(), "here") == trial
    with pytest.raises(DpnError, match="here"):
        Trial.from_json({"key": "a"}, "here")


def test_a_stopped_trial_is_settled_and_a_failed_one_is_not():
    trial = Trial("a", {})
    assert trial.become("stopped").is_settled
    assert trial.become("finished").is_settled
    assert not trial.become("failed").is_settled
    assert not trial.become("running").is_settled
