"""The method's section of a recipe and the model's own settings are one list, written twice for a fast `dpn --help`."""

from __future__ import annotations

from dataclasses import fields

import pytest

from dpn_model import Method
from dpn_model.methods.dpn.profiles import PROFILES, method_profile
from dpn_model.methods.method import RoutingLoss
from dpn_model.methods.registry import METHODS
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import parse_config
from dpn_platform.config.method import MethodConfig, MethodName, RoutingLossConfig
from dpn_platform.training.base import method_of


def test_every_setting_of_the_model_can_be_written_in_a_recipe() -> None:
    assert set(MethodConfig.model_fields) | {"seed"} == {field.name for field in fields(Method)}
    assert set(RoutingLossConfig.model_fields) == {field.name for field in fields(RoutingLoss)}
    assert set(MethodName.__args__) == set(METHODS)


def test_defaults_are_the_models() -> None:
    assert method_of(MethodConfig(), seed=0) == Method()


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_written_in_a_recipe(name: str) -> None:
    profile = method_profile(name)
    values = {key: value for key, value in profile.to_dict().items() if key != "seed"}
    config = parse_config({"name": "x", "method": values})
    assert method_of(config.method, seed=profile.seed) == profile


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"scaling": "straight_through"}, "router_gradient score needs scaling off or on, this is straight_through"),
        ({"selection": "top1"}, "router_gradient score needs selection sample, this is top1"),
        ({"infeasible": "resample"}, "router_gradient score needs infeasible renormalise, this is resample"),
    ],
)
def test_a_score_that_would_be_no_gradient_is_refused_before_anything_starts(
    section: dict[str, str], message: str
) -> None:
    parse_config({"name": "x", "method": section})
    with pytest.raises(ConfigError, match=message):
        parse_config({"name": "x", "method": {"router_gradient": "score", **section}})
