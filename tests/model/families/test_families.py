"""More families of transformers' VLMs: dense and 1x1 routes equal theirs, generation too; pooling on their grids."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpn_model import Method
from dpn_model.cache import PackedCache
from dpn_model.cost.flops import layer_macs

IMAGE = 91


@torch.no_grad()
def test_dense_and_1x1_logits_equal_transformers(family) -> None:
    theirs, ours = family.pair()
    expected = [theirs(**family.for_theirs(sample)).logits[0, -1] for sample in family.samples()]
    assert torch.stack(expected).std() > 0.1
    batch = family.batch()
    for method in (Method(name="dense"), Method(name="dpn", sites=(1, 2), experts=("1x1",))):
        ours.configure_method(method)
        ours.eval()
        logits = ours(**batch).logits
        for row, want in enumerate(expected):
            torch.testing.assert_close(logits[row], want, atol=1e-5, rtol=1e-5)  # measured 3.3e-6


@torch.no_grad()
def test_generation_equals_transformers(family) -> None:
    """Greedy, a batch of prompts with and without pictures, and beams.

    Beams are of one tile: releases of transformers before 5.24 mix up several.
    """
    theirs, ours = family.pair()
    kwargs = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": 99, "pad_token_id": 0}
    samples, second = family.samples(), family.pictures[1]
    expected = []
    for sample in (samples[0], samples[2]):
        want = theirs.generate(**family.for_theirs(sample), use_cache=True, **kwargs)
        assert ours.generate(**sample, **kwargs).tolist() == want.tolist()
        expected.append(want[0, -4:].tolist())
    sample = family.inputs([5, *second.ids, 12], [second])
    want = theirs.generate(**family.for_theirs(sample), num_beams=2, use_cache=True, **kwargs)
    assert ours.generate(**sample, num_beams=2, **kwargs).tolist() == want.tolist()
    together = ours.generate(**family.batch(), **kwargs)[:, -4:]
    assert [together[0].tolist(), together[2].tolist()] == expected


@pytest.mark.parametrize("site", [1, 3])
@torch.no_grad()
def test_pooling_counts_the_tokens_of_every_grid(family, site) -> None:
    """A sample's answer does not depend on its batch, tokens and FLOPs are those of the pooled grids."""
    _, ours = family.pair()
    ours.configure_method(Method(name="static", kernel="2x2", sites=(site,)))
    out = ours.eval()(**family.batch())
    first, second = family.pictures
    tokens = [first.tokens(), 0, first.tokens() + second.tokens()]
    pooled = [first.tokens((2, 2)), 0, first.tokens((2, 2)) + second.tokens((2, 2))]
    assert out.routing.visual_tokens == tuple(tokens)
    for row, sample in enumerate(family.samples()):
        assert out.routing.visual_tokens_per_stage(row) == (tokens[row], pooled[row])
        assert out.routing.text_tokens[row] == sample["input_ids"].shape[1] - tokens[row]
        cost = out.routing.prefill_cost(row, "eq8")
        layer = [layer_macs(n, ours.model_shape.decoder, "eq8") for n in (tokens[row], pooled[row])]
        assert (cost.total, cost.dense) == (site * layer[0] + (4 - site) * layer[1], 4 * layer[0])
        torch.testing.assert_close(ours(**sample).logits[0], out.logits[row], atol=1e-5, rtol=1e-5)  # measured 1.4e-6


def test_towers_are_billed_as_they_run_or_not_at_all(family) -> None:
    """Two pictures of one sample against torch's counter; Qwen-VL's tower has no account, and says so."""
    _, ours = family.pair()
    sample = family.samples()[2]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        routing = ours(**sample).routing
    if family.kind.startswith("qwen"):
        with pytest.raises(ValueError, match="this base's vision tower has no account"):
            routing.cost(0)
        return
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    decoder = sum(number for name, number in flops.items() if re.search(r"(language|text)_model\.layers\.\d$", name))
    cost = routing.cost(0, "true")
    assert (cost.prefill, cost.lm_head) == (decoder, flops["DpnForConditionalGeneration.lm_head"])
    # Transformers before 5.24 multiplies matrices for the decoder's rotary tables, which nobody bills.
    tables = sum(number for name, number in flops.items() if re.search(r"(language|text)_model\.rotary_emb$", name))
    assert cost.vision + cost.projector == flops["Global"] - decoder - tables - cost.lm_head


def test_decoding_continues_behind_pooled_pictures(family) -> None:
    _, ours = family.pair()
    ours.configure_method(Method(name="static", kernel="2x2", sites=(1,), positions="keep"))
    ours.eval()
    sample = family.samples()[2]
    cache = PackedCache()
    ours(**sample, past_key_values=cache)
    behind = ours(torch.tensor([[20]]), past_key_values=cache).logits
    whole = sample | {"input_ids": torch.cat([sample["input_ids"], torch.tensor([[20]])], dim=1)}
    torch.testing.assert_close(behind, ours(**whole).logits, atol=1e-5, rtol=1e-5)  # measured 2.1e-6


def test_training_reaches_every_weight_with_and_without_pictures(family) -> None:
    _, ours = family.pair()
    ours.configure_method(Method(name="dpn", sites=(1,)))
    ours.train()
    for batch in (family.batch(), family.samples()[1]):
        ours.zero_grad()
        loss = ours(**batch, labels=batch["input_ids"].masked_fill(batch["input_ids"] > 20, -100)).loss
        loss.backward()
        idle = [name for name, parameter in ours.named_parameters() if parameter.grad is None]
        # What stands behind the feature layer has no part in the features.
        assert not [name for name in idle if "post_layernorm" not in name and ".layers.1." not in name], idle
