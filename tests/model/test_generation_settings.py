"""Settings of generation that a packed cache cannot serve are refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dpn_model import DpnForConditionalGeneration

MakeBatch = Callable[..., dict[str, torch.Tensor]]
QUESTIONS = ["is there a red circle ?", "is it"]


def test_strategies_caches_and_kept_logits(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    batch = prompt_batch(QUESTIONS)
    with pytest.raises(ValueError, match="prompt_lookup_num_tokens is set; allowed strategies"):
        model.generate(**batch, prompt_lookup_num_tokens=2)
    with pytest.raises(ValueError, match="past_key_values is a DynamicCache; allowed: PackedCache"):
        model.generate(**batch, past_key_values=type("DynamicCache", (), {"get_seq_length": lambda self: 0})())
    with pytest.raises(ValueError, match="logits_to_keep = 0; allowed: 1 to"):
        model(**batch, logits_to_keep=0)
