"""`dpn plan`: the numbers it tells are those the model's own account gives."""

import pytest

from dpn_platform.cli.estimate import base_config, batch_arithmetic, method_cost, model_facts, planned_methods
from dpn_platform.cli.plan import build_plan
from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.load import parse_config


@pytest.fixture(scope="module")
def base():
    return base_config("tiny")


@pytest.fixture(autouse=True)
def _no_services(monkeypatch, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPN_HOME", str(tmp_path / "home"))


def experiment(**sections):
    return parse_config({"name": "x", "model": {"base": "tiny"}, **sections})


def test_batches_of_one_run():
    train = {"steps": 7, "global_batch_size": 24, "micro_batch_size": 4, "num_workers": 2, "checkpoint_every_steps": 3}
    facts = batch_arithmetic(experiment(train=train))
    assert facts["gradient_accumulation_steps"] == 3
    assert facts["samples"] == 168
    assert facts["checkpoints"] == 3


def test_model_facts_are_those_of_the_real_model(base):
    from dpn_platform.training.base import build_tiny

    model, _ = build_tiny()
    facts = model_facts(base)
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert facts["visual_tokens"] == 64


def test_static_route_costs_what_eq8_says(base):
    cost = method_cost(base, experiment(method={"name": "static", "kernel": "2x2"}).method, text_tokens=0)
    assert cost["sites"] == [2, 4, 6]
    assert (cost["visual_tokens_at_the_end"].low, cost["visual_tokens_at_the_end"].high) == (1, 1)
    d, m = 96, 192

    def macs(n):
        return 4 * n * d * d + 2 * n * n * d + 2 * n * d * m

    # Two layers at each of 64, 16, 4 and 1 visual tokens, against eight at 64.
    expected = 2 * sum(macs(n) for n in (64, 16, 4, 1)) / (8 * macs(64))
    assert cost["flops_ratio_eq8"].low == cost["flops_ratio_eq8"].high == pytest.approx(expected, rel=1e-12)


def test_each_site_has_its_own_experts(base):
    method = {"sites": [2, 5], "site_experts": [["2x2"], ["1x2", "2x2"]]}
    cost = method_cost(base, experiment(method=method).method, text_tokens=0)
    assert cost["sites"] == [2, 5]
    assert (cost["visual_tokens_at_the_end"].low, cost["visual_tokens_at_the_end"].high) == (4, 8)


def test_dpn_lies_between_its_smallest_and_largest_expert(base):
    dpn = method_cost(base, experiment(method={"experts": ["1x1", "2x2"]}).method, text_tokens=10)
    static = method_cost(base, experiment(method={"name": "static", "kernel": "2x2"}).method, text_tokens=10)
    assert dpn["flops_ratio_swiglu"].high == 1.0
    assert dpn["flops_ratio_swiglu"].low == static["flops_ratio_swiglu"].low


def test_random_drop_and_dense(base):
    dense = method_cost(base, experiment(method={"name": "dense"}).method, text_tokens=10)
    drop = method_cost(base, experiment(method={"name": "random_drop", "keep_ratio": 0.5}).method, text_tokens=10)
    assert dense["flops_ratio_eq8"].low == 1.0
    assert drop["visual_tokens_at_the_end"].low == 8


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"sites": [3, 8]}, r"method.sites = \[3, 8\]: 8 is out of range; allowed: different layers from 1 to 7"),
        ({"name": "static", "kernel": "9x9"}, "method.kernel = 9x9: too large for a grid of 8x8"),
        ({"experts": ["3x3"]}, "method.experts = 3x3: too large for a grid of 2x2"),
    ],
)
def test_method_that_does_not_fit_the_model_is_refused(base, method, message):
    with pytest.raises(ConfigError, match=message):
        method_cost(base, experiment(method=method).method, text_tokens=10)


def test_absent_base_is_refused():
    with pytest.raises(ConfigError, match=r"model.base = 'nowhere/at-all': no from_pretrained folder"):
        base_config("nowhere/at-all")


def test_sweep_plans_controls_and_trials():
    sweep = {
        "num_trials": 5,
        "controls": ["dense", "static_1x2"],
        "search": {"experts": [["1x1", "1x2"], ["1x1", "2x2"]]},
    }
    methods = planned_methods(experiment(sweep=sweep))
    assert [(name, count) for name, _, count in methods] == [("dense", 1), ("static_1x2", 1), ("dpn", 5)]
    assert methods[1][1].kernel == "1x2"
    assert methods[2][1].experts == ("1x1", "1x2", "2x2")


def test_plan_adds_up_and_says_that_the_data_was_not_looked_at():
    plan = build_plan(experiment(train={"steps": 10}, sweep={"num_trials": 2, "controls": ["dense"]}), text_tokens=16)
    assert plan["total"]["trials"] == 3
    assert plan["total"]["samples"] == 3 * 320
    assert plan["total"]["training_tflops"] == pytest.approx(
        sum(method["trials"] * method["training_tflops_per_trial"] for method in plan["methods"])
    )
    assert "services are not running" in plan["data"]["note"]


def test_plan_of_a_local_data_set_that_is_not_there_says_so(tmp_path):
    try:
        plan = build_plan(experiment(data={"uri": str(tmp_path / "absent")}), text_tokens=16)
    except DpnError as error:
        pytest.fail(str(error))
    assert "absent" in plan["data"]["note"]
