"""VScan: windows, picks and merging by hand; no token of the budget is lost; the ledger through both stages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.registry import find_method
from dpn_model.methods.vscan.parts import merged, picks, window_cells
from dpn_model.methods.vscan.spec import VScanSettings
from dpn_model.packing import ImageSpan

MakeBatch = Callable[..., dict[str, Tensor]]
WINDOWS = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_windows_by_hand() -> None:
    assert window_cells(4, 4, 2).tolist() == WINDOWS
    assert window_cells(3, 3, 2).tolist() == [[0, 1, 3, 4], [2, 5, -1, -1], [6, 7, -1, -1], [8, -1, -1, -1]]
    assert window_cells(24, 24, 4).shape == (16, 36)


def test_picks_by_hand() -> None:
    """The local layer likes late patches and takes the last of every window; the global one likes early ones."""
    ramp = torch.arange(16.0)[None] / 16
    kept, dropped = picks(ramp, 1 - ramp, ImageSpan(0, 0, 4, 4), VScanSettings(keep=8, windows=2))
    assert kept.tolist() == [[0, 1, 2, 3, 5, 7, 13, 15]]
    assert dropped.tolist() == [[4, 6, 8, 9, 10, 11, 12, 14]]


@pytest.mark.parametrize("keep", [2, 7, 30, 96, 100, 192, 576])
def test_no_token_is_lost_to_the_windows(keep: int) -> None:
    """T = 96: 3 of each of 16 windows and 48 more. T = 100: still 48 in windows, and 52 more."""
    settings = VScanSettings(keep=keep)
    torch.manual_seed(keep)
    kept, dropped = picks(torch.rand(2, 576), torch.rand(2, 576), ImageSpan(0, 0, 24, 24), settings)
    assert (kept.shape[1], dropped.shape[1]) == (keep, 576 - keep)
    windows = torch.from_numpy(window_cells(24, 24, 4))
    inside = torch.isin(windows, kept[0]).sum(dim=1)
    assert inside.min() >= settings.local_count(576)
    assert (VScanSettings(keep=96).local_count(576), VScanSettings(keep=100).local_count(576)) == (3, 3)


def test_merging_by_hand() -> None:
    rows = merged(np.array([1, 3]), np.array([0, 2, 4]), np.array([0, 1, 0]))
    assert rows.windows.tolist() == [[1, 0, 4], [3, 2, -1]]
    assert rows.weights is not None
    torch.testing.assert_close(rows.weights, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]))
    alone = merged(np.array([0, 1]), np.empty(0, np.int64), np.empty(0, np.int64))
    assert alone.windows.tolist() == [[0], [1]]


@torch.no_grad()
def test_the_ledger_through_both_stages(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method(Method("vscan", keep=24.0, late_keep=8.0, local_layer=1))
    seen: list[Tensor] = []
    model.parts.reducers[4].register_forward_pre_hook(lambda module, given: seen.append(given[0].weight_T))
    batch = prompt_batch(["is it"])
    routing = model(**batch).routing
    ledger = routing.ledger(0)
    assert (ledger.visual_tokens, ledger.sites, routing.route(0)) == ((24, 8), (4,), ("24", "8"))
    assert ledger.mean_visual_tokens() == 16
    assert ledger.macs["selector"] == 40 * 24 * 96
    assert ledger.macs["tower"] == 2 * 65 * 64
    assert seen[0].sum() == batch["attention_mask"].sum(), "nothing is lost, all is merged"


@pytest.mark.parametrize(("keep", "mean"), [(288, 192), (192, 128), (96, 64)])
def test_published_budgets(keep: int, mean: int) -> None:
    shape = base_shape("llava-1.5-7b")
    planned = find_method("vscan").plan(Method("vscan", keep=keep / 576), shape, 40)
    assert planned.cheapest.mean_visual_tokens() == mean


def test_a_tower_with_too_few_layers_is_told(model: DpnForConditionalGeneration) -> None:
    told = "local_layer = 5: the tower has 4; allowed: 0 to 3"
    with pytest.raises(ValueError, match=told):
        model.configure_method(Method("vscan"))
    with pytest.raises(ValueError, match=told):
        find_method("vscan").plan(Method("vscan"), base_shape("tiny"), 40)
    with pytest.raises(ValueError, match="vscan drops once in the decoder"):
        Method("vscan", sites=(2, 3))
