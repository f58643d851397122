"""What an extension will come to: only what is not there, by what others have taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dpn_platform.config.controls import all_control_trials
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.storage import write_json
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.outlook import Outlook, outlook
from dpn_platform.sweeps.reuse import Reuse
from dpn_platform.sweeps.trials import control_trials, searched_trial


@pytest.fixture
def study(make_config: Any) -> tuple[ExperimentConfig, Ledger]:
    """A finished one: two controls of 1 and 3 device-hours, two proposals of 2 each."""
    config = make_config(num_trials=2)
    ledger = Ledger(config.storage.runs_uri, "s")
    ledger.create(config, "data")
    reuse, known = Reuse(ledger, config, "data"), {}
    trials = control_trials(all_control_trials(config.sweep.controls))
    trials += [searched_trial(n, "dpn", {"method.routing_loss.weight": 0.1 * (n + 1)}) for n in range(2)]
    for trial, hours in zip(trials, (1.0, 3.0, 2.0, 2.0), strict=True):
        done = replace(trial, state="finished", device_hours=hours, values={"accuracy": 0.9, "flops_ratio": 0.5})
        known[trial.key] = replace(done, fingerprint=reuse.fingerprint(trial, known))
        ledger.put(known[trial.key])
    return config, ledger


def extended(config: ExperimentConfig, **sweep: Any) -> ExperimentConfig:
    values = config.model_dump(mode="json")
    return type(config).model_validate({**values, "sweep": {**values["sweep"], **sweep}})


def test_nothing_is_open_of_a_finished_study(study: Any) -> None:
    config, ledger = study
    assert outlook(config, ledger, "data") == Outlook(0, 0, 0.0)


def test_more_proposals_seeds_and_controls_at_the_hours_of_their_like(study: Any) -> None:
    config, ledger = study
    before = {key: trial for key, trial in ledger.trials().items()}
    found = outlook(extended(config, num_trials=3), ledger, "data")
    assert found == Outlook(1, 0, 2.0)
    assert found.line() == "1 trial to run, about 2.00 device-hours"
    assert outlook(extended(config, num_trials=3, replicates=2), ledger, "data") == Outlook(4, 0, 8.0)
    controls = [*config.sweep.controls, {"name": "fastv", "on": "dense"}]
    found = outlook(extended(config, controls=controls), ledger, "data")
    assert found == Outlook(1, 0, 2.0), "nothing was only evaluated yet: no more than a training with its evaluation"
    assert ledger.trials() == before, "nothing is written"


def test_more_questions_are_answered_again_by_all(study: Any) -> None:
    config, ledger = study
    more = config.model_copy(update={"eval": config.eval.model_copy(update={"limit": 7})})
    for key in ("dense", "dpn-00", "dpn-01"):
        write_json(f"{ledger.runs_uri}/s-{key}/outcome.json", {})
    ledger.put(replace(searched_trial(2, "dpn", {}), state="finished", on="dense", device_hours=0.5))
    assert outlook(more, ledger, "data") == Outlook(4, 0, 3 * 0.5 + 2.0), "the pruned one is trained again"


def test_a_version_with_more_settings_reopens_nothing(study: Any) -> None:
    config, ledger = study
    for trial in ledger.trials().values():
        ledger.put(replace(trial, fingerprint="of an earlier version"))
    assert outlook(extended(config, num_trials=3), ledger, "data") == Outlook(1, 0, 2.0)


def test_what_was_taken_over_says_nothing_of_hours(study: Any) -> None:
    config, ledger = study
    for trial in ledger.trials().values():
        ledger.put(replace(trial, reused_from=f"a/{trial.key}", device_hours=0.001))
    assert outlook(extended(config, num_trials=3), ledger, "data") == Outlook(1, 0, None)


def test_a_study_that_is_to_be(make_config: Any) -> None:
    config = make_config(num_trials=2, reuse="none")
    assert outlook(config, Ledger(config.storage.runs_uri, "new"), "data") == Outlook(4, 0, None)
