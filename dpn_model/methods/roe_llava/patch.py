"""RoE's layers: a sample runs one, or passes it by with a small adapter (arXiv 2407.14093; spec peer-methods 7.1).

In training both paths run and are mixed; at inference each sample decides by itself, and where it skips owns no key.
New tokens behind the cache do what their sample did.

What differs from the authors' code:
* Their routers read two learned tokens that stand in front of the sample, are seen by nobody, and look at the image and
  at one question. Here a router reads the mean over the picture's (and the system prompt's) rows and that over the
  question's, behind the layer's first norm: no layer runs a row that is not the sample's own.
* A question's rows are those since the turn before began to be answered: a later turn's hold the answer before it. They
  run with the weights of the turn before, answers with those of their own.
* In the phase of random choices the authors freeze the base; here its learning rate is the recipe's.
* A sample without a picture runs every layer.

Shape letters: B samples, B' samples with a picture, T packed rows, D model width, M turns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.contract import Host, LayerPatch, Parts, joined
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.probe import TURNS
from dpn_model.methods.records import PatchRecord
from dpn_model.methods.roe_llava.losses import SkipHinge
from dpn_model.methods.roe_llava.schedule import RUN, phase_at
from dpn_model.methods.roe_llava.spec import RoeLlavaSettings, adapter_macs, router_macs
from dpn_model.methods.roe_llava.turns import Turn, router_inputs, turns_of


def build(settings: RoeLlavaSettings, host: Host) -> Parts:
    """A router and an adapter for every named layer, and the loss that asks for skipping."""
    layers = settings.resolve_layers(host.num_layers)
    patches: dict[int, LayerPatch] = {layer: SkippableLayer(layer, settings, host.hidden_size) for layer in layers}
    return Parts(patches=patches, losses=(SkipHinge(settings.target_skip, settings.sparsity_weight),))


class Adapter(nn.Module):
    """What stands in for a layer: down, ReLU, up."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, width, bias=False)
        self.up = nn.Linear(width, hidden_size, bias=False)

    def reset_parameters(self) -> None:
        """Xavier's uniform draw, as the authors'."""
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.xavier_uniform_(self.up.weight)

    def forward(self, normed: Tensor) -> Tensor:
        """float[n, D] to the same."""
        out: Tensor = self.up(self.down(normed).relu())
        return out


class SkippableLayer(LayerPatch):
    """A layer that a sample may skip."""

    looks = frozenset({TURNS})

    def __init__(self, layer: int, settings: RoeLlavaSettings, hidden_size: int) -> None:
        super().__init__(layer)
        self.settings = settings
        self.router = nn.Linear(2 * hidden_size, 2, bias=False)
        self.adapter = Adapter(hidden_size, settings.resolve_width(hidden_size))
        self._per_row = adapter_macs(hidden_size, settings.resolve_width(hidden_size))

    def forward(self, call: LayerCall) -> tuple[Tensor, PatchRecord | None]:
        """Mix both paths, decide between them, or do as the prefill decided."""
        if call.past is not None:
            return self._run_some(call, np.asarray(call.past) > 0), None
        turns = turns_of(call)
        return self._mix(call, turns) if self.training else self._decide(call, turns)

    def _mix(self, call: LayerCall, turns: list[Turn]) -> tuple[Tensor, PatchRecord | None]:
        normed_TD = call.normed()
        router_M2 = self.router(router_inputs(normed_TD, turns)).float()
        phase = phase_at(self.progress, self.settings)
        logits_M2 = phase.logits(router_M2)
        weights_M2 = phase.weights(logits_M2)
        samples = list(dict.fromkeys(turn.sample for turn in turns))
        of_sample = [[m for m, turn in enumerate(turns) if turn.sample == sample] for sample in samples]
        # Pictures and system prompt follow the mean of the turns' logits. Weights of turns, of samples, of the rest.
        means = [logits_M2[own].mean(dim=0) for own in of_sample]
        weights_S2 = phase.weights(torch.stack(means)) if means else weights_M2
        weights_N2 = torch.cat([weights_M2, weights_S2, weights_M2.new_tensor([[1.0, 0.0]])])
        follows = np.full(len(normed_TD), len(weights_N2) - 1)
        for number, turn in enumerate(turns):
            follows[turn.rows] = number
            follows[turn.picture] = len(turns) + samples.index(turn.sample)
        weights_T2 = weights_N2[torch.from_numpy(follows).to(normed_TD.device)].to(normed_TD.dtype)
        skipped_TD = call.hidden_TD + self.adapter(normed_TD)
        mixed_TD = weights_T2[:, :1] * call.run() + weights_T2[:, 1:] * skipped_TD
        probs = [weights_M2[own].mean(dim=0) for own in of_sample]
        record = self._record(
            call,
            choices=["mix" if sample in samples else "run" for sample in range(len(call.lengths))],
            turns=turns,
            adapted=call.lengths,
            new_macs=(),
            probs_BE=torch.stack(probs) if probs else weights_M2,
        )
        return joined(mixed_TD, [router_M2]), record

    def _decide(self, call: LayerCall, turns: list[Turn]) -> tuple[Tensor, PatchRecord | None]:
        last = list({turn.sample: turn for turn in turns}.values())
        logits_B2 = self.router(router_inputs(call.normed(), last)).float()
        chosen = (logits_B2[:, RUN] <= logits_B2[:, 1 - RUN]).long().tolist()
        runs = np.ones(len(call.lengths), dtype=bool)
        runs[[turn.sample for turn in last]] = [choice == RUN for choice in chosen]
        out_TD = self._run_some(call, runs)
        record = self._record(
            call,
            choices=["run" if is_run else "skip" for is_run in runs],
            turns=last,
            adapted=tuple(0 if is_run else length for is_run, length in zip(runs, call.lengths, strict=True)),
            new_macs=tuple(0 if is_run else self._per_row for is_run in runs),
            probs_BE=logits_B2.softmax(dim=-1),
            expert_index=tuple(chosen),
        )
        return out_TD, record

    def _run_some(self, call: LayerCall, runs: np.ndarray) -> Tensor:
        """float[T, D]: samples bool[B] through the layer, all others through the adapter."""
        rows, others = (call.rows_of(np.flatnonzero(chosen).tolist()) for chosen in (runs, ~runs))
        out_TD = call.merged(rows, call.run(rows))
        places = torch.from_numpy(others).to(out_TD.device)
        adapted = call.hidden_TD[places] + self.adapter(call.normed()[places])
        return out_TD.index_copy(0, places, adapted.to(out_TD.dtype))

    def _record(
        self,
        call: LayerCall,
        *,
        choices: list[str],
        turns: list[Turn],
        adapted: tuple[int, ...],
        new_macs: tuple[int, ...],
        probs_BE: Tensor,
        expert_index: tuple[int, ...] = (),
    ) -> PatchRecord | None:
        """What ran; `adapted`: rows per sample that the adapter ran over."""
        width = call.hidden_TD.shape[1]
        asked = np.bincount([turn.sample for turn in turns], minlength=len(call.lengths))
        macs = {
            "router": tuple(router_macs(width) * int(count) for count in asked),
            "adapter": tuple(self._per_row * rows for rows in adapted),
        }
        return call.record(
            choices=choices, macs=macs, new_macs=new_macs, router_probs_BE=probs_BE, expert_index=expert_index
        )
