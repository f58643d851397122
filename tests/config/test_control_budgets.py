"""Controls at budgets and on the dense control's checkpoint: how they are written, what a study brings along itself."""

from __future__ import annotations

from typing import Any

import pytest

from dpn_platform.config.controls import all_control_trials, control_trials_of
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import parse_config
from dpn_platform.config.method import laid_over
from dpn_platform.sweeps.trials import Trial, control_trials, trial_config


def test_budgets_are_shares_one_control_each() -> None:
    trials = control_trials_of({"name": "random_drop", "budget": ["1/3", 0.25], "on": "dense", "seeds": 2})
    assert [(trial.key, trial.budget, trial.on, trial.seed) for trial in trials] == [
        ("random_drop-at-0.333-free-seed-0", 1 / 3, "dense", 0),
        ("random_drop-at-0.333-free-seed-1", 1 / 3, "dense", 1),
        ("random_drop-at-0.250-free-seed-0", 0.25, "dense", 0),
        ("random_drop-at-0.250-free-seed-1", 0.25, "dense", 1),
    ]
    assert trials[0].method == {"name": "random_drop"}


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"name": "fastv", "budget": 0}, r"budget = 0; allowed: a share of the visual tokens above 0 and up to 1"),
        ({"name": "fastv", "budget": "1/0"}, r"budget = '1/0'; allowed"),
        ({"name": "fastv", "budget": True}, r"budget = True; allowed"),
        ({"name": "fastv", "budget": 0.5, "keep": 0.5}, "budget and keep turn the same cost; give one of the two"),
        ({"name": "dpn", "budget": 0.5}, "budget: method dpn has no setting that turns its cost; allowed with"),
        (
            {"name": "fastv", "on": "static_2x2"},
            "fastv-on-static_2x2 is to run on 'static_2x2', which is not among those",
        ),
        ({"name": "fastv", "on": 3}, r"on = 3; allowed: the name of another control, of another method than dense"),
        ({"name": "dense", "on": "dense"}, r"on = 'dense'; allowed: the name of another control, of another method"),
        (
            {"name": "static", "dial": 0.5},
            "dial: of a control that is trained, of method dpn; this is static, on = None",
        ),
        ({"name": "dpn", "dial": 1.5}, r"dial = 1.5; allowed: a share of the FLOPs above 0 and up to 1"),
        ({"name": "dpn", "dial": 0.5}, "dpn-dial-0.5: the training of method dpn with these settings leaves no calib"),
        ({"name": "dpn", "key": "a b"}, "key = 'a b'; allowed: letters, digits, dots, dashes"),
    ],
)
def test_what_is_no_budget_and_no_place_is_refused(control: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"name": "x", "sweep": {"controls": ["dense", control]}})


def test_one_training_is_evaluated_at_several_ratios_of_its_dial() -> None:
    control = {
        "key": "dpn-dynamic", "name": "dpn", "scaling": "off", "route_fit": {"samples": 9}, "dial": [0.5, 0.75],
    }  # fmt: skip
    trials = control_trials_of({**control, "seeds": 2})
    assert [(trial.key, trial.on, trial.dial, trial.seed) for trial in trials] == [
        ("dpn-dynamic-seed-0", None, None, 0),
        ("dpn-dynamic-seed-0-dial-0.5", "dpn-dynamic-seed-0", 0.5, 0),
        ("dpn-dynamic-seed-0-dial-0.75", "dpn-dynamic-seed-0", 0.75, 0),
        ("dpn-dynamic-seed-1", None, None, 1),
        ("dpn-dynamic-seed-1-dial-0.5", "dpn-dynamic-seed-1", 0.5, 1),
        ("dpn-dynamic-seed-1-dial-0.75", "dpn-dynamic-seed-1", 0.75, 1),
    ]
    config = parse_config({"name": "x", "eval": {"routes": "all"}, "sweep": {"controls": ["dense", control]}})
    assert config.sweep is not None
    dense, trained, turned, _ = control_trials(all_control_trials(config.sweep.controls))
    assert turned.params["dial"] == turned.dial == 0.5
    assert Trial.from_json(turned.to_json(), "here") == turned
    routes = {trial.key: trial_config(config, trial).eval.routes for trial in (dense, trained, turned)}
    assert routes == {"dense": "own", "dpn-dynamic": "all", "dpn-dynamic-dial-0.5": "own"}
    assert [trial.key for trial in control_trials_of({**control, "temperature": [1.0, 2.0], "dial": []})] == [
        "dpn-dynamic-temperature-1.0",
        "dpn-dynamic-temperature-2.0",
    ]


def test_a_study_at_budgets_brings_its_own_controls() -> None:
    own = [trial for trial in all_control_trials(["dense"], [0.25, 0.5]) if trial.is_own]
    drops = [trial for trial in own if trial.method["name"] == "random_drop"]
    assert [(trial.budget, trial.seed) for trial in drops] == [(b, s) for b in (0.25, 0.5) for s in (0, 1, 2)]
    assert {trial.on for trial in drops} == {"dense"}
    assert all_control_trials(["dense"]) == all_control_trials(["dense"], [])
    for sweep in ({"budgets": [0.5]}, {"controls_at_front": True}):
        with pytest.raises(ConfigError, match="the study's own controls run on the control 'dense'; name it"):
            parse_config({"name": "x", "sweep": {"controls": ["static_2x2"], **sweep}})
    with pytest.raises(
        ConfigError,
        match="control fastv-free is to run on 'dense', which is not among those that are trained: none",
    ):
        parse_config({"name": "x", "sweep": {"controls": [{"name": "fastv", "on": "dense"}]}})


def test_a_rival_keeps_its_authors_sites_and_positions() -> None:
    study = {**parse_config({"name": "x"}).method.model_dump(mode="json"), "sites": [2, 4], "positions": "keep"}
    assert laid_over(study, {"name": "static"})["sites"] == [2, 4]
    rival = laid_over(study, {"name": "fastv"})
    assert {key: rival.get(key) for key in ("sites", "positions")} == {"sites": None, "positions": None}


def test_what_runs_on_another_method_runs_on_its_own_seed() -> None:
    trials = all_control_trials([{"name": "m3", "seeds": 2}, {"name": "m3", "scale": ["2x2"], "on": "m3", "seeds": 2}])
    assert [(trial.key, trial.on) for trial in trials] == [
        ("m3-seed-0", None),
        ("m3-seed-1", None),
        ("m3-scale-2x2-on-m3-seed-0", "m3-seed-0"),
        ("m3-scale-2x2-on-m3-seed-1", "m3-seed-1"),
    ]
