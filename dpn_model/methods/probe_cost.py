"""What looking costs (`probe.py`), told beforehand: multiply-accumulates, for plans. No torch."""

from __future__ import annotations

from dpn_model.cost.flops import DecoderShape, layer_terms


def attention_macs(shape: DecoderShape, asking: int, rows: int) -> int:
    """Of `asking` rows of attention over a sample of `rows`, its queries and keys being there."""
    return asking * rows * (shape.query_size or shape.hidden_size)


def next_attention_macs(shape: DecoderShape, asking: int, rows: int) -> int:
    """The same in a layer that has not run: keys of all rows, queries of those that ask (Phi-3: all of both)."""
    queries = asking * (shape.query_size or shape.hidden_size)
    return shape.hidden_size * (rows * shape.kv_width + queries) + attention_macs(shape, asking, rows)


def rider_macs(shape: DecoderShape, layers: int, seen: int) -> int:
    """Of a row that rides through so many layers and sees `seen` rows in each, and itself."""
    terms = layer_terms(shape, "swiglu")
    return layers * (terms.projections + terms.ffn + terms.pair * (seen + 1))
