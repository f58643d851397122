"""What a part did in one pass: cost, routing statistics, losses and curves all read these.

Shape letters: B' samples with an image, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from dpn_model.cost.ledger import LayerLoad, Rows


@dataclass(frozen=True)
class ReductionRecord:
    """What one reduction did.

    Attributes:
        layer: 1-based, "after layer N"; 0: before the first.
        tokens_in, tokens_out: visual tokens per sample before and after.
        choices: what was chosen per sample ("1x2", "keep 50%"); "-" for a sample without an image.
        router_probs_BE: float[B', E] of the samples that have images, None for methods without a router.
        expert_index: chosen expert of those samples, on the host.
        router_logits_BE: float32[B', E] behind the probabilities, over the temperature; -inf where not feasible.
        kernels_E: (height, width) of every expert.
        expert_tokens_BE: visual tokens of those samples each expert would have left (0: not feasible).
        macs: by tag, multiply-accumulates per sample that were spent on it ("router", "selector" ...; what a probe was
            asked for is billed by the probe).
        is_forgotten: the layers up to this site forget for decoding what was dropped, which has no other trace.
    """

    layer: int
    tokens_in: tuple[int, ...]
    tokens_out: tuple[int, ...]
    choices: tuple[str, ...]
    router_probs_BE: Tensor | None = None
    expert_index: tuple[int, ...] = ()
    router_logits_BE: Tensor | None = None
    kernels_E: tuple[tuple[int, int], ...] = ()
    expert_tokens_BE: tuple[tuple[int, ...], ...] = ()
    macs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    is_forgotten: bool = False

    @classmethod
    def of_nothing(cls, layer: int, num_samples: int) -> ReductionRecord:
        """Of a batch without a picture: routes are as long as in any other."""
        return cls(layer, (0,) * num_samples, (0,) * num_samples, ("-",) * num_samples)

    def detached(self) -> ReductionRecord:
        """The same without gradients."""
        probs, logits = (None if t is None else t.detach() for t in (self.router_probs_BE, self.router_logits_BE))
        return replace(self, router_probs_BE=probs, router_logits_BE=logits)

    @property
    def keep_ratio(self) -> float:
        """Kept / original visual tokens over the batch; 1.0 without any."""
        return sum(self.tokens_out) / sum(self.tokens_in) if sum(self.tokens_in) else 1.0


@dataclass(frozen=True)
class PatchRecord:
    """What a patched layer ran, per sample.

    Attributes:
        layer: 1-based.
        attention, ffn, keys: rows that ran in the attention, in the FFN, and that own keys.
        choices: what was chosen per sample ("run", "skip", "keep 50%").
        ffn_factor: multiply-accumulates of the FFN per row, over the dense one's; one for all samples, or one for each.
        runs_new: per sample, whether a token behind the cache runs the layer.
        macs: by tag, multiply-accumulates per sample spent beside the layer.
        new_macs: per sample, those that a token behind the cache costs beside the layer, or in its place.
        router_probs_BE, expert_index: as in `ReductionRecord`.
        loss: what the layer adds to a term of the loss, a scalar (`layer_losses.py`); None where it adds nothing.
    """

    layer: int
    attention: tuple[Rows, ...]
    ffn: tuple[Rows, ...]
    keys: tuple[Rows, ...]
    choices: tuple[str, ...]
    ffn_factor: float | tuple[float, ...] = 1.0
    runs_new: tuple[bool, ...] = ()
    macs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    router_probs_BE: Tensor | None = None
    expert_index: tuple[int, ...] = ()
    new_macs: tuple[int, ...] = ()
    loss: Tensor | None = None

    def load(self, sample: int, stream: Rows) -> LayerLoad:
        """For the ledger; `stream`: rows of the sample in front of the layer."""
        rows = (self.attention[sample], self.ffn[sample], self.keys[sample])
        factor = self.ffn_factor[sample] if isinstance(self.ffn_factor, tuple) else self.ffn_factor
        runs_new = not self.runs_new or self.runs_new[sample]
        return LayerLoad(stream, *rows, factor, runs_new, self.new_macs[sample] if self.new_macs else 0)

    def detached(self) -> PatchRecord:
        """The same without gradients."""
        probs, loss = (None if t is None else t.detach() for t in (self.router_probs_BE, self.loss))
        return replace(self, router_probs_BE=probs, loss=loss)
