"""LLaVA-Mini: the compressor, and words that take in the picture (arXiv 2501.03895; spec peer-methods 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import base_shape
from dpn_model.cost.flops import layer_macs
from dpn_model.layers import layer_arguments
from dpn_model.methods.llava_mini.compressor import Compressor
from dpn_model.methods.llava_mini.parts import rows_alone
from dpn_model.methods.llava_mini.spec import SPEC, LlavaMiniSettings
from dpn_model.methods.projecting.layers import resized, sines_and_cosines
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from tests.model.conftest import picture

Batch = dict[str, Tensor]
MakeBatch = Callable[..., Batch]


@pytest.fixture
def answered(processor: DpnProcessor) -> MakeBatch:
    """A question of two turns about picture `seed`, with placeholders for what the projector gives."""
    ours = DpnProcessor(processor.tokenizer, image_size=96, tokens_per_image=65, template="short")

    def build(seed: int = 0) -> Batch:
        turns = [("<image>\nis there a red circle ?", "yes"), ("what colour is it", "red")]
        batch = ours.collate([ours.encode_training(turns, [picture(seed)], router=False)])
        return batch | {"pixel_values": normalise(batch["pixel_values"])}

    return build


def test_the_bill_of_the_papers_model() -> None:
    shape = base_shape("llava-1.5-7b")
    ledger = SPEC.plan(LlavaMiniSettings(), shape, 64).dearest
    alone = SPEC.plan(LlavaMiniSettings(), shape, 0).dearest
    fused = 4 * layer_macs(576, shape.decoder, "eq8")
    assert round((alone.prefill(shape.decoder, "eq8").total + fused) / 1e9, 2) == 378.29  # spec peer-methods 1
    assert ledger.visual_tokens[-1] == 1
    assert ledger.macs["prefusion"] == 4 * layer_macs(577 + 64, shape.decoder, "swiglu")
    attention = 2 * 577 * 1024**2 + 2 * 576 * 1024
    assert ledger.macs["projector"] == attention + 577 * (1024 * 4096 + 4096**2)


@torch.no_grad()
def test_the_compressor_is_pytorchs_cross_attention() -> None:
    ours, theirs = Compressor(32, 2), nn.MultiheadAttention(32, 8, batch_first=True)
    ours.reset_parameters()
    own = ours.attention
    theirs.in_proj_weight.copy_(torch.cat([one.weight for one in (own.query, own.key, own.value)]))
    theirs.out_proj.weight.copy_(own.out.weight)
    features, positions = torch.randn(3, 20, 32), sines_and_cosines(2, 2, 32)
    keys, query = ours.norm_keys(features), ours.norm_queries(ours.query_QC) + positions
    spread = resized(positions[None], (2, 2), (4, 5), "bicubic")
    expected, _ = theirs(query.expand(3, -1, -1), keys + spread, keys)
    torch.testing.assert_close(ours(features, 4, 5), expected, atol=1e-6, rtol=1e-5)


def entered(model: DpnForConditionalGeneration, batch: Batch) -> tuple[Any, Any]:
    """The batch in front of the fusion and behind it."""
    seen: list[Any] = []
    handle = model.parts.reducers[0].register_forward_hook(lambda module, given, out: seen.append((given[0], out[0])))
    model(**batch)
    handle.remove()
    return seen[0]


@torch.no_grad()
def test_words_are_fused_and_answers_are_not(model: DpnForConditionalGeneration, answered: MakeBatch) -> None:
    model.configure_method({"name": "llava_mini"})
    batch = answered()
    before, after = entered(model, batch)
    _, other = entered(model, answered(seed=1))
    first = int((batch["labels"][0] != -100).nonzero()[0])
    is_word = after.token_index_T < first
    is_text = after.kind_T != 1
    text_before = before.hidden_TD[before.kind_T != 1]
    moved = (after.hidden_TD[is_text] - text_before).abs().amax(dim=1) > 0
    assert moved.tolist() == is_word[is_text].tolist()
    apart = (after.hidden_TD - other.hidden_TD).abs().amax(dim=1) > 0  # another picture: all but the answers differ
    assert apart.tolist() == (is_word | ~is_text).tolist()
    assert [(image.height, image.width) for image in after.images] == [(1, 1)]


@torch.no_grad()
def test_the_fusion_is_the_decoders_first_layers_over_picture_and_words(
    model: DpnForConditionalGeneration, answered: MakeBatch
) -> None:
    model.configure_method({"name": "llava_mini", "depth": 3})
    batch = answered()
    before, after = entered(model, batch)
    words = torch.arange(len(before.hidden_TD))[: int((batch["labels"][0] != -100).nonzero()[0])]
    words = words[before.kind_T[words] != 1]
    rows = torch.cat([before.hidden_TD[before.kind_T == 1], before.hidden_TD[words]])
    theirs = model.model.language_model
    kept, theirs.layers = theirs.layers, theirs.layers[:3]
    state = rows_alone(before, rows, (len(rows),))
    hidden = rows[None]
    for layer, arguments in zip(theirs.layers, layer_arguments(theirs, state, None), strict=True):
        hidden = layer(hidden, **arguments)
    theirs.layers = kept
    torch.testing.assert_close(after.hidden_TD[after.kind_T == 1], hidden[0, 64:65])
    is_word = torch.isin(after.token_index_T, before.token_index_T[words])
    torch.testing.assert_close(after.hidden_TD[is_word], hidden[0, 65:])


@pytest.mark.parametrize(("wrong", "line"), [({"depth": 9}, "allowed: 1 to 8"), ({"side": 0}, "it must be 1 or above")])
def test_what_is_refused(model: DpnForConditionalGeneration, wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        SPEC.plan(LlavaMiniSettings(**wrong), model.model_shape, 0)
    with pytest.raises(ValueError, match=line):
        model.configure_method({"name": "llava_mini", **wrong})


def test_a_base_that_shows_no_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="which this base does not show"):
        LlavaMiniSettings().sizes(None)
