"""Dynamic pooling experts (eq. 4): per sample and site, the router picks the kernel that pools its visual tokens.

Shape letters: B samples, B' of them with an image, T packed tokens, D model width, E experts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dpn_model.method import Method, parse_kernel
from dpn_model.packing import PackedSequence
from dpn_model.pyramid.experts import pool_image, tokens_after
from dpn_model.pyramid.router import Router, choose_experts
from dpn_model.reduction import ReductionRecord, TokenReducer, replace_image_rows, router_state


class DynamicPoolingExperts(TokenReducer):
    """One decision per sample, shared by all its visual tokens. Samples without an image pass untouched."""

    needs_router_token = True

    def __init__(self, layer: int, method: Method, hidden_size: int) -> None:
        super().__init__(layer)
        self.method = method
        self.kernels = tuple(parse_kernel(name) for name in method.experts)
        self.log2_areas_E = tuple(math.log2(height * width) for height, width in self.kernels)
        self.router = Router(hidden_size, len(self.kernels), method.router, method.temperature)
        #: fixed expert for every sample, or None: the router decides (`set_route`)
        self.forced_expert: int | None = None

    def forward(self, state: PackedSequence) -> tuple[PackedSequence, ReductionRecord]:
        """Route every sample that has an image, pool it, scale it."""
        tokens_in = state.visual_tokens()
        if not state.images:
            return self._pass_through(state, tokens_in)
        states_BD, samples = router_state(state)
        feasible_BE = self._feasible(state, samples)
        selection = self.method.selection if self.training else "top1"
        probs_BE, expert_B = choose_experts(self.router(states_BD), feasible_BE, selection)
        if self.forced_expert is not None:
            expert_B = torch.full_like(expert_B, self.forced_expert)
        chosen = tuple(expert_B.tolist())  # the one device-to-host copy of a site
        by_sample = dict(zip(samples, chosen, strict=True))
        rows = [pool_image(image, self.kernels[by_sample[image.sample]]) for image in state.images]
        after, image_T = replace_image_rows(state, rows, keep_positions=self.method.positions == "keep")
        after = after.with_hidden(self._scale(after, image_T, state, probs_BE, expert_B, samples))
        names = self.method.experts
        record = ReductionRecord(
            layer=self.layer,
            tokens_in=tokens_in,
            tokens_out=after.visual_tokens(),
            choices=tuple(names[by_sample[b]] if b in by_sample else "-" for b in range(state.num_samples)),
            router_probs_BE=probs_BE,
            expert_index=chosen,
            log2_areas_E=self.log2_areas_E,
            method_macs=tuple(self.router.macs if b in by_sample else 0 for b in range(state.num_samples)),
        )
        return after, record

    def _feasible(self, state: PackedSequence, samples: tuple[int, ...]) -> Tensor:
        """bool[B', E]: the expert leaves every image of the sample at least `min_tokens` tokens."""
        feasible = {sample: [True] * len(self.kernels) for sample in samples}
        for image in state.images:
            for number, kernel in enumerate(self.kernels):
                feasible[image.sample][number] &= tokens_after(image, kernel) >= self.method.min_tokens
        return torch.tensor([feasible[sample] for sample in samples], device=state.hidden_TD.device)

    def _scale(
        self,
        after: PackedSequence,
        image_T: Tensor,
        before: PackedSequence,
        probs_BE: Tensor,
        expert_B: Tensor,
        samples: tuple[int, ...],
    ) -> Tensor:
        """Visual rows times the winning probability: the only path from the language loss to the router (eq. 4)."""
        if self.method.scaling == "off":
            return after.hidden_TD
        scale_B = probs_BE.gather(1, expert_B[:, None]).squeeze(1)
        if self.method.scaling == "straight_through":
            scale_B = scale_B / scale_B.detach()
        place = {sample: number for number, sample in enumerate(samples)}
        scale_of_image = torch.tensor([place[image.sample] for image in before.images], device=image_T.device)
        scale_I = torch.cat([scale_B[scale_of_image], scale_B.new_ones(1)])  # last entry: text rows (image -1)
        return after.hidden_TD * scale_I[image_T, None].to(after.hidden_TD.dtype)

    def _pass_through(self, state: PackedSequence, tokens: tuple[int, ...]) -> tuple[PackedSequence, ReductionRecord]:
        return state, ReductionRecord(self.layer, tokens, tokens, ("-",) * state.num_samples)
