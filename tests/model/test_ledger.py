"""The ledger against the specification's table of rivals (peer-methods 1, n_t = 0 and 64), by hand-made ledgers."""

from __future__ import annotations

import pytest

from dpn_model.cost.flops import DecoderShape
from dpn_model.cost.ledger import LayerLoad, Ledger, Rows

SEVEN_B = DecoderShape(4096, 11008, 32)
MIB = 2**20


def half_skipped(text: int) -> Ledger:
    """γ-MoD: layers 3 to 30 run half of the visual tokens; the others pass by, and own no keys there."""
    whole, half = Rows(576, text), Rows(288, text)
    loads = [LayerLoad.whole(whole) if layer in (1, 2, 31, 32) else LayerLoad(whole, half, half, half)
             for layer in range(1, 33)]  # fmt: skip
    return Ledger.of_layers(whole, loads)


def two_experts() -> Ledger:
    """MoE-LLaVA: two experts of the dense FFN's size in every second layer."""
    rows = Rows(576, 0)
    loads = [LayerLoad(rows, rows, rows, rows, ffn_factor=1.0 + layer % 2) for layer in range(32)]
    return Ledger.of_layers(rows, loads)


@pytest.mark.parametrize(
    ("ledger", "tokens", "giga", "ratio", "mib"),
    [
        (Ledger.of_stages(32, (), (576,), 0), 576, 2986.08, 1.0, 288),
        (Ledger.of_stages(32, (0,), (576, 144), 0), 144, 730.21, 0.2445, 72),
        (Ledger.of_stages(32, (2,), (576, 288), 0), 306, 1565.97, 0.5244, 153),
        (Ledger.of_stages(32, (3,), (576, 230), 0), 262.4, 1341.61, 0.4493, 131.2),
        (Ledger.of_stages(32, (8, 16, 24), (576, 288, 144, 72), 0), 270, 1387.83, 0.4648, 135),
        (Ledger.of_stages(32, (2, 24), (576, 41, 0), 0), 64.19, 328.81, 0.1101, 32.1),
        (half_skipped(0), 324, 1660.64, 0.5561, 162),
        (two_experts(), 576, 3817.15, 1.2783, 288),
    ],
    ids="dense projector fastv fastv-.6 pyramiddrop twig gamma-mod moe".split(),
)
def test_rivals_cost_what_the_specification_computed(
    ledger: Ledger, tokens: float, giga: float, ratio: float, mib: float
) -> None:
    cost = ledger.prefill(SEVEN_B, "eq8")
    assert cost.total / 1e9 == pytest.approx(giga, abs=0.005)
    assert cost.ratio == pytest.approx(ratio, abs=0.00005)
    assert ledger.mean_visual_tokens() == pytest.approx(tokens, abs=0.06)
    assert ledger.kv_bytes(SEVEN_B) / MIB == pytest.approx(mib, abs=0.06)


def test_text_is_counted_where_the_specification_counts_it() -> None:
    """Its r64 column is eq. 8 with text; here text is counted by `swiglu`, so visual tokens stand in for it."""
    with_text = Ledger.of_stages(32, (2,), (576 + 64, 288 + 64), 0)
    assert with_text.prefill(SEVEN_B, "eq8").ratio == pytest.approx(0.5706, abs=0.00005)
    mod = half_skipped(64).prefill(SEVEN_B, "swiglu")
    assert mod.total < Ledger.of_stages(32, (), (576,), 64).prefill(SEVEN_B, "swiglu").total


def test_neighbours_of_equal_load_are_one_group_and_costs_do_not_change() -> None:
    rows = [Rows(64, 10), Rows(64, 10), Rows(32, 10), Rows(16, 10)]
    by_layer = Ledger.of_layers(rows[0], [LayerLoad.whole(one) for one in rows])
    by_stage = Ledger.of_stages(4, (2, 3), (64, 32, 16), 10)
    shape = DecoderShape(96, 192, 4)
    assert by_layer == by_stage
    assert (by_layer.sites, by_layer.visual_tokens) == ((2, 3), (64, 32, 16))
    assert by_layer.decode(shape, "true") == 2 * by_layer.decode(shape, "swiglu")


def test_a_skipped_layer_costs_a_later_token_nothing() -> None:
    rows, nothing = Rows(64, 10), Rows(0, 0)
    skipped = LayerLoad(rows, nothing, nothing, nothing, runs_new=False)
    shape = DecoderShape(96, 192, 2)
    ledger = Ledger.of_layers(rows, [LayerLoad.whole(rows), skipped])
    whole = Ledger.of_stages(1, (), (64,), 10)
    assert ledger.decode(shape, "swiglu") == whole.decode(shape, "swiglu")
    assert ledger.prefill(shape, "swiglu").total == whole.prefill(shape, "swiglu").total
    assert ledger.prefill(shape, "swiglu").dense == 2 * whole.prefill(shape, "swiglu").total
    assert [group.tokens for group in ledger.kv_groups(shape)] == [74, 0]
