"""FLOPs of training against the specification's table, hours, peaks and prices."""

import pytest

from dpn_model.bases.catalogue import base_shape
from dpn_model.cost.ledger import Ledger
from dpn_platform.config.errors import ConfigError
from dpn_platform.planning.compute import PlannedPasses, SampleMeans, device_hours, peak_tflops, training_flops
from dpn_platform.planning.prices import price_per_hour

SITES, ROUTE = (8, 16, 24), (576, 144, 72, 72)
# Spec performance 2.4, samples a second of eight H200 at their peak: text tokens, checkpointing, dense, DPN on 4,2,1.
# (Its TFLOP columns count half of the attention's square, and DPN's leaves the vision tower out.)
TABLE = [
    (64, False, 242, 549),
    (64, True, 183, 416),
    (150, False, 213, 423),
    (150, True, 161, 320),
    (300, True, 134, 227),
]


def tflops(sites, route, text, *, checkpointed=False, trains_vision=False, images=1.0):
    passes = PlannedPasses.of(trains_vision=trains_vision, checkpointed=checkpointed)
    ledger = Ledger.of_stages(32, sites, route, text)
    parts = training_flops(base_shape("llava-1.5-7b"), [ledger], SampleMeans(text, text, images), passes)
    return {part: flops / 1e12 for part, flops in parts.items()}


@pytest.mark.parametrize(("text", "checkpointed", "dense", "dpn"), TABLE)
def test_training_costs_what_the_specification_computed(text, checkpointed, dense, dpn):
    for sites, route, expected in (((), (576,), dense), (SITES, ROUTE, dpn)):
        per_sample = sum(tflops(sites, route, text, checkpointed=checkpointed).values())
        assert 8 * 790 / per_sample == pytest.approx(expected, rel=0.012)  # measured: within 1.1%


def test_what_runs_how_often():
    plain, recomputed = tflops(SITES, ROUTE, 64), tflops(SITES, ROUTE, 64, checkpointed=True)
    trained = tflops(SITES, ROUTE, 64, trains_vision=True)
    assert recomputed["decoder"] / plain["decoder"] == pytest.approx(4 / 3)
    assert (recomputed["head"], recomputed["vision"]) == (plain["head"], plain["vision"])
    assert trained["vision"] / plain["vision"] == pytest.approx(3)


def test_text_only_samples_cost_their_own_text():
    mixed, with_pictures = tflops((), (576,), 100, images=0.25), tflops((), (576,), 100)
    text_only = tflops((), (0,), 100, images=0)
    assert text_only["vision"] == 0
    for part in mixed:
        assert mixed[part] == pytest.approx(0.25 * with_pictures[part] + 0.75 * text_only[part])


def test_hours_follow_from_the_peak():
    """Performance 2.4: eight H200 at half of 790 TFLOP/s train 92 dense samples a second (64 text, recomputed)."""
    hours = device_hours(1e6 * 34.1e12, peak_tflops("H200", None), 0.5)
    assert 1e6 / (hours / 8 * 3600) == pytest.approx(92, rel=0.01)


def test_unknown_device_needs_its_peak():
    assert peak_tflops("abacus", 0.5) == 0.5
    with pytest.raises(ConfigError, match=r"--device abacus: its peak is not known here \(known: h200\)"):
        peak_tflops("abacus", None)


def test_prices_are_the_users(tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text("H200: 3.5\na100: 1\n")
    assert price_per_hour(file, "h200") == 3.5
    with pytest.raises(ConfigError, match=r"no price of device 'b300'; it has: H200, a100"):
        price_per_hour(file, "b300")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h200: cheap", "h200: 'cheap' is no price"),
        ("h200: -1", "h200: -1 is no price; allowed: a number from 0 up"),
        ("h200: true", "h200: True is no price"),
        ("- h200", "write one `device: price per hour` per line"),
        ("", "write one `device: price per hour` per line"),
    ],
)
def test_bad_prices_are_refused(tmp_path, text, message):
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        price_per_hour(file, "h200")


def test_absent_prices_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        price_per_hour(tmp_path / "absent.yaml", "h200")
