"""Pooling at one site: who decides is a subclass's matter, what follows from the decision is the same for all.

Shape letters: B samples, B' of them with an image, T packed tokens, D model width, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dpn_model.methods.contract import TokenReducer, joined
from dpn_model.methods.pooling.experts import DepthwiseConv, mean_of_windows, pool_image, tokens_after
from dpn_model.methods.pooling.settings import PoolingSettings
from dpn_model.methods.probe import Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import replace_image_rows
from dpn_model.methods.settings import parse_kernel
from dpn_model.methods.windows import PoolWindows, max_of_windows
from dpn_model.packing import PackedSequence


@dataclass(frozen=True)
class Decision:
    """One expert per sample that has an image.

    Attributes:
        experts: on the host.
        scale_B: float[B'], what the pooled rows are multiplied with; None: nothing.
        probs_BE, logits_BE: the router's, where one decided.
        passages: one per sample of the batch, for the next site (`PackedSequence`).
    """

    experts: tuple[int, ...]
    scale_B: Tensor | None = None
    probs_BE: Tensor | None = None
    logits_BE: Tensor | None = None
    passages: tuple[Any, ...] = ()


class PoolingSite(TokenReducer):
    """Pools the images of every sample with one of its kernels. Samples without an image pass untouched."""

    #: under which a decision's multiply-accumulates are billed
    decision_tag = "decision"

    def __init__(self, layer: int, method: PoolingSettings, hidden_size: int, experts: Sequence[str]) -> None:
        super().__init__(layer)
        self.method = method
        self.expert_names = tuple(experts)
        self.kernels = tuple(parse_kernel(name) for name in experts)
        if method.pool == "conv":
            self.convolutions = nn.ModuleDict(
                {f"{h}x{w}": DepthwiseConv(hidden_size, (h, w)) for h, w in self.kernels if h * w > 1}
            )

    @property
    def decision_macs(self) -> int:
        """Multiply-accumulates of one decision."""
        return 0

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """An expert for each of `samples`; `tokens_BE` says what each would leave, 0 where it is not feasible."""
        raise NotImplementedError

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Decide for every sample that has an image, pool it, scale it.

        Raises:
            ValueError: a grid too small for every expert, or for the one that was forced.
        """
        return self.pooled(state)

    def pooled(self, state: PackedSequence) -> tuple[PackedSequence, ReductionRecord]:
        """`forward`, for which nothing has to be looked at."""
        tokens_in = state.visual_tokens()
        if not state.images:
            return self._without_images(state), ReductionRecord(
                self.layer, tokens_in, tokens_in, ("-",) * state.num_samples
            )
        samples = tuple(sorted({image.sample for image in state.images}))
        tokens_BE = self.tokens_left(state, samples)
        decision = self.decide(state, samples, tokens_BE)
        chosen = dict(zip(samples, decision.experts, strict=True))
        experts = [chosen[image.sample] for image in state.images]
        rows = [
            pool_image(image, self.kernels[expert], self.method.rounding, self._pool(expert))
            for image, expert in zip(state.images, experts, strict=True)
        ]
        keep_positions = self.method.positions == "keep"
        after, image_T = replace_image_rows(state, rows, keep_positions=keep_positions, always=self._always())
        after = replace(after, passages=decision.passages)
        if decision.scale_B is not None:
            after = after.with_hidden(_scaled(after, image_T, state, decision.scale_B, samples))
        if self.training and decision.logits_BE is not None:
            after = after.with_hidden(joined(after.hidden_TD, [decision.logits_BE]))
        return after, ReductionRecord(
            layer=self.layer,
            tokens_in=tokens_in,
            tokens_out=after.visual_tokens(),
            choices=tuple(self.expert_names[chosen[b]] if b in chosen else "-" for b in range(state.num_samples)),
            router_probs_BE=decision.probs_BE,
            expert_index=decision.experts,
            router_logits_BE=decision.logits_BE,
            kernels_E=self.kernels,
            expert_tokens_BE=tokens_BE,
            macs=self._macs(chosen, after, tokens_in),
        )

    def run_on_nothing(self, empty_TD: Tensor) -> list[Tensor]:
        """Outputs of the modules that decide, on float[0, D]."""
        return []

    def _without_images(self, state: PackedSequence) -> PackedSequence:
        """Nothing to pool; in training, what has weights runs all the same (`contract.Part`)."""
        if not (self.training or self.joins_ranks):
            return state
        empty_TD = state.hidden_TD[:0]
        outputs = self.run_on_nothing(empty_TD)
        outputs += [pool(empty_TD[:, None].expand(-1, cells, -1), None) for pool, cells in self._always()]
        return state.with_hidden(joined(state.hidden_TD, outputs))

    def _always(self) -> list[tuple[PoolWindows, int]]:
        """Poolings with weights and their windows' cells, which training runs whatever was chosen."""
        if self.method.pool != "conv" or not (self.training or self.joins_ranks):
            return []
        return [(self.convolutions[name], math.prod(parse_kernel(name))) for name in self.convolutions]

    def _macs(
        self, chosen: dict[int, int], after: PackedSequence, tokens_in: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Decision and convolution of every sample; a maximum or a mean multiplies nothing."""
        macs: dict[str, tuple[int, ...]] = {}
        if self.decision_macs:
            macs[self.decision_tag] = tuple(self.decision_macs if b in chosen else 0 for b in range(len(tokens_in)))
        if self.method.pool == "conv":
            width, left = after.hidden_TD.shape[1], after.visual_tokens()
            areas = {sample: math.prod(self.kernels[expert]) for sample, expert in chosen.items()}
            macs["pooling"] = tuple(
                left[b] * areas[b] * width if areas.get(b, 1) > 1 else 0 for b in range(len(tokens_in))
            )
        return macs

    def tokens_left(self, state: PackedSequence, samples: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Tokens per sample and expert; 0 where one leaves an image fewer than `min_tokens`, in any mode.

        1x1 takes nothing away, so no floor forbids it.
        """
        totals = {sample: [0] * len(self.kernels) for sample in samples}
        short: set[tuple[int, int]] = set()
        for image in state.images:
            for number, kernel in enumerate(self.kernels):
                left = tokens_after(image, kernel, self.method.rounding)
                totals[image.sample][number] += left
                if left < (1 if kernel == (1, 1) else self.method.min_tokens):
                    short.add((image.sample, number))
        tokens_BE = tuple(tuple(0 if (b, e) in short else n for e, n in enumerate(totals[b])) for b in samples)
        for sample, row in zip(samples, tokens_BE, strict=True):
            if not any(row):
                image = min((each for each in state.images if each.sample == sample), key=lambda each: each.num_tokens)
                raise ValueError(
                    f"no expert of {', '.join(self.expert_names)} leaves the {image.height}x{image.width} grid of "
                    f"sample {sample} after layer {self.layer} {self.method.min_tokens} token(s) (min_tokens); "
                    "add 1x1, use smaller kernels, or lower min_tokens"
                )
        return tokens_BE

    def _pool(self, expert: int) -> PoolWindows:
        if self.method.pool == "conv" and self.expert_names[expert] != "1x1":
            return self.convolutions[self.expert_names[expert]]
        return mean_of_windows if self.method.pool == "avg" else max_of_windows


def _scaled(
    after: PackedSequence, image_T: Tensor, before: PackedSequence, scale_B: Tensor, samples: tuple[int, ...]
) -> Tensor:
    """Visual rows times their sample's factor: the only path from the language loss to the router (eq. 4)."""
    place = {sample: number for number, sample in enumerate(samples)}
    scale_of_image = torch.tensor([place[image.sample] for image in before.images], device=image_T.device)
    scale_I = torch.cat([scale_B[scale_of_image], scale_B.new_ones(1)])  # last entry: text rows (image -1)
    return after.hidden_TD * scale_I[image_T, None].to(after.hidden_TD.dtype)
