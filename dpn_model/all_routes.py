"""What a model does with the tree of routes: losses on all routes, answers on all routes. A mixin of the model.

Shape letters: B samples, S padded length, N samples, R routes, L leaves, Q new tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.vision.contract import Pixels
from dpn_model.cache import PackedCache
from dpn_model.decoder import DecoderPass
from dpn_model.outputs import DpnOutput, RoutingReport
from dpn_model.packed_inputs import Packed, PackedInputs
from dpn_model.packing import PackedSequence
from dpn_model.route_walk import RouteWalk, choosing_sites, walk_routes


class AllRoutes(PackedInputs):
    """`walk_routes`, `answer_routes`, for models with a method that only chooses."""

    model: Any
    token_losses: Callable[[PackedSequence, Tensor], tuple[Tensor, Tensor, Tensor]]
    last_logits: Callable[[Tensor, Sequence[int], int | None], Tensor]
    run_behind_cache: Callable[[Tensor, Tensor | None, PackedCache, int | None], DpnOutput]

    @property
    def route_names(self) -> tuple[tuple[str, ...], ...]:
        """Every route, in the order of `RouteWalk.routes`.

        Raises:
            ValueError: the method does more than choose.
        """
        return tuple(product(*(site.expert_names for site in choosing_sites(self.parts))))

    @torch.no_grad()
    def walk_routes(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Pixels | None = None,
        labels: Tensor | None = None,
        *,
        cache: PackedCache | None = None,
        **image_inputs: Any,
    ) -> tuple[RouteWalk, Tensor | None]:
        """Every sample on every route; routes that were set, and budgets, play no part.

        Args:
            input_ids, attention_mask, pixel_values, labels, image_inputs: as in `forward`.
            cache: filled, for all leaves. Without it and without labels the walk ends at the last site.

        Returns:
            The walk, and float32[N, R]: mean cross entropy of every sample's supervised tokens, NaN without any; None
            without labels.

        Raises:
            ValueError: the method does more than choose, or the model is in training.
        """
        if self.training:
            raise ValueError("routes are walked in evaluation; call model.eval() first")
        packed = self.pack(input_ids, attention_mask, pixel_values, self.image_inputs(image_inputs), labels)
        to_the_end = labels is not None or cache is not None
        report = self._report_before(packed)
        language_model = self.model.language_model
        walk = walk_routes(language_model, packed, report, self.parts, cache, to_the_end=to_the_end)
        if labels is None or walk.final is None:
            return walk, None
        labels_T = labels.to(packed.ids.place_T.device).flatten()[packed.ids.place_T]
        losses_R, sample_R, _ = self.token_losses(walk.final, labels_T)
        leaves = walk.final.num_samples
        sums_L = losses_R.new_zeros(leaves).index_add(0, sample_R, losses_R)
        return walk, walk.by_route(sums_L / torch.bincount(sample_R, minlength=leaves))

    def _report_before(self, packed: Packed) -> RoutingReport:
        nothing = DecoderPass(packed.state, (), (), (0,) * packed.state.num_samples)
        runs = (packed.runs, packed.base_runs)
        spent = (self.model_shape, runs, packed.macs, packed.ids.objects)
        return RoutingReport.of_pass(packed.before, packed.selections, nothing, *spent)

    @torch.no_grad()
    def answer_routes(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Pixels | None = None,
        *,
        max_new_tokens: int,
        ends: Sequence[int],
        pad_id: int,
        **image_inputs: Any,
    ) -> tuple[RouteWalk, Tensor]:
        """Greedy answers on every route: what `generate` gives on each, with a shared prefill.

        Args:
            input_ids, attention_mask, pixel_values, image_inputs: as in `forward`.
            max_new_tokens: of an answer.
            ends: ids that end one.
            pad_id: what stands behind an end.

        Returns:
            The walk, and int64[N, R, Q].
        """
        cache = PackedCache(max_new_tokens)
        walk, _ = self.walk_routes(input_ids, attention_mask, pixel_values, cache=cache, **image_inputs)
        assert walk.final is not None
        lengths = walk.final.lengths
        cache.close_step(lengths, torch.ones(len(lengths), 1, dtype=torch.bool, device=self.device))
        token_L = self.last_logits(walk.final.hidden_TD, lengths, None).argmax(dim=-1)
        is_end = torch.tensor(list(ends), device=token_L.device)
        answers, is_done_L = [token_L], torch.isin(token_L, is_end)
        while len(answers) < max_new_tokens and not bool(is_done_L.all()):
            logits = self.run_behind_cache(token_L[:, None], None, cache, None).logits
            assert logits is not None
            token_L = logits.argmax(dim=-1).masked_fill(is_done_L, pad_id)
            answers.append(token_L)
            is_done_L |= torch.isin(token_L, is_end)
        return walk, walk.by_route(torch.stack(answers, dim=1))
