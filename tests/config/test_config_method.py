"""The method's section of a recipe is the method's own settings: keys, ranges and defaults are written once."""

from __future__ import annotations

import pickle
from dataclasses import fields

import pytest

from dpn_model import Method
from dpn_model.methods.dpn.profiles import PROFILES, method_profile
from dpn_model.methods.registry import find_method, method_names
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import load_config, parse_config
from dpn_platform.config.method import laid_over, method_config, method_section
from dpn_platform.training.base import method_of


@pytest.mark.parametrize("name", method_names())
def test_every_setting_of_a_method_can_be_written_and_has_help(name: str) -> None:
    section, settings = method_section(name), find_method(name).settings
    assert set(section.model_fields) == {"name"} | {field.name for field in fields(settings)}
    assert all(field.description for key, field in section.model_fields.items() if key != "name")
    assert method_config({"name": name}).settings == Method(name)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_written_in_a_recipe(name: str) -> None:
    profile = method_profile(name)
    config = parse_config({"name": "x", "method": profile.to_dict()})
    assert method_of(config.method, seed=3) == profile


def test_a_method_that_draws_moves_its_seed_by_the_runs() -> None:
    config = parse_config({"name": "x", "method": {"name": "random_drop", "seed": 2}})
    assert method_of(config.method, seed=5) == Method("random_drop", seed=7)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"scaling": "straight_through"},
            "router_gradient = 'score' with scaling = 'straight_through'; allowed: off, on",
        ),
        ({"selection": "top1"}, "router_gradient = 'score' with selection = 'top1'; allowed: sample"),
        ({"infeasible": "resample"}, "router_gradient = 'score' with infeasible = 'resample'; allowed: renormalise"),
    ],
)
def test_a_score_that_would_be_no_gradient_is_refused_before_anything_starts(
    section: dict[str, str], message: str
) -> None:
    parse_config({"name": "x", "method": section})
    with pytest.raises(ConfigError, match=message):
        parse_config({"name": "x", "method": {"router_gradient": "score", **section}})


def test_a_key_of_another_method_is_refused_by_name() -> None:
    for section, line in (
        (
            {"name": "random_drop", "router": "v1"},
            "random_drop has no setting router; allowed: sites, positions",
        ),
        ({"name": "static", "experts": ["1x1"]}, "static has no setting experts; allowed: sites, positions, pool"),
        ({"name": "dense", "sites": [2]}, "dense has no setting sites; allowed: none"),
        (
            {"routing_loss": {"wait": 1}},
            r"dpn has no setting routing_loss.wait \(did you mean 'method.routing_",
        ),
    ):
        with pytest.raises(ConfigError, match=line):
            parse_config({"name": "x", "method": section})


def test_another_method_in_an_extension_or_override_keeps_what_both_have(tmp_path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nmethod: {sites: [2, 5], temperature: 3.0, pool: avg}\n")
    (tmp_path / "control.yaml").write_text("extends: base.yaml\nname: control\nmethod: {name: static, kernel: 1x2}\n")
    extended = load_config(tmp_path / "control.yaml").method
    overridden = load_config(tmp_path / "base.yaml", ["method.name=static", "method.kernel=1x2"]).method
    assert extended == overridden == method_config({"name": "static", "sites": [2, 5], "pool": "avg", "kernel": "1x2"})
    with pytest.raises(ConfigError, match="static has no setting temperature"):
        load_config(tmp_path / "base.yaml", ["method.name=static", "method.temperature=2"])
    assert laid_over({"name": "dpn", "routing_loss": {"weight": 1}}, {"routing_loss": {"target": 2}}) == {
        "name": "dpn",
        "routing_loss": {"weight": 1, "target": 2},
    }


def test_what_earlier_versions_resolved_still_loads() -> None:
    """Every method's keys side by side, as a run folder or a checkpoint of an earlier version holds them."""
    flat = {
        **Method().to_dict(),
        **Method("static").to_dict(),
        **Method("random_drop", keep_ratio=0.25).to_dict(),
        "name": "random_drop",
    }
    assert parse_config({"name": "x", "method": flat}).method.settings == Method("random_drop", keep_ratio=0.25)


def test_configs_travel_to_other_processes() -> None:
    config = parse_config({"name": "x", "method": {"name": "static", "kernel": "1x2"}})
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"method": {"name": "static", "site_kernels": ["1x1"] * 3}, "sweep": {}},
            "method.site_kernels cannot be set in a sweep that varies kernel",
        ),
        ({"sweep": {"controls": [{"name": "random_drop", "keep_ratio": []}]}}, "name at least one value"),
        ({"sweep": {"controls": [{"name": ["a"]}]}}, "a method's name is a text"),
        ({"sweep": {"search": {"method": "dense"}}}, "dense varies nothing by default"),
        ({"sweep": {"search": {"name": ["static"]}}}, "has no setting of that name"),
        ({"sweep": {}, "eval": {"budgets": [0.5]}}, "have no calibrated dial"),
        ({"method": {"name": "random_drop", "seed": -1}}, "method.seed = -1"),
    ],
)
def test_what_a_study_could_not_run_is_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"name": "x", **document})


def test_a_controls_entries_are_counted_by_its_own_sites() -> None:
    control = {"name": "static", "sites": [2], "site_kernels": ["1x1"]}
    config = parse_config({"name": "x", "sweep": {"controls": [control]}})
    assert config.sweep is not None
    assert config.sweep.controls == (control,)
