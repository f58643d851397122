"""What runs and what it does to tokens: the numbers are those the model's own account gives."""

from pathlib import Path

import numpy as np
import pytest

from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.registry import _OURS, find_method, settings_of
from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.load import load_config, parse_config
from dpn_platform.planning.base_model import meta_model, parameters_by_part, parameters_of
from dpn_platform.planning.methods import (
    Bounds,
    batch_arithmetic,
    forward_bill,
    method_cost,
    method_plan,
    planned_methods,
    widest_plan,
)
from dpn_platform.planning.route_walks import all_routes
from dpn_platform.training.base import load_base
from dpn_platform.training.base_config import base_config

TINY = base_shape("tiny")


@pytest.fixture(scope="module")
def base():
    return base_config("tiny")


def cost_of(base, config, text_tokens):
    return method_cost(base, method_plan(base, config.method, text_tokens))


def experiment(**sections):
    return parse_config({"name": "x", "model": {"base": "tiny"}, **sections})


def test_batches_of_one_run():
    train = {"steps": 7, "global_batch_size": 24, "micro_batch_size": 4, "num_workers": 2, "checkpoint_every_steps": 3}
    facts = batch_arithmetic(experiment(train=train))
    assert facts["gradient_accumulation_steps"] == 3
    assert facts["samples"] == 168
    assert facts["checkpoints"] == 3


def test_parameters_are_those_of_the_real_model():
    from dpn_platform.training.base import build_model

    config = experiment(train={"vision_lr": 0})
    real, _ = build_model(config)
    model = meta_model(base_config("tiny"), config.method, config.train)
    parts = parameters_by_part(model)
    assert parts["routers"] == sum(parameter.numel() for parameter in real.reducers.parameters())
    assert sum(parts.values()) == sum(parameter.numel() for parameter in real.parameters())
    assert parameters_of(model).frozen == parts["vision tower"]


def test_named_bases_are_planned_without_weights_and_not_trained():
    assert base_config("llava-hr-7b").base.model_type == "llava_hr"
    with pytest.raises(DpnError, match="'llava-hr-7b' names a shape without weights.* set model.base to a from_pretr"):
        load_base("llava-hr-7b")


def test_folder_that_transformers_cannot_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava_llama"}')
    with pytest.raises(ConfigError, match=r"model.base = '.*': config.json cannot be planned with: .*llava_llama"):
        base_config(str(tmp_path))


def test_static_route_costs_what_eq8_says(base):
    cost = cost_of(base, experiment(method={"name": "static", "kernel": "2x2"}), 0)
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
    cost = cost_of(base, experiment(method=method), 0)
    assert cost["sites"] == [2, 5]
    assert (cost["visual_tokens_at_the_end"].low, cost["visual_tokens_at_the_end"].high) == (4, 8)


def test_dpn_lies_between_its_smallest_and_largest_expert(base):
    dpn = cost_of(base, experiment(method={"experts": ["1x1", "2x2"]}), 10)
    static = cost_of(base, experiment(method={"name": "static", "kernel": "2x2"}), 10)
    assert dpn["flops_ratio_swiglu"].high == 1.0
    assert dpn["flops_ratio_swiglu"].low == static["flops_ratio_swiglu"].low


def test_random_drop_and_dense(base):
    dense = cost_of(base, experiment(method={"name": "dense"}), 10)
    drop = cost_of(base, experiment(method={"name": "random_drop", "keep_ratio": 0.5}), 10)
    assert dense["flops_ratio_eq8"].low == 1.0
    assert drop["visual_tokens_at_the_end"].low == 8


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"sites": [3, 8]}, r"method.sites = \[3, 8\]: 8 is out of range; allowed: different layers from 0 to 7"),
        ({"name": "static", "kernel": "9x9"}, "method.kernel = 9x9: too large for a grid of 8x8"),
        ({"experts": ["3x3"]}, "method.experts = 3x3: too large for a grid of 2x2"),
    ],
)
def test_method_that_does_not_fit_the_model_is_refused(base, method, message):
    with pytest.raises(ConfigError, match=message):
        cost_of(base, experiment(method=method), 10)


