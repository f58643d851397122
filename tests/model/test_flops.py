"""FLOPs against the spec's exact numbers (base-models A.2.1, peer-methods 1)."""

from __future__ import annotations

import pytest

from dpn_model.cost.flops import CONVENTIONS, DecoderShape, layer_macs
from dpn_model.cost.ledger import Ledger, sample_cost
from dpn_model.methods.dpn.planned_route import parse_route
from dpn_model.methods.settings import parse_kernel

SEVEN_B = DecoderShape(4096, 11008, 32)
THIRTEEN_B = DecoderShape(5120, 13824, 40)
# The spec's route table: kernel areas at the three sites, mean visual tokens, GFLOPs at T=0, ratio in percent at
# T = 0, 30 and 60.
ROUTES = """
111 576    2986.1 100.00 100.00 100.00
112 504    2607.4 87.32 87.93 88.48
114 468    2422.1 81.11 82.02 82.84
121 432    2228.7 74.64 75.86 76.96
122 396    2043.4 68.43 69.95 71.32
124 378    1951.8 65.36 67.03 68.54
141 360    1858.1 62.23 64.04 65.69
142 342    1766.5 59.16 61.12 62.90
144 333    1721.0 57.63 59.67 61.52
211 360    1850.0 61.95 63.78 65.44
212 324    1664.7 55.75 57.88 59.81
214 306    1573.1 52.68 54.96 57.02
221 288    1479.4 49.54 51.97 54.17
222 270    1387.8 46.48 49.05 51.38
224 261    1342.3 44.95 47.60 50.00
241 252    1296.2 43.41 46.13 48.59
242 243    1250.7 41.88 44.68 47.21
244 238.5  1227.9 41.12 43.95 46.52
411 252    1294.2 43.34 46.06 48.53
412 234    1202.6 40.27 43.14 45.75
414 225    1157.0 38.75 41.69 44.36
421 216    1110.9 37.20 40.22 42.96
422 207    1065.4 35.68 38.77 41.57
424 202.5  1042.7 34.92 38.05 40.88
441 198    1019.8 34.15 37.32 40.19
442 193.5  997.1  33.39 36.59 39.49
444 191.25 985.8  33.01 36.23 39.15
""".split("\n")[1:-1]
TABLE = {row.split()[0]: tuple(map(float, row.split()[1:])) for row in ROUTES}


def tokens_of(route: str, visual: int = 576) -> tuple[int, ...]:
    """Visual tokens per stage of a route written as digits."""
    counts = [visual]
    for kernel in map(parse_kernel, parse_route(",".join(route))):
        counts.append(counts[-1] // (kernel[0] * kernel[1]))
    return tuple(counts)


@pytest.mark.parametrize("route", TABLE)
def test_route_costs_match_the_spec(route: str) -> None:
    mean, gflops, *ratios = TABLE[route]
    tokens = tokens_of(route)
    # Printed with one and two decimals: half a last digit.
    assert sample_cost(SEVEN_B, (8, 16, 24), tokens, 0, "eq8").total / 1e9 == pytest.approx(gflops, abs=0.05)
    assert Ledger.of_stages(32, (8, 16, 24), tokens, 0).mean_visual_tokens() == mean
    for text, ratio in zip((0, 30, 60), ratios, strict=True):
        shifted = tuple(v + text for v in tokens)  # the spec's FR at T tokens: eq. 8 with n = V + T
        assert sample_cost(SEVEN_B, (8, 16, 24), shifted, 0, "eq8").ratio * 100 == pytest.approx(ratio, abs=0.005)


def test_the_uniform_mean_over_all_routes() -> None:
    ratios = [sample_cost(SEVEN_B, (8, 16, 24), tokens_of(route), 0, "eq8").ratio for route in TABLE]
    assert sum(ratios) / 27 == pytest.approx(0.5275, abs=0.00005)
    assert sum(row[0] for row in TABLE.values()) / 27 == pytest.approx(305.6, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "sites", "visual", "route", "percent"),
    [
        (SEVEN_B, (8, 16, 24), 1024, "222", 46.18),
        (SEVEN_B, (8, 16, 24), 1024, "444", 32.87),
        (SEVEN_B, (8, 16, 24), 1024, "212", 55.38),
        (SEVEN_B, (8, 16, 24), 1024, "211", 61.55),
        (THIRTEEN_B, (10, 20, 30), 1024, "222", 46.32),
        (THIRTEEN_B, (10, 20, 30), 1024, "212", 55.55),
        (SEVEN_B, (7, 15, 23), 576, "444", 29.94),
        (SEVEN_B, (7, 15, 23), 576, "222", 43.73),
        (SEVEN_B, (4, 8, 12), 576, "444", 17.27),
        (SEVEN_B, (4, 8, 12), 576, "222", 29.33),
    ],
)
def test_high_resolution_and_other_sites(
    shape: DecoderShape, sites: tuple[int, ...], visual: int, route: str, percent: float
) -> None:
    cost = sample_cost(shape, sites, tokens_of(route, visual), 0, "eq8")
    assert cost.ratio * 100 == pytest.approx(percent, abs=0.005)


