"""Every admitted decoder, with settings that change what it computes, against transformers; all others are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.attention.watch import Watch
from dpn_model.bases.decoders import DECODERS
from dpn_model.cache import PackedCache
from dpn_model.layers import layer_arguments
from dpn_model.look_ahead import look_ahead

#: those of Qwen-VL stand in their own model
IN_LLAVA = [kind for kind in DECODERS if not kind.startswith("qwen") or "_vl" not in kind]
IMAGE = 90
WINDOW = 6  # shorter than a picture
MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
}
WINDOWED = {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": WINDOW}
#: what is not at rest in a family's default configuration
SETTINGS: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.3},
    "gemma2": {"attn_logit_softcapping": None},
    "granite": MULTIPLIERS,
    "granitemoe": MULTIPLIERS,
    "granitemoeshared": MULTIPLIERS,
    "phimoe": {"sliding_window": None},
    "qwen2": WINDOWED,
    "qwen3": WINDOWED,
    "qwen3_moe": WINDOWED,
    "smollm3": WINDOWED | {"layer_types": ["full_attention", "sliding_attention"], "no_rope_layers": [1, 0]},
}
ROPES: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 16},
]  # fmt: skip


def tiny_decoder(kind: str, **settings: Any) -> Any:
    """A configuration of the family with two layers of 32."""
    sizes = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 24, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "sliding_window": WINDOW, "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
        "first_k_dense_replace": 1, "moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1,
    }  # fmt: skip
    kind_of_config = CONFIG_MAPPING[kind]
    known = {name for each in kind_of_config.__mro__ for name in getattr(each, "__annotations__", {})}
    return kind_of_config(**({name: value for name, value in sizes.items() if name in known} | settings))


def llava_pair(text: Any) -> tuple[LlavaForConditionalGeneration, DpnForConditionalGeneration]:
    """transformers' LLaVA on a decoder and ours with its weights; large weights, so that every term shows."""
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                              image_size=16, patch_size=4, projection_dim=16)  # fmt: skip
    base = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=16)
    base._attn_implementation = "eager"
    theirs = LlavaForConditionalGeneration(base).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.15 * noise if parameter.ndim > 1 else parameter + 0.1 * noise)
    ours = DpnForConditionalGeneration(DpnConfig(base_config=theirs.config))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.eval()


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 6, *[IMAGE] * 16, *range(10, 25)]])
    return {"input_ids": ids, "pixel_values": torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))}


@torch.no_grad()
def assert_equal(text: Any) -> None:
    """The prompt at once, and its last three tokens behind a cache."""
    theirs, ours = llava_pair(text)
    whole = inputs()
    expected = theirs(**whole).logits[0, -1]
    assert expected.std() > 0.1  # a decoder of zeros would be equal to anything
    torch.testing.assert_close(ours(**whole).logits[0], expected, atol=1e-5, rtol=1e-5)  # measured 2.1e-6
    cache = PackedCache()
    ours(whole["input_ids"][:, :-3], pixel_values=whole["pixel_values"], past_key_values=cache)
    last = ours(whole["input_ids"][:, -3:], past_key_values=cache).logits[0]
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)  # measured 2.6e-6


@pytest.mark.parametrize("kind", IN_LLAVA)
def test_every_decoder_equals_transformers(kind) -> None:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"the installed transformers has no {kind}")
    assert_equal(tiny_decoder(kind, **SETTINGS.get(kind, {})))


@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope["rope_type"])
def test_every_rope_equals_transformers(rope) -> None:
    assert_equal(tiny_decoder("llama", rope_parameters={"rope_theta": 10000.0} | rope))


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True, "mlp_bias": True},
        {"head_dim": 16},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rms_norm_eps": 0.1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_setting_of_llama_equals_transformers(settings) -> None:
    assert_equal(tiny_decoder("llama", **settings))


