"""DART: turns of the pivots by hand, pivots by the size of their keys, numbers as they really are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.methods.dart.reducer import chosen
from dpn_model.methods.dart.spec import DartSettings
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from tests.model.conftest import picture

MakeBatch = Callable[..., dict[str, Tensor]]
LIKENESS = np.array([[1, 0.5, 0.2, 0.2, 0.9, 0.1], [0.3, 0.0, 0.4, 0.1, 0.8, 0.9]])


def test_turns_by_hand() -> None:
    """Row 0 is a visual pivot and brings 5 and 2, the first of two equally unlike; the text pivot brings 1."""
    assert chosen(LIKENESS, np.array([0, 9]), 1, 3).tolist() == [0, 1, 2, 5]
    assert chosen(LIKENESS, np.array([0, 9]), 1, 5).tolist() == [0, 1, 2, 3, 4, 5]
    assert chosen(LIKENESS, np.array([0, 9]), 1, 0).tolist() == [0]


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"keep": 128}, (4, 128)),
        ({"keep": 130}, (4, 128)),
        ({"keep": 128, "count": "exact"}, (4, 124)),
        ({"keep": 3, "count": "exact"}, (3, 0)),
        ({"keep": 3}, (4, 0)),
        ({"keep": 1.0}, (4, 572)),
    ],
)
def test_counts_of_576(settings: dict[str, Any], counts: tuple[int, int]) -> None:
    assert DartSettings(**settings).counts(576) == counts


@torch.no_grad()
def test_pivots_have_the_largest_keys(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    """With pivots alone, what is left are the visual tokens whose keys in layer 2 are largest."""
    model.configure_method(Method("dart", keep=3, visual_pivots=5))
    batch = prompt_batch(["is there a red circle ?"], router=False)
    seen: list[Any] = []
    model.parts.reducers[2].register_forward_hook(lambda module, given, out: seen.append((*given, out[0])))
    model(**batch)
    state, probe, after = seen[0]
    start = state.images[0].start
    size = probe.queries_keys()[1].abs().sum(dim=(1, 2))[start : start + 64]
    kept = after.token_index_T[after.images[0].start :][:5] - start
    assert kept.tolist() == sorted(size.topk(5).indices.tolist())
    assert after.position_ids_T[after.images[0].start :][:5].tolist() == (kept + start).tolist()
    assert probe.macs == (0,), "keys are there already; likeness is the reducer's"


@torch.no_grad()
def test_likeness_is_billed(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method(Method("dart"))
    assert model(**prompt_batch(["is it"])).routing.ledger(0).macs["likeness"] == 8 * 64 * 96


@torch.no_grad()
def test_answers_choose_nothing_in_training(model: DpnForConditionalGeneration, processor: DpnProcessor) -> None:
    model.configure_method(Method("dart", keep=9, count="exact"))
    kept = []
    model.parts.reducers[2].register_forward_hook(lambda module, given, out: kept.append(out[0].token_index_T))
    for answer in ("yes", "no blue two"):
        sample = processor.encode_training([("<image>\nis there ?", answer)], [picture(0)], router=False)
        batch = processor.collate([sample])
        model(**batch | {"pixel_values": normalise(batch["pixel_values"])})
    assert kept[0].tolist() == kept[1].tolist()[: len(kept[0])]