def test_absent_base_is_refused():
    with pytest.raises(ConfigError, match=r"model.base = 'nowhere/at-all': no from_pretrained folder"):
        base_config("nowhere/at-all")


def test_sweep_plans_controls_and_trials(base):
    sweep = {
        "num_trials": 5,
        "controls": ["dense", "static_1x2", "static_1x1-1x2-2x2"],
        "search": {"experts": [["1x1", "1x2"], ["1x1", "2x2"]]},
    }
    methods = planned_methods(experiment(sweep=sweep), base)
    counts = [("dense", 1), ("static_1x2", 1), ("static_1x1-1x2-2x2", 1), ("dpn", 5)]
    assert [(run.name, run.trials) for run in methods] == counts
    assert [run.evaluations for run in methods] == [1, 1, 1, 5]
    assert [one.kernel for one in methods[1][1]] == ["1x2"]
    assert [one.site_kernels for one in methods[2][1]] == [("1x1", "1x2", "2x2")]
    assert {one.experts for one in methods[3][1]} == {("1x1", "1x2"), ("1x1", "2x2")}


def test_controls_at_budgets_are_planned_with_the_settings_that_meet_them(base):
    sweep = {"controls": ["dense", {"name": "fastv", "budget": ["1/2"], "on": "dense"}], "budgets": [0.25]}
    runs = {run.name: run for run in planned_methods(experiment(sweep=sweep), base)}
    [fastv] = (run := runs["fastv-at-0.500-free"]).methods
    assert (fastv.sites, run.trials, run.evaluations) == ((2,), 0, 1), "on another's checkpoint: nobody trains it"
    assert share_of(fastv.spec, fastv.settings, TINY) == pytest.approx(0.5, abs=0.01)
    [drop] = runs["random_drop-0.250-seed-0"].methods
    assert (drop.sites, drop.keep_ratio) == ((0,), 0.25)
    sweep["controls"][1] |= {"budget": 0.1}
    with pytest.raises(ConfigError, match=r"fastv-at-0.100-free: budget = 0.1 is out of reach .* 0\.262 to"):
        planned_methods(experiment(sweep=sweep), base)


@pytest.mark.parametrize(
    ("search", "cheapest", "dearest"),
    [
        ({"method": "static", "kernel": ["1x2", "2x2"]}, [64, 16, 4, 1], [64, 32, 16, 8]),
        ({"method": "static", "site_kernels": [["1x1"] * 3, ["2x2"] * 3]}, [64, 16, 4, 1], [64] * 4),
        ({"method": "random_drop", "keep_ratio": [0.25, 1.0]}, [64, 16, 4, 1], [64] * 4),
        ({"method": "random_drop", "sites": [[2], [7]], "keep_ratio": [0.5, 0.5]}, [64, 32], [64, 32]),
    ],
)
def test_a_search_is_planned_from_its_cheapest_corner_to_its_dearest(base, search, cheapest, dearest):
    [(_, corners, *_)] = planned_methods(experiment(sweep={"controls": [], "search": search}), base)
    planned, _ = widest_plan(base, corners, 10)
    assert [list(ledger.visual_tokens) for ledger in planned] == [cheapest, dearest]


def test_a_question_on_every_route_is_a_walk_or_one_route_after_another():
    base = base_config("llava-1.5-7b")

    def on_all(*methods):
        return all_routes(base, [experiment(method=method).method for method in methods], 150)

    walked = on_all({})
    assert walked["routes"] == Bounds(27, 27)
    assert walked["dense_passes"].low == walked["dense_passes"].high == pytest.approx(4.23, abs=0.01), "docs/routing.md"
    both = on_all({}, {"experts": ["1x1", "2x2"]})
    assert both["routes"] == Bounds(8, 27)
    assert both["dense_passes"].low < both["dense_passes"].high == walked["dense_passes"].high
    each = on_all({"name": "avg_llava"})
    bill = forward_bill(base, method_plan(base, experiment(method={"name": "avg_llava"}).method, 150))["true"]
    behind_the_tower = [bill["total"].low, bill["total"].high] - np.array(bill["vision"] + bill["projector"])
    found = each["flops_per_question"]
    assert (found.low, found.high) == tuple(each["routes"].low * behind_the_tower)
    assert each["dense_passes"].high == pytest.approx(each["routes"].low, rel=0.05), "whole pictures, with the router"
    assert on_all({"name": "dense"}) == dict.fromkeys(("routes", "flops_per_question", "dense_passes"), Bounds(0, 0))
    with pytest.raises(DpnError, match="dpn: eval.routes = all of a checkpoint with 729 routes; allowed: up to 256"):
        on_all({"sites": [1, 2, 3, 4, 5, 6]})


