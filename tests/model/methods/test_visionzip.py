"""VisionZip against the specification's counts and vector, and a plain reading of the authors' steps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dpn_model import Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.contract import Host
from dpn_model.methods.probe import VisionProbe
from dpn_model.methods.registry import find_method
from dpn_model.methods.rows import pick_rows
from dpn_model.methods.visionzip.selector import VisionZip
from dpn_model.methods.visionzip.spec import targets
from dpn_model.packing import ImageSpan
from tests.model.test_picture_sizes import IMAGE, llava, pair


class Shown(VisionProbe):
    """Shows what a test says."""

    def __init__(self, attention_IN: Tensor, keys_IPC: Tensor, tokens_IPC: Tensor) -> None:
        super().__init__(())
        self.shown = attention_IN, keys_IPC, tokens_IPC

    def cls_attention(self, layer: int = -2) -> Tensor:
        return self.shown[0][:, None]

    def keys(self, layer: int = -2) -> Tensor:
        return self.shown[1]

    def level(self, index: int) -> Tensor:
        return self.shown[2]


def selector(width: int, heads: int = 1, **settings: object) -> VisionZip:
    tower = SimpleNamespace(hidden_size=width, num_attention_heads=heads)
    return VisionZip(
        Method("visionzip", **settings), Host(1, 1, SimpleNamespace(vision_config=tower, vision_feature_layer=-2))
    )


@pytest.mark.parametrize(
    ("dominant", "contextual", "remaining", "step", "last"),
    [(54, 10, 523, 52, 468), (108, 20, 469, 23, 437), (162, 30, 415, 13, 377)],
)
def test_the_specifications_counts(dominant: int, contextual: int, remaining: int, step: int, last: int) -> None:
    settings = Method("visionzip", keep=dominant + contextual)
    assert settings.counts(576) == (dominant, contextual)
    assert 577 - dominant == remaining
    found = targets(remaining, contextual)
    assert (found.step, found[-1], len(found)) == (step, last, contextual)


def test_the_specifications_merge() -> None:
    part = selector(2, keep=5, contextual=0.4)
    assert part.settings.counts(6) == (3, 2)
    keys = torch.tensor([[[1, 0], [1, 0], [1, 0], [1, 0.1], [0, 1], [0.2, 1], [0.9, 0.1]]])
    values = 10.0 * torch.arange(7)[None, :, None]
    probe = Shown(torch.tensor([[0.1, 0.5, 0.05, 0.3, 0.02, 0.03]]), keys, values)
    spans = [ImageSpan(0, 0, 2, 3)]
    (rows,) = part(values[0, 1:], spans, probe)
    assert pick_rows(values[0, 1:], spans, [rows]).flatten().tolist() == [0, 20, 40, 55, 50]
    # Patches count from 0; the class token stands at the first one's place.
    assert rows.windows[:, 0].tolist() == [0, 1, 3, 0, 4]
    assert rows.mass.tolist() == [1, 1, 1, 3, 1]


def step_by_step(attention: Tensor, keys: Tensor, tokens: Tensor, dominant: int, contextual: int) -> Tensor:
    """One picture, token by token; keys float[P, N, H] with heads."""
    best = sorted(range(1, len(tokens)), key=lambda one: -attention[one - 1].item())[: dominant - 1]
    kept = [0, *sorted(best)]
    rest = [one for one in range(len(tokens)) if one not in kept]
    at = [rest[place] for place in range(0, len(rest), max(1, len(rest) // contextual))][:contextual]
    metric = torch.nn.functional.normalize(keys.mean(dim=1), dim=-1)
    joined: dict[int, list[int]] = {one: [] for one in at}
    for one in rest:
        if one not in joined:
            joined[max(at, key=lambda target, one=one: (metric[one] @ metric[target]).item())].append(one)
    means = [tokens[one] + (tokens[who].mean(dim=0) if who else 0) for one, who in joined.items()]
    return torch.stack([*tokens[kept], *means])


def test_pictures_side_by_side_are_merged_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    attention, keys, tokens = (torch.randn(shape, generator=generator) for shape in ((2, 30), (2, 31, 8), (2, 31, 8)))
    part = selector(8, heads=2, keep=12, contextual=0.25)
    patches = tokens[:, 1:].flatten(0, 1)
    spans = [ImageSpan(0, 0, 5, 6), ImageSpan(1, 30, 5, 6)]
    found = pick_rows(patches, spans, part(patches, spans, Shown(attention, keys, tokens))).split(12)
    for number in range(2):
        heads = keys[number].unflatten(1, (2, 4))
        torch.testing.assert_close(found[number], step_by_step(attention[number], heads, tokens[number], 9, 3))


@pytest.mark.parametrize("layer", [-1, [-2, -1]], ids=["one layer", "two layers"])
@torch.no_grad()
def test_the_class_token_is_projected_as_patches_are(layer: int | list[int]) -> None:
    _, ours = pair(llava("clip", "default", layer))
    pixels = torch.randn(2, 3, 16, 16)
    hidden = ours.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    class_IC = torch.cat([hidden[one][:, 0] for one in ([layer] if isinstance(layer, int) else layer)], dim=-1)
    expected = ours.model.multi_modal_projector(class_IC)
    ours.configure_method(Method("visionzip", keep=5))
    packed = ours.pack(torch.tensor([[5, *[IMAGE] * 16, 6, *[IMAGE] * 16, 7]]), None, pixels)
    torch.testing.assert_close(packed.state.hidden_TD[[1, 7]], expected)
    assert packed.state.lengths == (13,)
    assert packed.state.weight_T[packed.state.kind_T == 1].sum() > 10


def test_the_plan_bills_tower_selector_and_what_is_projected() -> None:
    shape = base_shape("llava-1.5-7b")
    planned = find_method("visionzip").plan(Method("visionzip", keep=64), shape, 0)
    macs = {"tower": 577 * 1024, "selector": 10 * 513 * (64 + 1024), "projector": 64 * (1024 * 4096 + 4096**2)}
    assert planned.cheapest.macs == macs
    assert planned.cheapest == planned.dearest
    assert planned.cheapest.visual_tokens == (64,)
