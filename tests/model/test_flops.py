"""FLOPs against the spec's exact numbers (base-models A.2.1)."""

from __future__ import annotations

import pytest

from dpn_model.flops import DecoderShape, layer_macs, sample_cost

SEVEN_B = DecoderShape(4096, 11008, 32)
THIRTEEN_B = DecoderShape(5120, 13824, 40)
# route digits are kernel areas: (visual tokens per stage, GFLOPs at T=0, ratio at T=0 / 30 / 60 in percent)
ROUTES = {
    "111": ((576, 576, 576, 576), 2986.1, 100.00, 100.00, 100.00),
    "114": ((576, 576, 576, 144), 2422.1, 81.11, 82.02, 82.84),
    "212": ((576, 288, 288, 144), 1664.7, 55.75, 57.88, 59.81),
    "222": ((576, 288, 144, 72), 1387.8, 46.48, 49.05, 51.38),
    "421": ((576, 144, 72, 72), 1110.9, 37.20, 40.22, 42.96),
    "444": ((576, 144, 36, 9), 985.8, 33.01, 36.23, 39.15),
}


@pytest.mark.parametrize("route", ROUTES)
def test_route_costs_match_the_spec(route: str) -> None:
    tokens, gflops, *ratios = ROUTES[route]
    assert sample_cost(SEVEN_B, (8, 16, 24), tokens, 0, "eq8").total / 1e9 == pytest.approx(gflops, abs=0.05)
    for text, ratio in zip((0, 30, 60), ratios, strict=True):
        shifted = tuple(v + text for v in tokens)  # the spec's FR at T tokens: eq. 8 with n = V + T
        assert sample_cost(SEVEN_B, (8, 16, 24), shifted, 0, "eq8").ratio * 100 == pytest.approx(ratio, abs=0.005)


def test_layer_terms_are_exact_integers() -> None:
    assert layer_macs(606, SEVEN_B, "eq8") == 98_323_955_712
    assert layer_macs(606, SEVEN_B, "swiglu") == 125_647_749_120
    assert 40 * layer_macs(606, THIRTEEN_B, "eq8") == 6_123_528_192_000
    assert layer_macs(576, SEVEN_B, "eq8") == 93_314_875_392


def test_eq8_leaves_text_out_and_swiglu_counts_it() -> None:
    eq8 = [sample_cost(SEVEN_B, (8, 16, 24), (576, 144, 72, 72), text, "eq8").total for text in (0, 60)]
    swiglu = [sample_cost(SEVEN_B, (8, 16, 24), (576, 144, 72, 72), text, "swiglu").total for text in (0, 60)]
    assert eq8[0] == eq8[1]
    assert swiglu[0] < swiglu[1]


def test_a_text_only_sample_costs_its_dense_price() -> None:
    for convention in ("eq8", "swiglu"):
        assert sample_cost(SEVEN_B, (8, 16, 24), (0, 0, 0, 0), 40, convention).ratio == 1.0