@pytest.mark.parametrize("kind", IN_LLAVA)
@torch.no_grad()
def test_looking_ahead_shows_what_the_layer_will_work_with(kind) -> None:
    """Of every decoder, whatever stands between its projections and its attention (norms over a head, or over all)."""
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"the installed transformers has no {kind}")
    _, model = llava_pair(tiny_decoder(kind, **SETTINGS.get(kind, {})))
    language_model, batch = model.model.language_model, inputs()
    state = model.pack(batch["input_ids"], None, batch["pixel_values"]).state
    watch, rows = Watch(1), np.array([3, 20, 30])
    language_model.layers[1](state.hidden_TD[None], **layer_arguments(language_model, state, None, watch)[1])
    whole, _ = look_ahead(language_model, 1, state, None)
    asked, _ = look_ahead(language_model, 1, state, rows)
    assert watch.seen is not None
    for seen in (whole, asked):
        torch.testing.assert_close(seen.key_TNH, watch.seen.key_TNH)
    torch.testing.assert_close(whole.query_TNH, watch.seen.query_TNH)
    queries = asked.query_TNH if asked.query_rows is not None else asked.query_TNH[rows]
    torch.testing.assert_close(queries, watch.seen.query_TNH[rows])


@pytest.mark.parametrize("backend", ["sdpa_buckets", "sdpa_loop"])
def test_a_window_in_a_batch_of_several_lengths(backend) -> None:
    """Neighbours change nothing, whatever the backend; a window longer than all samples is none."""
    _, model = llava_pair(tiny_decoder("mistral"))
    model.set_attention_backend(backend)
    lengths = (30, 29, 11, 4)
    ids = torch.randint(3, 80, (4, 30), generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1] * length + [0] * (30 - length) for length in lengths])
    together = model(ids, mask).logits
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length]).logits[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)  # measured 7e-7
    _, full = llava_pair(tiny_decoder("mistral", sliding_window=None))
    assert (full(ids[:1]).logits - model(ids[:1]).logits).abs().max() > 0.1
    torch.testing.assert_close(full(ids[:1, :6]).logits, model(ids[:1, :6]).logits)


def test_a_window_counts_the_rows_that_a_reduction_leaves() -> None:
    """After 4x4 pooling a picture of 16 tokens is one row, so the first tokens come back into the window of six."""
    _, model = llava_pair(tiny_decoder("mistral", num_hidden_layers=2))
    model.configure_method(Method(name="static", kernel="4x4", sites=(1,)))
    batch = inputs() | {"input_ids": torch.tensor([[5, 6, *[IMAGE] * 16, 10, 11]])}
    other = batch | {"input_ids": torch.tensor([[5, 7, *[IMAGE] * 16, 10, 11]])}
    model.eval()
    assert (model(**batch).logits - model(**other).logits).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("nanochat", {}, r"text_config.model_type = 'nanochat' was not compared"),
        ("gpt_neox", {}, "text_config.model_type = 'gpt_neox' was not compared"),
        ("gpt_oss", {}, "text_config.model_type = 'gpt_oss' was not compared"),
        (
            "gemma2",
            {},
            r"attn_logit_softcapping = 50.0 \(attention scores are soft-capped\); allowed with gemma2: null",
        ),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
        (
            "llama",
            {"rope_parameters": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2.0}},
            "rope_type = 'dynamic'",
        ),
        ("phimoe", {"sliding_window": WINDOW}, "text_config.sliding_window = 6"),
        ("qwen2_moe", WINDOWED, "text_config.use_sliding_window = True"),
        ("qwen2", {"layer_types": ["full_attention", "chunked_attention"]}, "layer_types holds chunked_attention"),
    ],
)
def test_what_is_not_computed_alike_is_refused_by_name(kind, settings, told) -> None:
    base = LlavaConfig(text_config=tiny_decoder(kind, **settings))
    with pytest.raises(ValueError, match=told):
        DpnForConditionalGeneration(DpnConfig(base_config=base))
