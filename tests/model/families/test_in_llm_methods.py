"""Methods that rank between layers, on every family: several grids, newlines, multimodal positions, late injections."""

from __future__ import annotations

import pytest
import torch

from dpn_model import Method

METHODS = [
    Method("fastv", sites=[1]),
    Method("pyramiddrop", sites=[1]),
    Method("sparsevlm", sites=[1, 2, 3]),
    Method("hidrop", inject=1, sites=[2], exit=3),
    Method("hidrop", inject=1, sites=[2], exit=3, positions="contiguous"),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}, {method.positions}")
def test_samples_do_not_depend_on_their_batch_and_training_runs(family, method) -> None:
    _, ours = family.pair()
    ours.configure_method(method)
    ours.eval()
    batch = family.batch()
    with torch.no_grad():
        out = ours(**batch)
        for row, sample in enumerate(family.samples()):
            alone = ours(**sample)
            torch.testing.assert_close(alone.logits[0], out.logits[row], atol=2e-5, rtol=1e-5)
            assert alone.routing.ledger(0).stages == out.routing.ledger(row).stages
        ours.generate(**batch, max_new_tokens=2, do_sample=False, eos_token_id=99, pad_token_id=0)
    labels = batch["input_ids"].clone()
    labels[:, :-3] = -100
    loss = ours.train()(**batch, labels=labels).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_only_turned_pairs_can_be_corrected(family_of) -> None:
    _, ours = family_of("qwen2_vl").pair()
    with pytest.raises(ValueError, match="rope_correction = true: this base has multimodal positions"):
        ours.configure_method(Method("sparsevlm", version="v2", sites=[1, 2, 3]))
