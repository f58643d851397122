"""Cost of a forward pass from the token counts that really ran. Every figure names its convention.

`eq8`: the paper's, multiply-accumulates of visual tokens only, two FFN matrices: F(n) = 4nd² + 2n²d + 2ndm.
`swiglu`: multiply-accumulates of the decoder with all tokens and LLaMA's three FFN matrices.
Neither counts embeddings, norms, the router, the vision tower, the projector, lm_head or decoding (spec A.2.1).
A ratio's denominator is the same sample without any reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedConfig

from dpn_model.outputs import RoutingReport

Convention = Literal["eq8", "swiglu"]
CONVENTIONS: tuple[Convention, ...] = ("eq8", "swiglu")
_FFN_MATRICES = {"eq8": 2, "swiglu": 3}


@dataclass(frozen=True)
class DecoderShape:
    """d, m and I of the decoder."""

    hidden_size: int
    intermediate_size: int
    num_layers: int

    @classmethod
    def from_config(cls, text_config: PreTrainedConfig) -> DecoderShape:
        """Shape of a transformers decoder configuration."""
        return cls(text_config.hidden_size, text_config.intermediate_size, text_config.num_hidden_layers)


@dataclass(frozen=True)
class SampleCost:
    """Multiply-accumulates of one sample's prefill in one convention."""

    total: int
    dense: int

    @property
    def ratio(self) -> float:
        """total / dense; 1.0 where nothing is counted (a text-only sample under eq8)."""
        return self.total / self.dense if self.dense else 1.0


def layer_macs(num_tokens: int, shape: DecoderShape, convention: Convention) -> int:
    """F(n) of eq. 8 for one layer, with the convention's number of FFN matrices."""
    d, m = shape.hidden_size, shape.intermediate_size
    return 4 * num_tokens * d * d + 2 * num_tokens**2 * d + _FFN_MATRICES[convention] * num_tokens * d * m


def sample_cost(
    shape: DecoderShape,
    sites: Sequence[int],
    visual_tokens: Sequence[int],
    text_tokens: int,
    convention: Convention,
) -> SampleCost:
    """Cost of one sample.

    Args:
        shape: of the decoder.
        sites: 1-based layers after which a reduction ran, ascending.
        visual_tokens: before the first site and after each (len(sites) + 1).
        text_tokens: all other tokens; left out under `eq8`.
        convention: "eq8" or "swiglu".
    """
    text = 0 if convention == "eq8" else text_tokens
    bounds = (0, *sites, shape.num_layers)
    stages = zip(bounds, bounds[1:], visual_tokens, strict=False)
    total = sum((last - first) * layer_macs(v + text, shape, convention) for first, last, v in stages)
    return SampleCost(total, shape.num_layers * layer_macs(visual_tokens[0] + text, shape, convention))


def routing_costs(shape: DecoderShape, routing: RoutingReport, convention: Convention) -> list[SampleCost]:
    """Cost of every sample of a forward pass."""
    return [
        sample_cost(
            shape, routing.sites, routing.visual_tokens_per_stage(sample), routing.text_tokens[sample], convention
        )
        for sample in range(routing.num_samples)
    ]


def mean_visual_tokens(shape: DecoderShape, routing: RoutingReport, sample: int) -> float:
    """Visual tokens of one sample, averaged over the decoder's layers."""
    bounds = (0, *routing.sites, shape.num_layers)
    stages = routing.visual_tokens_per_stage(sample)
    return (
        sum((last - first) * v for first, last, v in zip(bounds, bounds[1:], stages, strict=False)) / shape.num_layers
    )
