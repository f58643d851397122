"""All routes at once: what the walk gives is what every route gives when it is forced."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.cost.flops import layer_macs
from dpn_model.methods.dpn.spec import plan_walk
from dpn_model.tiny import tiny_config

IGNORE = -100


def _config() -> DpnConfig:
    """8x8 visual tokens, 4 decoder layers of 32."""
    config = tiny_config(24)
    narrow = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config.base_config["text_config"] |= {
        **narrow,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    config.base_config["vision_config"] |= {**narrow, "hidden_size": 16, "num_hidden_layers": 1}
    return config


def _model(method: Method) -> DpnForConditionalGeneration:
    torch.manual_seed(0)
    model = DpnForConditionalGeneration(_config())
    model.configure_method(method)
    return model.eval()


def _batch(answers: bool = True) -> dict[str, Tensor]:
    """Five samples of unequal lengths: the second without a picture, the last with two."""
    draw = torch.Generator().manual_seed(1)
    config = _config()
    image = [config.base.image_token_index] * 64
    rows, labels = [], []
    for number, pictures in enumerate((1, 0, 1, 1, 2)):
        words = torch.randint(8, 24, (3 + number,), generator=draw).tolist()
        row = [1, *(image * pictures), *words, config.router_token_id, 7]
        own = [IGNORE] * len(row) + [9 + number, 2][: 2 if answers else 0]
        rows.append(row + [9 + number, 2][: 2 if answers else 0])
        labels.append(own)
    width = max(map(len, rows))
    ids, mask = torch.zeros(5, width, dtype=torch.int64), torch.zeros(5, width, dtype=torch.int64)
    targets = torch.full((5, width), IGNORE)
    for place, (row, own) in enumerate(zip(rows, labels, strict=True)):
        ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        targets[place, : len(own)] = torch.tensor(own)
    batch = {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(5, 3, 96, 96, generator=draw)}
    return batch | ({"labels": targets} if answers else {})


METHODS = [
    Method(sites=(1, 2, 3), scaling="off"),
    Method(sites=(1, 3), scaling="on", temperature=1.0),
    Method(sites=(0, 2), site_experts=(("2x2", "1x1"), ("1x1", "4x1", "2x2")), scaling="off", positions="keep"),
    Method(sites=(2,), pool="conv", scaling="off"),
]


@pytest.mark.parametrize("method", METHODS, ids=["three sites", "scaled", "unequal sites", "convolution"])
def test_losses_and_costs_are_those_of_the_forced_routes(method: Method) -> None:
    model, batch = _model(method), _batch()
    walk, losses_NR = model.walk_routes(**batch)
    assert walk.routes == model.route_names
    assert walk.is_feasible_NR.all()
    for number, route in enumerate(walk.routes):
        model.set_route(route)
        with torch.no_grad():
            out = model(**batch)
        loss = out.loss_lm
        assert losses_NR[:, number].mean() == pytest.approx(loss.item(), abs=1e-5)  # two supervised tokens each
        report = walk.routing(number)
        for sample in range(5):
            assert report.route(sample) == out.routing.route(sample)
            assert report.visual_tokens_per_stage(sample) == out.routing.visual_tokens_per_stage(sample)
            assert report.cost(sample, "swiglu") == out.routing.cost(sample, "swiglu")


@pytest.mark.parametrize("method", [*METHODS, Method(sites=(1, 2, 3), experts=("1x1", "4x4"), scaling="off")])
def test_a_walk_is_planned_with_what_it_runs(method: Method) -> None:
    """Every layer once for every beginning of a route. Of 2x2 tokens 4x4 cannot be taken, and 1x1 runs twice."""
    model = _model(method)
    walk, _ = model.walk_routes(**_batch())
    shape, reports = model.model_shape, [walk.routing(number) for number in range(len(walk.routes))]
    text, ran, ends = reports[0].text_tokens[0], 0, (*method.sites, shape.decoder.num_layers)
    for stage, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
        beginnings = {
            route[:stage]: report.visual_tokens_per_stage(0)[stage]
            for route, report in zip(walk.routes, reports, strict=True)
        }
        ran += (end - start) * sum(layer_macs(visual + text, shape.decoder, "swiglu") for visual in beginnings.values())
    assert plan_walk(method, shape, text) == ran


@pytest.mark.parametrize("method", METHODS, ids=["three sites", "scaled", "unequal sites", "convolution"])
def test_answers_are_those_of_the_forced_routes(method: Method) -> None:
    model, batch = _model(method), _batch(answers=False)
    walk, ids_NRQ = model.answer_routes(**batch, max_new_tokens=4, ends=(2,), pad_id=0)
    for number, route in enumerate(walk.routes):
        model.set_route(route)
        generated = model.generate(**batch, max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0)
        new = generated[:, batch["input_ids"].shape[1] :]
        assert ids_NRQ[:, number, : new.shape[1]].tolist() == new.tolist()
        assert not ids_NRQ[:, number, new.shape[1] :].any()


def test_states_are_what_the_routers_read_behind_every_beginning() -> None:
    model, batch = _model(Method(sites=(1, 2, 3), scaling="off")), _batch(answers=False)
    walk, losses = model.walk_routes(**batch)
    assert losses is None
    assert walk.final is None
    assert walk.pictured == (0, 2, 3, 4)
    assert [tuple(read.shape) for read in walk.states] == [(4, 1, 32), (4, 3, 32), (4, 9, 32)]
    sites = list(model.parts.reducers.values())
    for path in product(range(3), repeat=2):
        model.set_route([model.route_names[0][0]] * 3)
        model.set_route([sites[0].expert_names[path[0]], sites[1].expert_names[path[1]], "1x1"])
        with torch.no_grad():
            records = model(**batch).routing.records
            for site, place in ((0, 0), (1, path[0]), (2, 3 * path[0] + path[1])):
                logits = sites[site].router(walk.states[site][:, place])
                assert torch.allclose(logits, records[site].router_logits_BE, atol=1e-5)


def test_routes_that_a_sample_cannot_take_are_marked() -> None:
    model, batch = _model(Method(sites=(1, 2), experts=("1x1", "4x4"), scaling="off", min_tokens=4)), _batch()
    walk, losses_NR = model.walk_routes(**batch)
    # 4x4 leaves 4 of 64 tokens, and nothing that a second 4x4 could take; texts take any route
    expected = np.ones((5, 4), dtype=bool)
    expected[[0, 2, 3, 4], 3] = False
    assert np.array_equal(walk.is_feasible_NR, expected)
    assert losses_NR.isfinite().all()
    model.set_route(["1x1", "4x4"])
    assert losses_NR[:, 1].mean() == pytest.approx(model(**batch).loss_lm.item(), abs=1e-5)


def test_what_cannot_be_walked_is_named() -> None:
    model, batch = _model(Method(name="static", kernel="2x2")), _batch()
    with pytest.raises(ValueError, match="nothing but choose among experts"):
        model.walk_routes(**batch)
    model.configure_method(Method())
    with pytest.raises(ValueError, match=r"routes are walked in evaluation; call model.eval"):
        model.train().walk_routes(**batch)
