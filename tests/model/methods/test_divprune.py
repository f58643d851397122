"""DivPrune against the specification's vector and a plain reading of the authors' loop."""

from __future__ import annotations

import pytest
import torch

from dpn_model import Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.diverse import cosines
from dpn_model.methods.divprune.selector import farthest
from dpn_model.methods.registry import find_method
from tests.model.test_picture_sizes import IMAGE, llava, pair

ROWS = [[1, 0], [0.9, 0.1], [0, 1], [-1, 0], [0.7, 0.7], [0.05, -1]]


def test_the_specifications_picks() -> None:
    distance = 1 - cosines(torch.tensor(ROWS)[None])
    assert farthest(distance, 4).tolist() == [[3, 0, 2, 5]]
    nearest = distance[0].topk(2, dim=0, largest=False).values[1]
    assert nearest[3] == pytest.approx(1.0)
    assert nearest.argmax() == 3


def picks_one_by_one(tokens: torch.Tensor, count: int) -> list[int]:
    distance = (1 - torch.cosine_similarity(tokens[:, None], tokens[None], dim=-1)).fill_diagonal_(0).tolist()
    numbers = range(len(distance))
    chosen = [max(numbers, key=lambda one: sorted(distance[one])[1])]
    while len(chosen) < count:
        left = [one for one in numbers if one not in chosen]
        chosen.append(max(left, key=lambda one: min(distance[one][other] for other in chosen)))
    return chosen


def test_pictures_side_by_side_are_chosen_as_one_by_one() -> None:
    tokens = torch.randn(3, 40, 7, generator=torch.Generator().manual_seed(0))
    together = farthest(1 - cosines(tokens), 15)
    assert together.tolist() == [picks_one_by_one(one, 15) for one in tokens]


def test_equal_tokens_are_all_taken_in_the_end_and_the_first_of_them_first() -> None:
    same = torch.ones(1, 5, 4)
    assert farthest(1 - cosines(same), 5).tolist() == [[0, 1, 2, 3, 4]]
    assert farthest(1 - cosines(same[:, :1]), 1).tolist() == [[0]]


@torch.no_grad()
def test_patches_are_chosen_where_a_base_keeps_its_class_token_and_pictures_differ_in_size() -> None:
    _, ours = pair(llava("clip", "full"))
    ours.configure_method(Method("divprune", keep=0.5))
    pictures = [torch.randn(3, 8, 16), torch.randn(3, 24, 20), torch.randn(3, 16, 16)]
    ids = torch.tensor([[5, *(token for patches in (8, 30, 16) for token in [*[IMAGE] * (patches + 1), 6])]])
    seen = []
    ours.selector.register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    routing = ours(ids, pixel_values=pictures).routing
    assert routing.visual_tokens_per_stage(0) == (54, 27)
    assert routing.route(0) == ("4+15+8",)
    encoded = ours.image_side.encode(ours.model, pictures, {}).split([9, 31, 17])
    tokens = torch.cat([one[1:] for one in encoded])
    torch.testing.assert_close(seen[0][0], tokens)
    for rows, own in zip(seen[0][1], tokens.split([8, 30, 16]), strict=True):
        assert rows.windows[:, 0].tolist() == sorted(picks_one_by_one(own, len(own) // 2))


def test_the_plan_bills_the_cosines_between_all_tokens() -> None:
    shape = base_shape("llava-1.5-7b")
    planned = find_method("divprune").plan(Method("divprune", keep=64), shape, 64)
    assert planned.cheapest == planned.dearest
    assert planned.cheapest.visual_tokens == (64,)
    assert planned.cheapest.macs == {"selector": 576**2 * 4096}
    assert planned.cheapest.prefill(shape.decoder, "eq8").total == pytest.approx(323.20e9, rel=2e-5)
