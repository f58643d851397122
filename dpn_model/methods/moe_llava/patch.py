"""MoE-LLaVA's layers: a router sends every token through two of four FFNs (arXiv 2401.15947; spec peer-methods 8).

The first expert is the base's own FFN under its own name, the others are copies of what it holds when the method is
attached: nothing of the base is left idle, and before training the layer says what the base says. The authors' third
stage trains experts and routers alone; here the copies and routers have the rate of the router's part (`patches.*`),
the first expert that of the language model.

Capacity is a sample's own. The authors count over the whole batch, so that samples push each other out.

Shape letters: T tokens, D model width, E experts, K experts per token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dpn_model.methods.contract import Host, LayerPatch, Parts
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.layer_losses import LayerLosses
from dpn_model.methods.moe_llava.dispatch import balance_loss, choose, weights_of, within_capacity
from dpn_model.methods.moe_llava.spec import MoeLlavaSettings
from dpn_model.methods.records import PatchRecord


def build(settings: MoeLlavaSettings, host: Host) -> Parts:
    """Experts in every named layer, and the loss that balances them."""
    layers = settings.resolve_layers(host.num_layers)
    patches: dict[int, LayerPatch] = {layer: ExpertLayer(layer, settings, host) for layer in layers}
    return Parts(patches=patches, losses=(LayerLosses("balance", settings.balance_weight),))


class _Dispatched(NamedTuple):
    """What the FFN did: gates, first choices, and which choices found room (None: all)."""

    gates_TE: Tensor
    first_T: Tensor
    kept_TK: Tensor | None


class ExpertLayer(LayerPatch):
    """A layer whose FFN is a choice of several."""

    replaces_ffn = True

    def __init__(self, layer: int, settings: MoeLlavaSettings, host: Host) -> None:
        super().__init__(layer)
        self.settings = settings
        self.router = nn.Linear(host.hidden_size, settings.experts, bias=False)
        self.copies = nn.ModuleList(host.ffn_copy(layer) for _ in range(settings.experts - 1))
        # A layer that is recomputed runs its FFN once more, behind `forward`: lengths are still those of the call, and
        # nobody listens, so that nothing of the recomputed graph is kept.
        self._lengths: tuple[int, ...] = ()
        self._heard: list[_Dispatched] | None = None

    def reset_parameters(self) -> None:
        """The router starts fresh, the copies stay what they are."""
        self.router.reset_parameters()

    def forward(self, call: LayerCall) -> tuple[Tensor, PatchRecord | None]:
        """Run the whole layer; behind a cache no token is dropped."""
        self._lengths = call.lengths if call.past is None else ()
        heard: list[_Dispatched] = []
        self._heard = heard
        out = call.run()
        self._heard = None
        gates_TE, first_T, kept_TK = heard[0]
        per_row = self.router.in_features * self.settings.experts
        factors: float | tuple[float, ...] = float(self.settings.top_k)
        if kept_TK is not None:
            factors = tuple((kept_T.sum() / len(kept_T)).item() for kept_T in kept_TK.cpu().split(call.lengths))
        record = call.record(
            choices=[f"top {self.settings.top_k} of {self.settings.experts}"] * len(call.lengths),
            ffn_factor=factors,
            macs={"router": tuple(per_row * length for length in call.lengths)},
            new_macs=(per_row,) * len(call.lengths),
            loss=balance_loss(gates_TE, first_T),
        )
        return out, record

    def ffn(self, hidden: Tensor, dense: Any) -> Tensor:
        """Every expert over the rows that chose it, one after the other; `dense` is the first."""
        rows_TD, experts = hidden[0], self.settings.experts
        gates_TE = self.router(rows_TD).float().softmax(dim=-1)
        index_TK = choose(gates_TE, self.settings.top_k, is_noisy=self.settings.noise and self.training)
        factor = self.settings.capacity if self.training else self.settings.evaluation_capacity
        kept_TK = None
        if factor is not None and self._lengths:
            kept_TK = within_capacity(index_TK, self._lengths, experts, factor)
        weight_N = weights_of(gates_TE, index_TK, kept_TK).flatten().to(rows_TD.dtype)
        queue_N = (index_TK if kept_TK is None else index_TK.masked_fill(~kept_TK, experts)).flatten()
        counts = torch.bincount(queue_N, minlength=experts + 1).tolist()
        choices = queue_N.sort(stable=True).indices.split(counts)
        out_TD = torch.zeros_like(rows_TD)
        for expert, chosen in zip((dense, *self.copies), choices, strict=False):
            if len(chosen) or self.training or self.joins_ranks:
                place = chosen // self.settings.top_k
                made = expert(rows_TD.index_select(0, place)[None])[0]
                out_TD = out_TD.index_add(0, place, made * weight_N[chosen, None])
        if self._heard is not None:
            self._heard.append(_Dispatched(gates_TE, index_TK[:, 0], kept_TK))
        return out_TD[None]
