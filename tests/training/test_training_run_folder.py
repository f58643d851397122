"""A run's folder: explains itself, refuses another configuration, remembers its outcome."""

from __future__ import annotations

from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import load_config, parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.storage import read_bytes, read_json
from dpn_platform.training.run_folder import TrainingOutcome, claim, read_outcome, write_outcome


def config(**train: Any) -> ExperimentConfig:
    return parse_config({"name": "test", "train": {"steps": 10, **train}}, "test")


def test_the_folder_explains_the_run(runs_uri: str) -> None:
    claim(f"{runs_uri}/a", config(seed=3), "data-1")

    assert load_config(f"{runs_uri}/a/config.yaml".removeprefix("file://")) == config(seed=3)
    provenance = read_json(f"{runs_uri}/a/provenance.json")
    assert provenance["data_fingerprint"] == "data-1"
    assert provenance["seed"] == 3
    assert "torch" in provenance["packages"]
    about = read_bytes(f"{runs_uri}/a/about.md").decode()
    assert "dpn train config.yaml --name a " in about
    assert f'download_folder("{runs_uri}/a/export", "a")' in about


def test_a_trial_is_continued_with_its_study(runs_uri: str) -> None:
    values = {"name": "test", "sweep": {}, "data": {"uri": "s3://user:hunter2@host/set"}}
    claim(f"{runs_uri}/s-dense", parse_config(values), "data-1")
    about = read_bytes(f"{runs_uri}/s-dense/about.md").decode()
    assert "dpn sweep CONFIG --name STUDY --resume" in about
    assert "hunter2" not in about


def test_the_same_run_is_claimed_again_with_other_bookkeeping(runs_uri: str) -> None:
    claim(f"{runs_uri}/a", config(), "data-1")
    claim(f"{runs_uri}/a", config(log_every_steps=1, max_failures=5, checkpoint_every_steps=3), "data-1")


def test_workers_may_change_between_attempts(runs_uri: str) -> None:
    claim(f"{runs_uri}/a", config(global_batch_size=16, num_workers=2, micro_batch_size=4), "data-1")
    claim(f"{runs_uri}/a", config(global_batch_size=16, num_workers=1, micro_batch_size=16), "data-1")
    with pytest.raises(DpnError, match=r"train\.global_batch_size: 16 -> 32"):
        claim(f"{runs_uri}/a", config(global_batch_size=32, num_workers=1, micro_batch_size=16), "data-1")


def test_micro_batches_that_decide_the_steps_may_not_change(runs_uri: str) -> None:
    data = {"batching": "tokens", "tokens_per_batch": 4000}
    first, other = (
        parse_config({"name": "x", "data": data, "train": {"global_batch_size": 16, "micro_batch_size": size}}, "test")
        for size in (4, 8)
    )
    claim(f"{runs_uri}/a", first, "data-1")
    with pytest.raises(DpnError, match=r"train\.micro_batch_size: 4 -> 8"):
        claim(f"{runs_uri}/a", other, "data-1")


def test_another_configuration_is_refused_with_the_difference(runs_uri: str) -> None:
    claim(f"{runs_uri}/a", config(), "data-1")
    with pytest.raises(DpnError, match=r"train\.lr: 0\.001 -> 0\.5\)") as refused:
        claim(f"{runs_uri}/a", config(lr=0.5, log_every_steps=1), "data-1")
    assert "log_every_steps" not in str(refused.value)


def test_another_data_set_is_refused(runs_uri: str) -> None:
    claim(f"{runs_uri}/a", config(), "data-1")
    with pytest.raises(DpnError, match="data-1 -> data-2"):
        claim(f"{runs_uri}/a", config(), "data-2")


def test_outcome_is_absent_until_written(runs_uri: str) -> None:
    run_uri = f"{runs_uri}/a"
    assert read_outcome(run_uri) is None
    outcome = TrainingOutcome(
        "a", run_uri, f"{run_uri}/step", f"{run_uri}/export", "finished", 10, {"train/loss_lm": 0.5}, 4
    )
    write_outcome(outcome)
    assert read_outcome(run_uri) == outcome
    assert outcome.loss_lm == 0.5