def test_layer_terms_are_exact_integers() -> None:
    assert layer_macs(606, SEVEN_B, "eq8") == 98_323_955_712
    assert layer_macs(606, SEVEN_B, "swiglu") == 125_647_749_120
    assert 40 * layer_macs(606, THIRTEEN_B, "eq8") == 6_123_528_192_000
    assert layer_macs(576, SEVEN_B, "eq8") == 93_314_875_392


def test_true_flops_are_two_for_every_multiply_accumulate() -> None:
    swiglu, true = (sample_cost(SEVEN_B, (), (576,), 30, convention).total for convention in ("swiglu", "true"))
    assert true == 2 * swiglu
    assert true / 1e9 == pytest.approx(8041.5, abs=0.05)
    # Peer-methods 1: 3.8172 T and 7.634 T at n = 576.
    assert sample_cost(SEVEN_B, (), (576,), 0, "swiglu").total / 1e12 == pytest.approx(3.8172, abs=0.00005)
    assert sample_cost(SEVEN_B, (), (576,), 0, "true").total / 1e12 == pytest.approx(7.634, abs=0.0005)


def test_eq8_leaves_text_out_and_the_others_count_it() -> None:
    for convention in CONVENTIONS:
        few, many = (sample_cost(SEVEN_B, (8, 16, 24), (576, 144, 72, 72), t, convention).total for t in (0, 60))
        assert (few == many) == (convention == "eq8")
        assert few <= many


def test_a_text_only_sample_costs_its_dense_price() -> None:
    for convention in CONVENTIONS:
        assert sample_cost(SEVEN_B, (8, 16, 24), (0, 0, 0, 0), 40, convention).ratio == 1.0


def test_grouped_queries_shrink_keys_and_values_only() -> None:
    d, m, q, kv = 64, 160, 96, 32
    grouped = DecoderShape(d, m, 2, query_size=q, kv_size=kv)
    per_token = d * q + 2 * d * kv + q * d + 3 * d * m  # q, k and v, o projections, FFN
    assert layer_macs(10, grouped, "swiglu") == 10 * per_token + 2 * 10 * 10 * q
    assert layer_macs(10, grouped, "eq8") == layer_macs(10, DecoderShape(d, m, 2), "eq8")


def test_decoding_one_token_is_the_specs_formula() -> None:
    d, m, cached = 4096, 11008, (636, 204, 132, 132)  # peer-methods 1, rule 4; each layer also attends to the new token
    expected = 32 * (4 * d * d + 3 * d * m) + sum(8 * 2 * d * (n + 1) for n in cached)
    ledger = Ledger.of_stages(32, (8, 16, 24), (576, 144, 72, 72), 60)
    assert ledger.decode(SEVEN_B, "swiglu") == expected
    assert ledger.decode(SEVEN_B, "true") == 2 * expected


def test_wrong_conventions_and_token_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="convention = 'flops'; allowed: eq8, swiglu, true"):
        layer_macs(1, SEVEN_B, "flops")
    with pytest.raises(ValueError, match="shorter"):
        sample_cost(SEVEN_B, (8, 16, 24), (576, 144), 0, "eq8")
