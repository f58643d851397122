"""What a recipe is refused for and a stored study is not: rungs that say nothing, lists that may mean two things."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from dpn_platform.cli.study_extend import extended
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import load_config, parse_config


def recipe(sweep: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Two controls that are trained, one that is not, and three proposals."""
    controls = ["dense", "static_2x2", {"name": "fastv", "on": "dense"}]
    return {
        "name": "x",
        "model": {"base": "tiny"},
        **sections,
        "sweep": {"num_trials": 3, "controls": controls, **sweep},
    }


def load(tmp_path: Any, sweep: dict[str, Any], *overrides: str, **sections: Any) -> Any:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(recipe(sweep, **sections)))
    return load_config(path, overrides)


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"early_stopping": {"rungs": [0.5, 1.0, 0.5], "min_trials": 4}}, "rungs: 0.5 is named twice"),
        ({"early_stopping": {"questions": [0.25, 0.25]}}, "questions: 0.25 is named twice"),
        (
            {"early_stopping": {"rungs": [0.5], "min_trials": 6}},
            "sweep.early_stopping.min_trials = 6: the study trains 5, so no trial would be judged at its rungs; "
            "allowed: up to 5, or no rungs",
        ),
        (
            {"search": {"train.lr": [1, 2]}},
            "sweep.search.train.lr = [1, 2]: a range or two values? write [1.0, 2.0] for the range, {choices: [1, 2]} "
            "for the values",
        ),
        ({"search": {"train.router_lr": [0, 1]}}, "a range or two values?"),
        (
            {"search": {"train.weight_decay": {"low": 0, "high": 1, "levels": 3}}},
            "of whole numbers, or of all? write {low: 0.0, high: 1.0} for all, step: 1 beside them for whole ones",
        ),
        (
            {"search": {"train.steps": [2.0, 8.0]}},
            "train.steps takes whole numbers; write {low: 2, high: 8} for a range, [2, 8] for two values",
        ),
        ({"search": {"train.steps": {"low": 2.0, "high": 8}}}, "train.steps takes whole numbers"),
    ],
)
def test_what_a_recipe_is_refused_for(tmp_path: Any, sweep: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, sweep)
    assert str(refused.value).startswith(f"{tmp_path}/x.yaml: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    stored = parse_config(recipe(sweep))
    assert parse_config(stored.model_dump(mode="json")) == stored, "a study that was started so can be read"


@pytest.mark.parametrize(
    "sweep",
    [
        {"early_stopping": {"rungs": [0.5], "min_trials": 5}},  # measured, and nobody is judged
        {"early_stopping": {"rungs": [0.5], "min_trials": 6, "enabled": False}},
        {"early_stopping": {"min_trials": 6}},
        {"early_stopping": {"rungs": [0.5], "min_trials": 6}, "num_trials": 0},
        {"early_stopping": {"rungs": [0.5], "min_trials": 6}, "points": [{"routing_loss_weight": 0.1}]},
        {"search": {"train.lr": [1.0e-4, 1]}},
        {"search": {"train.lr": {"choices": [1, 2]}}},
        {"search": {"train.lr": [1, 2, 3]}},
        {"search": {"train.lr": {"low": 1, "high": 3, "step": 1}}},
        {"search": {"train.steps": [2, 8]}},
        {"search": {"train.optimizer": ["adamw", "sgd"]}},
        {"search": {"train.activation_checkpointing": [True, False]}},
    ],
)
def test_what_is_clear_is_taken(tmp_path: Any, sweep: dict[str, Any]) -> None:
    assert load(tmp_path, sweep).sweep is not None


def test_a_pipelines_study_grows_every_night(tmp_path: Any) -> None:
    sweep = {"early_stopping": {"rungs": [0.5], "min_trials": 100}}
    assert load(tmp_path, sweep, pipeline={"trials": 2}).pipeline is not None


def test_an_extension_is_refused_as_a_recipe_is() -> None:
    few = parse_config(recipe({"early_stopping": {"rungs": [0.5], "min_trials": 8}}))
    with pytest.raises(ConfigError, match="study 'x': sweep.early_stopping.min_trials = 8: the study trains 6"):
        extended(few, [], 1)
    assert extended(few, [], 3).sweep.num_trials == 6  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="a range or two values"):
        extended(few, ["sweep.search={train.lr: [1, 2]}"], 3)
