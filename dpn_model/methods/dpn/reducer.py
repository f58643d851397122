"""Dynamic pooling experts (eq. 4): per sample and site, the router picks the kernel that pools its visual tokens.

Shape letters: B' samples with an image, D model width, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.contract import ChoosingReducer, Host, LossTerm, Parts
from dpn_model.methods.dpn.losses import Distillation, RoutingHinge, ScoreGradient, Shaping
from dpn_model.methods.dpn.route_fit import RouteLesson
from dpn_model.methods.dpn.router import Router, router_state
from dpn_model.methods.dpn.selection import Choice, Pick, choose_experts
from dpn_model.methods.dpn.settings import DpnSettings
from dpn_model.methods.dpn.steering import DpnSteering
from dpn_model.methods.dpn.threshold import Passage, Threshold
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.methods.records import ReductionRecord
from dpn_model.not_finite import NotFiniteError
from dpn_model.packing import PackedSequence
from dpn_model.sample_keys import uniform_draws


def build(settings: DpnSettings, host: Host) -> Parts:
    """A router and its experts at every site, the hinge of eq. 6, and the dial."""
    sites = settings.kernels_by_site(host.num_layers)
    reducers = {
        layer: DynamicPoolingExperts(layer, settings, host.hidden_size, experts) for layer, experts in sites.items()
    }
    losses: list[LossTerm] = [RoutingHinge(settings.routing_loss)]
    if settings.batch_shaping.weight:
        anyone = next(iter(reducers.values()))
        losses.append(Shaping(settings.batch_shaping, lambda: anyone.progress))
    if settings.router_gradient == "score":
        losses.append(ScoreGradient())
    if settings.sandwich.drawn:
        losses = [Distillation(settings.sandwich.distillation)]
    return Parts(
        reducers=dict(reducers),
        losses=tuple(losses),
        steering=DpnSteering(settings, list(reducers.values())),
        copies=settings.sandwich.copies,
        lesson=RouteLesson(settings) if settings.route_fit.samples else None,
    )


class DynamicPoolingExperts(PoolingSite, ChoosingReducer):
    """One decision per sample, shared by all its visual tokens."""

    needs_router_token = True
    decision_tag = "router"

    method: DpnSettings

    def __init__(self, layer: int, method: DpnSettings, hidden_size: int, experts: Sequence[str]) -> None:
        super().__init__(layer, method, hidden_size, experts)
        self.router = Router(
            hidden_size,
            len(self.kernels),
            method.router,
            method.temperature,
            method.router_hidden_divisor,
            method.router_init,
        )
        #: fixed expert for every sample, or None: the router decides (`set_route`)
        self.forced_expert: int | None = None
        #: of every sample with a picture, while all routes are walked (`branched`)
        self._each_sample: tuple[int, ...] | None = None
        #: the budget dial's, at inference (`set_budget`)
        self.threshold: Threshold | None = None

    @property
    def decision_macs(self) -> int:
        """The router's."""
        return self.router.macs

    @property
    def needs_sample_keys(self) -> bool:
        """Where the dial moves samples: they move one by one, also those which the router does not tell apart."""
        return not self.training and self.threshold is not None

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """The router's choice, or the forced one.

        Raises:
            ValueError: the forced expert is not feasible for a sample.
            NotFiniteError: a router logit is not finite.
        """
        forced = self._forced(state, samples, tokens_BE)
        states_BD = self.read(state)
        passages = list(state.passages) or [None] * state.num_samples
        try:
            choice = choose_experts(
                self.router(states_BD, self._temperature()),
                torch.tensor(tokens_BE, device=states_BD.device) > 0,
                self.method.selection if self.training else "top1",
                renormalise=self.method.infeasible == "renormalise",
                pick=self._pick(state, samples, passages),
                forced=forced,
                exploration=self.method.exploration * self._left() if self.training else 0.0,
            )
        except NotFiniteError as error:
            raise error.of([samples[place] for place in error.places]) from None
        # In a sandwich nobody asked the router: its probabilities say nothing about what was done.
        probs_BE = choice.probs_BE if state.copies == 1 else None
        return Decision(choice.experts, self._scale(choice), probs_BE, choice.logits_BE, tuple(passages))

    def _left(self) -> float:
        """Share of the training that is to come; 0 where nobody says."""
        return 0.0 if self.progress is None else 1.0 - self.progress

    def _temperature(self) -> float:
        """Of the logits, at this point of a training, also where it is evaluated on the way; then that of its end."""
        end, start = self.method.temperature, self.method.temperature_start
        return end if start is None else end * (start / end) ** self._left()

    def run_on_nothing(self, empty_TD: Tensor) -> list[Tensor]:
        """The router's logits of no sample."""
        return [self.router(empty_TD)]

    def read(self, state: PackedSequence) -> Tensor:
        """See `ChoosingReducer`."""
        return router_state(state, self.method.routing_token)[0]

    def branched(self, state: PackedSequence) -> tuple[PackedSequence, ReductionRecord, np.ndarray]:
        """See `ChoosingReducer`; in place of an expert that is not feasible, the one that leaves most."""
        samples = tuple(sorted({image.sample for image in state.images}))
        is_feasible_EB = np.ones((len(self.kernels), state.num_samples), dtype=bool)
        if samples:
            tokens_BE = np.asarray(self.tokens_left(state, samples))
            is_feasible_EB[:, samples] = (tokens_BE > 0).T
            most_B = tokens_BE.argmax(axis=1)
            each_EB = [np.where(tokens_BE[:, expert] > 0, expert, most_B) for expert in range(len(self.kernels))]
            self._each_sample = tuple(np.concatenate(each_EB).tolist())
        try:
            after, record = self.pooled(replace(state.copied(len(self.kernels)), copies=1))
        finally:
            self._each_sample = None
        return after, record, is_feasible_EB

    def _forced(
        self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]
    ) -> Sequence[int] | None:
        """An expert for each of `samples` where the router is not asked, else None.

        Raises:
            ValueError: `set_route`'s expert is not feasible for one.
        """
        if self._each_sample is not None:
            return self._each_sample
        if self.training and state.copies > 1:
            return [_of_sandwich(state.copy_of(sample), left) for sample, left in zip(samples, tokens_BE, strict=True)]
        if (forced := self.forced_expert) is None:
            return None
        for sample, tokens in zip(samples, tokens_BE, strict=True):
            if not tokens[forced]:
                allowed = [name for name, left in zip(self.expert_names, tokens, strict=True) if left]
                raise ValueError(
                    f"the route forces {self.expert_names[forced]} after layer {self.layer}, which leaves "
                    f"sample {sample} fewer than min_tokens = {self.method.min_tokens}; allowed: {', '.join(allowed)}"
                )
        return [forced] * len(samples)

    def _pick(self, state: PackedSequence, samples: tuple[int, ...], passages: list[Passage | None]) -> Pick | None:
        """Who decides in the router's place at inference; it leaves `passages` as the next site wants them."""
        threshold = self.threshold
        if self.training or threshold is None:
            return None
        grids: dict[int, list[tuple[int, int]]] = {}
        for image in state.images:
            grids.setdefault(image.sample, []).append((image.height, image.width))
        visual, draws = state.visual_tokens(), uniform_draws(state.sample_keys)

        def pick(rows: list[list[float]]) -> list[int]:
            experts = []
            for sample, row in zip(samples, rows, strict=True):
                text = state.lengths[sample] - visual[sample]
                expert, passages[sample] = threshold.choose(
                    row, passages[sample], tuple(grids[sample]), text, draws[sample]
                )
                experts.append(expert)
            return experts

        return pick

    def _scale(self, choice: Choice) -> Tensor | None:
        """What pooled rows are multiplied with: eq. 4's winning probability, and Gumbel's straight-through gate."""
        if self.method.scaling == "off":
            return choice.gate_B
        log_p_B = choice.log_probs_BE.gather(1, choice.expert_B[:, None]).squeeze(1)
        # p / stop_grad(p), in value and gradient, but finite at p = 0
        straight_B = 1 + log_p_B - log_p_B.detach()
        scale_B = straight_B if self.method.scaling == "straight_through" else log_p_B.exp()
        return scale_B if choice.gate_B is None else scale_B * choice.gate_B


def _of_sandwich(copy: int, tokens_E: Sequence[int]) -> int:
    """The expert of a sample's first copy (leaves most), of its second (fewest), and of any other (drawn)."""
    feasible = [expert for expert, left in enumerate(tokens_E) if left]
    if copy < 2:
        return (max if copy == 0 else min)(feasible, key=lambda expert: tokens_E[expert])
    return feasible[int(torch.randint(len(feasible), ()))]
