"""The bill around the decoder against the spec's numbers (performance 2.2, base-models A.7) and sums done by hand."""

from __future__ import annotations

import pytest

from dpn_model.bases.catalogue import base_shape
from dpn_model.cost.bill import cost_parts, vit_macs
from dpn_model.cost.flops import CONVENTIONS
from dpn_model.cost.ledger import sample_cost
from dpn_model.methods.dpn.planned_route import parse_route, planned_run
from dpn_model.outputs import RoutingReport

SEVEN_B = base_shape("llava-1.5-7b")


def test_vision_projector_and_head_cost_what_the_spec_says() -> None:
    run = planned_run(SEVEN_B, ("2x2", "1x2", "1x1"), 64)
    macs, flops = (cost_parts(SEVEN_B, run, convention) for convention in ("swiglu", "true"))
    # performance 2.2, in the digits it prints: 191.0 GMAC for 24 layers, projector 24 GFLOP, one logit 0.26 GFLOP.
    assert macs.vision / 1e9 == pytest.approx(191.0, abs=0.05)
    assert flops.projector / 1e9 == pytest.approx(24, abs=0.5)
    assert flops.lm_head / 1e9 == pytest.approx(0.26, abs=0.005)
    # Three routers of 4,205,568 parameters (base-models A.3), all of them multiplied once but the LayerNorm's 2 * 4096.
    assert macs.method == 3 * (4_205_568 - 2 * 4096)
    assert macs.total == macs.vision + macs.projector + macs.prefill + macs.method + macs.lm_head


def test_a_clip_without_its_last_layer_costs_the_published_figure() -> None:
    # peer-methods 1: 182.67 G for the blocks of 23 layers.
    assert vit_macs(1024, 4096, 23, 577) / 1e9 == pytest.approx(182.67, abs=0.005)


def test_outside_the_decoder_conventions_differ_by_their_unit_only() -> None:
    run = planned_run(SEVEN_B, ("2x2", "1x2", "1x1"), 64)
    eq8, swiglu, true = (cost_parts(SEVEN_B, run, convention) for convention in CONVENTIONS)
    for part in ("vision", "projector", "method", "lm_head"):
        assert getattr(eq8, part) == getattr(swiglu, part) == getattr(true, part) / 2 > 0
    assert eq8.prefill == sample_cost(SEVEN_B.decoder, run.sites, run.visual_tokens, 64, "eq8").total
    assert eq8.prefill < swiglu.prefill < true.prefill


@pytest.mark.parametrize(("route", "mib"), [("1,1,1", 318.0), ("2,2,2", 165.0), ("4,2,2", 133.5), ("4,4,4", 125.6)])
def test_kv_cache_is_the_specs(route: str, mib: float) -> None:
    groups = planned_run(SEVEN_B, parse_route(route), 60).kv_groups(SEVEN_B.decoder)
    assert sum(group.num_bytes for group in groups) / 2**20 == pytest.approx(mib, abs=0.05)  # printed with one decimal
    assert [(group.first_layer, group.last_layer) for group in groups] == [(1, 8), (9, 16), (17, 24), (25, 32)]


def test_kv_groups_hold_text_and_visual_tokens() -> None:
    groups = planned_run(SEVEN_B, ("2x2", "1x2", "1x1"), 60).kv_groups(SEVEN_B.decoder, bytes_per_element=4)
    assert [group.tokens for group in groups] == [636, 204, 132, 132]
    assert groups[0].num_bytes == 8 * 636 * 2 * 4096 * 4


def test_routes_are_areas_or_kernels() -> None:
    assert parse_route("4, 2,1") == ("2x2", "1x2", "1x1")
    assert parse_route("2x1,1x2,4x4") == ("2x1", "1x2", "4x4")
    assert planned_run(SEVEN_B, ("4x4", "2x1", "1x3"), 0).visual_tokens == (576, 36, 18, 6)
    assert planned_run(base_shape("llava-1.5-13b"), ("2x2", "1x1", "1x1"), 0).sites == (10, 20, 30)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("4,2", "has 2 entries; allowed: 3 .after 8, 16, 24"),
        ("4,3,1", r"route\[1\] = '3'; allowed: areas 1, 2, 4, or kernels such as 1x2, 2x1"),
        ("", r"route\[0\] = ''"),
        ("4,2,1x0", r"route\[2\] = '1x0'"),
        ("4x4,4x4,2x2", r"route\[2\]: a 1x1 grid is too small for the 2x2 kernel"),
    ],
)
def test_routes_that_do_not_fit_are_refused(route: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned_run(SEVEN_B, parse_route(route), 0)


def test_a_report_made_without_a_model_has_no_cost() -> None:
    with pytest.raises(ValueError, match="without a model shape has no cost"):
        RoutingReport((), (10,), (64,)).cost(0)
