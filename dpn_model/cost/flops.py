"""What one layer of a decoder costs. Every figure names its convention.

`eq8`: the paper's, multiply-accumulates of visual tokens only, two FFN matrices: F(n) = 4nd² + 2n²d + 2ndm.
`swiglu`: multiply-accumulates of the decoder with all tokens and LLaMA's three FFN matrices.
`true`: floating-point operations, two for every multiply-accumulate of `swiglu`.
Attention is counted as the full n² square in all three, as the paper and profilers do; a causal kernel computes about
half of it. None counts embeddings, norms, softmax or rotary tables. What else a forward pass costs (vision tower,
projector, router, lm_head, KV cache) is in `bill.py`. A ratio's denominator is the same sample without any reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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
        num_heads: of the queries; 0 where nobody has said.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    query_size: int | None = None
    kv_size: int | None = None
    vocab_size: int = 0
    num_heads: int = 0

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
            num_heads,
        )

    @property
    def kv_width(self) -> int:
        """Width of one token's keys in one layer."""
        return self.hidden_size if self.kv_size is None else self.kv_size


class LayerTerms(NamedTuple):
    """Cost of one layer, in the convention's unit.

    Attributes:
        projections: of queries, keys, values and output, per row.
        ffn: per row.
        pair: per pair of a query and a key (scores and weighted sum).
    """

    projections: int
    ffn: int
    pair: int


def layer_terms(shape: DecoderShape, convention: Convention) -> LayerTerms:
    """The terms that F(n) of eq. 8 is made of, with the convention's number of FFN matrices.

    Raises:
        ValueError: unknown convention.
    """
    if convention not in _FFN_MATRICES:
        raise ValueError(f"convention = {convention!r}; allowed: {', '.join(CONVENTIONS)}")
    d, m = shape.hidden_size, shape.intermediate_size
    query, kv = (d, d) if convention == "eq8" else (shape.query_size or d, shape.kv_width)
    unit = UNITS_PER_MAC[convention]
    return LayerTerms(unit * 2 * d * (query + kv), unit * _FFN_MATRICES[convention] * d * m, unit * 2 * query)


def layer_macs(num_tokens: int, shape: DecoderShape, convention: Convention) -> int:
    """F(n) of eq. 8 for one layer, in the convention's unit and with its number of FFN matrices."""
    terms = layer_terms(shape, convention)
    return (terms.projections + terms.ffn) * num_tokens + terms.pair * num_tokens**2
