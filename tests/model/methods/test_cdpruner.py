"""CDPruner against the specification's vector, a plain reading of its objective, and its code's known defects."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.methods.cdpruner.selector import greedy_mode, scaled
from dpn_model.methods.diverse import cosines
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from tests.model.conftest import picture
from tests.model.methods.test_divprune import ROWS


def test_the_specifications_picks() -> None:
    similarity = cosines(torch.tensor(ROWS)[None])
    assert greedy_mode(similarity, 2).tolist() == [[0, 2]]
    relevance = torch.tensor([[1, 0.9, 0.5, 0.2, 0.8, 0.3]])
    assert greedy_mode(relevance[:, :, None] * similarity * relevance[:, None], 2).tolist() == [[0, 4]]


def test_every_pick_adds_most_to_the_determinant() -> None:
    generator = torch.Generator().manual_seed(0)
    relevance = torch.rand(2, 20, generator=generator)
    kernels = relevance[:, :, None] * cosines(torch.randn(2, 20, 30, generator=generator)) * relevance[:, None]
    for kernel, found in zip(kernels.double(), greedy_mode(kernels, 8).tolist(), strict=True):
        chosen: list[int] = []
        while len(chosen) < 8:
            left = [one for one in range(20) if one not in chosen]
            chosen.append(max(left, key=lambda one: kernel[[*chosen, one]][:, [*chosen, one]].det().item()))
        assert found == chosen


def test_tokens_that_add_nothing_come_last() -> None:
    """Where tokens repeat, the authors divide by what rounding leaves."""
    repeated = torch.eye(3).repeat(1, 4, 1)
    assert greedy_mode(cosines(repeated), 12).tolist() == [[0, 1, 2, *range(3, 12)]]


def test_relevance_is_scaled_picture_by_picture() -> None:
    """The authors' code takes least and most over the batch."""
    both = scaled(torch.tensor([[0.1, 0.2, 0.3], [10.0, 30.0, 20.0]]))
    torch.testing.assert_close(both, torch.tensor([[0, 0.5, 1], [0, 1, 0.5]]), atol=1e-5, rtol=0)
    assert both.gt(0).all()
    assert scaled(torch.ones(1, 3)).tolist() == [[1, 1, 1]]
    torch.testing.assert_close(
        scaled(torch.tensor([[0.0, 1.0]]), 0.5), torch.tensor([[0.0, 0.5]]).exp(), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_the_question_decides_and_neither_answers_nor_later_turns_do(
    model: DpnForConditionalGeneration, processor: DpnProcessor
) -> None:
    model.configure_method(Method("cdpruner", keep=8))
    seen: list[list[int]] = []
    model.selector.register_forward_hook(lambda module, given, out: seen.append(out[0].windows[:, 0].tolist()))

    def chosen(*turns: tuple[str, str]) -> list[int]:
        batch = processor.collate([processor.encode_training(list(turns), [picture(0)], router=False)])
        model(**batch | {"pixel_values": normalise(batch["pixel_values"])})
        return seen[-1]

    first = chosen(("<image>\nis there a red circle ?", "yes"))
    assert chosen(("<image>\nis there a red circle ?", "no")) == first
    assert chosen(("<image>\nis there a red circle ?", "no"), ("what colour is it", "blue")) == first
    batch = processor.collate([processor.encode_prompt("<image>\nis there a red circle ?", [picture(0)], router=False)])
    del batch["labels"]
    model(**batch | {"pixel_values": normalise(batch["pixel_values"])})
    assert seen[-1] == first
    others = [chosen((f"<image>\n{text}", "yes")) for text in ("what colour", "one two", "is it blue", "no ?")]
    assert any(other != first for other in others)
    model.configure_method(Method("cdpruner", keep=8, relevance="none"))
    model.selector.register_forward_hook(lambda module, given, out: seen.append(out[0].windows[:, 0].tolist()))
    assert chosen(("<image>\nwhat colour", "yes")) == chosen(("<image>\none two", "no"))


def test_a_text_only_batch_in_training_asks_for_no_question(
    model: DpnForConditionalGeneration, training_batch: Callable[..., dict[str, Tensor]]
) -> None:
    model.configure_method(Method("cdpruner"))
    model.train()
    ids = torch.tensor([[3, 9, 10, 11]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(one.grad is not None for one in model.model.multi_modal_projector.parameters())


def test_what_is_weighed_needs_relevance() -> None:
    with pytest.raises(ValueError, match="theta = 0.5 with relevance = none"):
        Method("cdpruner", relevance="none", theta=0.5)
