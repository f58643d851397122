"""One batch through a decoder in every way that people run it: packed, and padded in three ways.

The padded paths are written to be as fast as padding can be: samples are padded on the right, so causal attention
needs no mask and stays on the fast kernel, and only supervised rows reach lm_head.

Shape letters: B samples, S padded length, T packed tokens, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dpn_model import DpnForConditionalGeneration
from dpn_model.attention.packed import ATTENTION_NAME
from dpn_model.decoder import run_decoder
from dpn_model.methods.contract import Parts, TokenReducer
from dpn_model.methods.dpn.reducer import DynamicPoolingExperts
from dpn_model.methods.pooling.site import Decision
from dpn_model.methods.probe import Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.packing import PackedSequence


class ToldExperts(nn.Module):
    """Routers that decide as always, and are then told the route: the same work, on routes that every path shares."""

    def __init__(self, site: DynamicPoolingExperts, experts: tuple[int, ...]) -> None:
        super().__init__()
        self.site = site
        decide = site.decide

        def told(*args: Any) -> Decision:
            return replace(decide(*args), experts=experts)

        site.decide = told  # type: ignore[method-assign]

    looks: frozenset[str] = frozenset()

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """As `TokenReducer`."""
        result: tuple[PackedSequence, ReductionRecord] = self.site(state, probe)
        return result


@dataclass
class Case:
    """A model, a packed batch of embeddings whose last rows of every sample are supervised, and reducers per layer."""

    model: DpnForConditionalGeneration
    state: PackedSequence
    reducers: dict[int, TokenReducer]
    answer_tokens: int

    @property
    def decoder(self) -> Any:
        """The base's language model."""
        return self.model.model.language_model

    def loss(self, rows_BAD: Tensor) -> Tensor:
        """Cross entropy of float[B, A, D] rows against arbitrary targets."""
        logits = self.model.lm_head(rows_BAD.flatten(0, 1)).float()
        return cross_entropy(logits, torch.arange(len(logits), device=logits.device) % logits.shape[1])


def packed(case: Case, reducers: dict[int, TokenReducer]) -> tuple[Tensor, list[ReductionRecord]]:
    """The project's own way; without `reducers`, dense."""
    case.decoder.config._attn_implementation = ATTENTION_NAME
    done = run_decoder(case.decoder, case.state, Parts(dict(reducers)))
    final, records = done.final, list(done.reductions)
    ends_B = torch.tensor(final.lengths, device=final.hidden_TD.device).cumsum(0)
    rows_BA = ends_B[:, None] + torch.arange(-case.answer_tokens, 0, device=ends_B.device)
    return case.loss(final.hidden_TD[rows_BA]), records


def padded(case: Case, reducers: dict[int, TokenReducer], *, shrinks: bool) -> Tensor:
    """Right-padded rows through the same layers.

    Args:
        case: the batch.
        reducers: per layer; without any, the dense model.
        shrinks: after a reduction pad to the longest sample that is left; otherwise back to the length before, as the
            authors' training code does.
    """
    case.decoder.config._attn_implementation = "sdpa"
    state, width = case.state, max(case.state.lengths)
    hidden_BSD = _pad(state, width)
    arguments = _arguments(case.decoder, hidden_BSD)
    for number, layer in enumerate(case.decoder.layers, start=1):
        hidden_BSD = layer(hidden_BSD, **arguments)
        if number in reducers:
            state, _ = reducers[number](state.with_hidden(_unpad(hidden_BSD, state)), Probe(number, state, None, None))
            width = max(state.lengths) if shrinks else width
            hidden_BSD = _pad(state, width)
            arguments = _arguments(case.decoder, hidden_BSD)
    ends_B = torch.tensor(state.lengths, device=hidden_BSD.device)
    columns_BA = ends_B[:, None] + torch.arange(-case.answer_tokens, 0, device=ends_B.device)
    samples_B1 = torch.arange(len(ends_B), device=ends_B.device)[:, None]
    return case.loss(case.decoder.norm(hidden_BSD)[samples_B1, columns_BA])


def _arguments(decoder: Any, hidden_BSD: Tensor) -> dict[str, Any]:
    row_1s = torch.arange(hidden_BSD.shape[1], device=hidden_BSD.device)[None]
    return {
        "position_ids": row_1s,
        "position_embeddings": decoder.rotary_emb(hidden_BSD, position_ids=row_1s),
        "attention_mask": None,
    }


def _pad(state: PackedSequence, width: int) -> Tensor:
    parts = state.hidden_TD.split(list(state.lengths))
    return torch.stack([nn.functional.pad(part, (0, 0, 0, width - len(part))) for part in parts])


def _unpad(hidden_BSD: Tensor, state: PackedSequence) -> Tensor:
    return torch.cat([row[:length] for row, length in zip(hidden_BSD, state.lengths, strict=True)])
