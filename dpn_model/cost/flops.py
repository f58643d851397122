"""Cost of the decoder from the token counts that really ran. Every figure names its convention.

`eq8`: the paper's, multiply-accumulates of visual tokens only, two FFN matrices: F(n) = 4nd² + 2n²d + 2ndm.
`swiglu`: multiply-accumulates of the decoder with all tokens and LLaMA's three FFN matrices.
`true`: floating-point operations, two for every multiply-accumulate of `swiglu`.
Attention is counted as the full n² square in all three, as the paper and profilers do; a causal kernel computes about
half of it. None counts embeddings, norms, softmax or rotary tables. What else a forward pass costs (vision tower,
projector, router, lm_head, KV cache) is in `cost.py`. A ratio's denominator is the same sample without any reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

Convention = Literal["eq8", "swiglu", "true"]
#: those that count multiply-accumulates
MAC_CONVENTIONS: tuple[Convention, ...] = ("eq8", "swiglu")
CONVENTIONS: tuple[Convention, ...] = (*MAC_CONVENTIONS, "true")
_FFN_MATRICES = {"eq8": 2, "swiglu": 3, "true": 3}
#: operations counted for one multiply-accumulate
UNITS_PER_MAC = {"eq8": 1, "swiglu": 1, "true": 2}


@dataclass(frozen=True)
class DecoderShape:
    """d, m and I of the decoder.

    Attributes:
        query_size, kv_size: heads x head width of the queries, and of the keys (or values); None: d, as in LLaMA-2.
            `eq8` knows no grouped queries and takes d.
        vocab_size: outputs of lm_head.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    query_size: int | None = None
    kv_size: int | None = None
    vocab_size: int = 0

    @classmethod
    def from_config(cls, text_config: Any) -> DecoderShape:
        """Shape of a decoder's configuration: one of transformers, or plain data with the same attributes."""
        num_heads = text_config.num_attention_heads
        head_size = getattr(text_config, "head_dim", None) or text_config.hidden_size // num_heads
        num_kv_heads = getattr(text_config, "num_key_value_heads", None) or num_heads
        return cls(
            text_config.hidden_size,
            text_config.intermediate_size,
            text_config.num_hidden_layers,
            num_heads * head_size,
            num_kv_heads * head_size,
            text_config.vocab_size,
        )

    @property
    def kv_width(self) -> int:
        """Width of one token's keys in one layer."""
        return self.hidden_size if self.kv_size is None else self.kv_size


@dataclass(frozen=True)
class SampleCost:
    """Cost of one sample's prefill, with and without reduction, in the unit of one convention."""

    total: int
    dense: int

    @property
    def ratio(self) -> float:
        """total / dense; 1.0 where nothing is counted (a text-only sample under eq8)."""
        return self.total / self.dense if self.dense else 1.0


class TokenCounts(Protocol):
    """What the account reads of a forward pass (`RoutingReport` is one)."""

    @property
    def num_samples(self) -> int:
        """B."""

    @property
    def sites(self) -> tuple[int, ...]:
        """1-based layers after which a reduction ran."""

    @property
    def text_tokens(self) -> tuple[int, ...]:
        """Tokens per sample that are not visual."""

    def visual_tokens_per_stage(self, sample: int) -> tuple[int, ...]:
        """Visual tokens of one sample before the first site and after each."""


def layer_macs(num_tokens: int, shape: DecoderShape, convention: Convention) -> int:
    """F(n) of eq. 8 for one layer, in the convention's unit and with its number of FFN matrices."""
    per_token, per_pair = _layer_terms(shape, convention)
    return per_token * num_tokens + per_pair * num_tokens**2


def _layer_terms(shape: DecoderShape, convention: Convention) -> tuple[int, int]:
    """Cost of one layer per token, and per pair of a query and a key (scores and weighted sum)."""
    if convention not in _FFN_MATRICES:
        raise ValueError(f"convention = {convention!r}; allowed: {', '.join(CONVENTIONS)}")
    d, m = shape.hidden_size, shape.intermediate_size
    query, kv = (d, d) if convention == "eq8" else (shape.query_size or d, shape.kv_width)
    unit = UNITS_PER_MAC[convention]
    return unit * (2 * d * (query + kv) + _FFN_MATRICES[convention] * d * m), unit * 2 * query


def layers_per_stage(num_layers: int, sites: Sequence[int]) -> list[int]:
    """Layers before the first site, between sites, and after the last."""
    return [last - first for first, last in pairwise((0, *sites, num_layers))]


def stage_tokens(visual_tokens: Sequence[int], text_tokens: int, convention: Convention) -> list[int]:
    """Tokens per stage that the convention counts: `eq8` leaves text out."""
    return [v + (0 if convention == "eq8" else text_tokens) for v in visual_tokens]


def sample_cost(
    shape: DecoderShape,
    sites: Sequence[int],
    visual_tokens: Sequence[int],
    text_tokens: int,
    convention: Convention,
) -> SampleCost:
    """Cost of one sample's prefill.

    Args:
        shape: of the decoder.
        sites: 1-based layers after which a reduction ran, ascending.
        visual_tokens: before the first site and after each (len(sites) + 1).
        text_tokens: all other tokens; left out under `eq8`.
        convention: one of `CONVENTIONS`.

    Raises:
        ValueError: unknown convention, or a wrong number of `visual_tokens`.
    """
    tokens = stage_tokens(visual_tokens, text_tokens, convention)
    stages = zip(layers_per_stage(shape.num_layers, sites), tokens, strict=True)
    total = sum(layers * layer_macs(n, shape, convention) for layers, n in stages)
    return SampleCost(total, shape.num_layers * layer_macs(tokens[0], shape, convention))


def decode_cost(
    shape: DecoderShape,
    sites: Sequence[int],
    visual_tokens: Sequence[int],
    text_tokens: int,
    convention: Convention,
) -> int:
    """Cost of the first generated token in the decoder, without lm_head (peer-methods 1, rule 4).

    In every layer it attends to what that layer has cached and to itself. Arguments as in `sample_cost`.
    """
    per_token, per_pair = _layer_terms(shape, convention)
    tokens = stage_tokens(visual_tokens, text_tokens, convention)
    stages = zip(layers_per_stage(shape.num_layers, sites), tokens, strict=True)
    return sum(layers * (per_token + per_pair * (cached + 1)) for layers, cached in stages)


def routing_costs(shape: DecoderShape, routing: TokenCounts, convention: Convention) -> list[SampleCost]:
    """Cost of every sample's prefill in a forward pass."""
    return [
        sample_cost(
            shape, routing.sites, routing.visual_tokens_per_stage(sample), routing.text_tokens[sample], convention
        )
        for sample in range(routing.num_samples)
    ]


def mean_visual_tokens(shape: DecoderShape, routing: TokenCounts, sample: int) -> float:
    """Visual tokens of one sample, averaged over the decoder's layers."""
    return mean_over_layers(shape, routing.sites, routing.visual_tokens_per_stage(sample))


def mean_over_layers(shape: DecoderShape, sites: Sequence[int], visual_tokens: Sequence[int]) -> float:
    """Mean over the decoder's layers of tokens given per stage."""
    stages = zip(layers_per_stage(shape.num_layers, sites), visual_tokens, strict=True)
    return sum(layers * tokens for layers, tokens in stages) / shape.num_layers
