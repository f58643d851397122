"""Gamma-MoD's layers: tokens that a router passes run, all others go by (arXiv 2410.13859; spec peer-methods 7.2).

One router serves all layers. It is a module of the first one; the others know it without owning it, so that it has one
name in `named_parameters` and in files. In training the question and its answer always run, with as many image and
system tokens as the capacity says; the FFN's output is weighed with the router's probability. Inference has the
authors' rule, a threshold. What share of a sample ran is told per layer in `PatchRecord.choices`. A sample without a
picture runs whole in training, as in the authors' code.

Shape letters: B samples, T packed rows, R rows that run, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dpn_model.methods.contract import Host, LayerPatch, Parts
from dpn_model.methods.gamma_mod.spec import GammaModSettings, routed
from dpn_model.methods.keeping import best_rows
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.layer_losses import LayerLosses
from dpn_model.methods.picture_rows import picture_rows
from dpn_model.methods.records import PatchRecord


def build(settings: GammaModSettings, host: Host) -> Parts:
    """A patch on every named layer, one router for all, and the loss that teaches it."""
    router = nn.Linear(host.hidden_size, 2, bias=False)
    layers = settings.resolve_layers(host.num_layers)
    patches: dict[int, LayerPatch] = {layer: DepthLayer(layer, settings, router) for layer in layers}
    first = patches[layers[0]]
    first.router = router
    return Parts(patches=patches, losses=(LayerLosses("depth", settings.routing_weight),))


@dataclass
class _Weights:
    """What the FFN's output is weighed with, for as long as the layer may be recomputed; no copy of a model has it."""

    of_rows_R: Tensor | None = None

    def __deepcopy__(self, memo: Any) -> _Weights:
        return _Weights()


class DepthLayer(LayerPatch):
    """A layer on some tokens."""

    replaces_ffn = True

    def __init__(self, layer: int, settings: GammaModSettings, router: nn.Linear) -> None:
        super().__init__(layer)
        self.settings = settings
        self._router = (router,)  # in a tuple: it is another patch's module
        self._weights = _Weights()

    def forward(self, call: LayerCall) -> tuple[Tensor, PatchRecord | None]:
        """Route, run, and put what ran back among the rest."""
        router = self._router[0]
        logits_T2 = router(call.normed()).float()
        probs_T = logits_T2.softmax(dim=-1)[:, 1]
        rows = self._new_rows(call, probs_T) if call.past is not None else self._rows(call, probs_T)
        places = torch.from_numpy(rows).to(probs_T.device)
        self._weights = _Weights(probs_T[places])
        out_RD = call.run(rows, renumber=self.settings.positions == "contiguous")
        loss = None
        if self.training:
            runs_T = torch.zeros(len(probs_T), dtype=torch.int64, device=probs_T.device).index_fill(0, places, 1)
            loss = cross_entropy(logits_T2, runs_T)
        record = call.record(
            runs_new=[True] * len(call.lengths),
            macs={"router": tuple(router.weight.shape.numel() * length for length in call.lengths)},
            new_macs=(router.weight.shape.numel(),) * len(call.lengths),
            loss=loss,
        )
        return call.merged(rows, out_RD), record

    def ffn(self, hidden: Tensor, dense: Any) -> Tensor:
        """The base's FFN, weighed; on the row that only joins other ranks, as it is."""
        made: Tensor = dense(hidden)
        weights_R = self._weights.of_rows_R
        if weights_R is None or len(weights_R) != hidden.shape[1]:
            return made
        return made * weights_R[:, None].to(made.dtype)

    def _rows(self, call: LayerCall, probs_T: Tensor) -> np.ndarray:
        """int64[R], ascending: rows of prompts (and answers, in training) that run."""
        if not self.training and self.settings.rule == "threshold":
            return np.flatnonzero((probs_T > self.settings.threshold).cpu().numpy())
        halves = [rows for rows in picture_rows(call) if len(rows)]
        runs_T = np.ones(sum(call.lengths), dtype=bool)
        scores = [probs_T[torch.from_numpy(rows).to(probs_T.device)] for rows in halves]
        kept = best_rows(scores, [routed(len(rows), self.settings.capacity) for rows in halves])
        for rows, chosen in zip(halves, kept, strict=True):
            runs_T[rows] = False
            runs_T[rows[chosen]] = True
        return np.flatnonzero(runs_T)

    def _new_rows(self, call: LayerCall, probs_T: Tensor) -> np.ndarray:
        """int64[R]: rows behind a cache that run; several at once are a later turn's prompt."""
        if self.settings.rule == "capacity":
            return np.arange(sum(call.lengths))
        is_generated = np.repeat([length == 1 for length in call.lengths], call.lengths)
        probs = probs_T.cpu().numpy()
        runs = np.where(is_generated, probs >= self.settings.decode_threshold, probs > self.settings.threshold)
        return np.flatnonzero(runs)
