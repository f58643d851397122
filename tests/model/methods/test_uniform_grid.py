"""The uniform grid: lattices by hand, any number on any grid, no border preferred; random dropping beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.registry import find_method
from dpn_model.methods.uniform_grid.lattice import lattice, rows_of_lattice, spread
from dpn_model.methods.uniform_grid.reducer import kept_lattice
from dpn_model.packing import ImageSpan

MakeBatch = Callable[..., dict[str, Tensor]]


def test_places_by_hand() -> None:
    assert spread(3, 9).tolist() == [1, 4, 7]
    assert spread(4, 8).tolist() == [1, 3, 4, 6], "halves towards the centre"
    assert spread(1, 8).tolist() == [3]
    assert spread(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert spread(3, 4).tolist() == [0, 1, 3]


@pytest.mark.parametrize("length", [1, 2, 5, 8, 24, 25])
def test_places_are_even_and_their_own_mirror_image(length: int) -> None:
    """A single middle of an even length, and the middle one of an odd number there, cannot be its own image."""
    for count in range(1, length + 1):
        places = spread(count, length)
        steps = np.diff(places)
        assert len(set(places.tolist())) == count
        assert count < 3 or steps.max() - steps.min() <= 1, (count, length)
        unmatched = places + places[::-1] != length - 1
        assert unmatched.sum() <= (count % 2 == 1 and length % 2 == 0)


@pytest.mark.parametrize(
    ("count", "rows"), [(576, 24), (288, 16), (192, 12), (144, 12), (128, 8), (64, 8), (36, 6), (1, 1), (58, 8)]
)
def test_rows_of_24x24(count: int, rows: int) -> None:
    assert rows_of_lattice(count, 24, 24) == rows


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 24), (3, 20), (20, 3), (1, 7)])
def test_every_number_is_met_exactly(height: int, width: int) -> None:
    for count in range(1, height * width + 1):
        rows = lattice(count, height, width)
        assert sum(len(columns) for _, columns in rows) == count
        lengths = [len(columns) for _, columns in rows]
        assert max(lengths) - min(lengths) <= 1
        assert all(columns.min() >= 0 and columns.max() < width and row < height for row, columns in rows)


def test_a_true_lattice_is_a_grid_again() -> None:
    kept = kept_lattice(ImageSpan(0, 5, 4, 4), 0.25)
    assert (kept.height, kept.width, kept.is_grid) == (2, 2, True)
    assert kept.windows.flatten().tolist() == [5, 6, 9, 10]
    assert not kept_lattice(ImageSpan(0, 5, 4, 4), 7).is_grid
    newlines = kept_lattice(ImageSpan(0, 0, 2, 2, row_end=1), 2)
    assert newlines.windows.flatten().tolist() == [0, 1, 2]


@torch.no_grad()
def test_what_is_kept_follows_from_places_alone(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method(Method("uniform_grid", keep=16.0))
    seen: list[Tensor] = []
    model.parts.reducers[0].register_forward_hook(lambda module, given, out: seen.append(out[0].token_index_T))
    routing = model(**prompt_batch(["is it", "is there a red circle ?"])).routing
    assert routing.route(0) == ("4x4",)
    start = int((prompt_batch(["is it"])["input_ids"][0] == model.image_token_id).nonzero()[0])
    first = seen[0][(seen[0] >= start) & (seen[0] < start + 64)] - start
    places = spread(4, 8)
    assert first.tolist() == (8 * places[:, None] + places).flatten().tolist()


@pytest.mark.parametrize("name", ["uniform_grid", "random_drop"])
@pytest.mark.parametrize("sites", [(0,), (2,)])
@pytest.mark.parametrize("share", [64 / 576, 192 / 576])
def test_controls_are_found_at_a_budget(name: str, sites: tuple[int, ...], share: float) -> None:
    spec, shape = find_method(name), base_shape("llava-1.5-7b")
    found = at_budget(spec, Method(name, sites=sites), shape, share)
    assert share_of(spec, found, shape) == pytest.approx(share, abs=0.5 / 576)


@torch.no_grad()
def test_random_dropping_in_front_of_the_decoder(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method(Method("random_drop", sites=(0,), keep_ratio=0.25))
    batch = prompt_batch(["is it", "is there a red circle ?"])
    routing = model(**batch).routing
    assert routing.visual_tokens_per_stage(1) == (64, 16)
    assert routing.ledger(1).visual_tokens == (16,)
    generated = model.generate(**batch, max_new_tokens=2, min_new_tokens=2, do_sample=False)
    assert generated.shape[0] == 2