def test_choices_that_do_not_go_together_are_refused(base):
    search = {"selection": ["sample", "top1"], "router_gradient": ["score"]}
    with pytest.raises(ConfigError, match="sweep.search can draw {.*selection: top1.*}"):
        planned_methods(experiment(sweep={"search": search}), base)


def test_bill_of_a_forward_pass_is_dpn_flops(base):
    """Every kernel 2x2 is the cheapest route; `dpn flops --route 4,4,4` bills the same sample."""
    from dpn_model.cost.bill import cost_parts
    from dpn_model.methods.dpn.planned_route import planned_run

    config = experiment(model={"base": "llava-1.5-7b"})
    config_7b = base_config("llava-1.5-7b")
    planned = method_plan(config_7b, config.method, text_tokens=60)
    shape = base_shape("llava-1.5-7b")
    for convention, bill in forward_bill(config_7b, planned).items():
        parts = cost_parts(shape, planned_run(shape, ("2x2", "2x2", "2x2"), 60), convention)
        assert (bill["total"].low, bill["decoder"].low) == (parts.total, parts.prefill)
        assert bill["total"].high > bill["total"].low > bill["vision"]


def test_a_floor_never_forbids_the_kernel_that_takes_nothing(base):
    cost = cost_of(base, experiment(method={"min_tokens": 65}), 0)
    assert cost["visual_tokens_cheapest"] == cost["visual_tokens_dearest"] == [64] * 4
    with pytest.raises(ConfigError, match="experts = 1x2, 2x2: too large for a grid of 8x8"):
        cost_of(base, experiment(method={"min_tokens": 65, "experts": ["1x2", "2x2"]}), 0)


@pytest.mark.parametrize(
    ("training", "expected"),
    [("all", [(576, 576), (144, 144), (36, 36), (9, 9), (1, 1)]), ("sampled", [(1, 576)])],
)
def test_a_method_that_trains_on_copies_is_planned_with_all_of_them(training, expected):
    """Every scale, whichever is picked; a drawn scale is one of them."""
    shape = base_shape("llava-1.5-7b")
    method = experiment(method={"name": "m3", "scale": "4x4", "training": training}).method
    copies = method.spec.plan_training(method.settings, shape, 64)
    assert [tuple(route.visual_tokens[-1] for route in copy) for copy in copies] == expected
    dense = experiment(method={"name": "dense"}).method
    assert dense.spec.plan_training(dense.settings, shape, 64) == (dense.spec.plan(dense.settings, shape, 64),)


def test_a_base_is_planned_with_one_method_after_another(base):
    """What one plan attaches is not there in the next, a projector of its own included."""
    for name in ("llava_mini", "m3", "llava_mini"):
        config = experiment(method={"name": name})
        assert meta_model(base, config.method, config.train).config.method["name"] == name
    assert base.method["name"] != "llava_mini"


def test_the_free_methods_recipe_has_every_one_at_every_budget_it_reaches():
    shape = base_shape("llava-1.5-7b")
    recipe = load_config(Path(__file__).parents[2] / "jobs/configs/llava-1.5-7b-free.yaml")
    settings = {variant.name: settings_of(variant.method) for variant in recipe.eval.variants}
    expected = set()
    for spec in map(find_method, _OURS):
        if spec.needs_training != "none" or not spec.reduces:
            continue
        if spec.budget is None:
            expected.add(spec.name)
            continue
        for tokens in (192, 128, 64):
            name = f"{spec.name}-{tokens}"
            try:
                found = at_budget(spec, settings.get(name, spec.settings()), shape, tokens / 576)
            except ValueError:
                continue
            expected.add(name)
            assert settings[name] == found
    assert set(settings) == expected
