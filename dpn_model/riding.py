"""What rides with a packed batch up to a reducer: a row per sample with a picture, of which only the reducer hears.

Shape letters: B samples, T packed tokens, R riders, L layers up to the reducer, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dpn_model.attention.riders import Riders
from dpn_model.methods.contract import TokenReducer
from dpn_model.methods.instruction import prompt_end
from dpn_model.packing import PackedSequence
from dpn_model.positions import positions_behind


class Riding:
    """The rows of one batch; they stand, in position and in what they see, where its samples begin to answer.

    Args:
        state: the batch in front of the first layer.
        embedded_LD: what the rows begin with, and what is added to them in front of every further layer.
    """

    def __init__(self, state: PackedSequence, embedded_LD: Tensor) -> None:
        device, samples = state.hidden_TD.device, sorted({image.sample for image in state.images})
        starts = [state.starts[sample] for sample in samples]
        ends = [prompt_end(state, sample) for sample in samples]
        seen = [end - start for start, end in zip(starts, ends, strict=True)]
        self.riders = Riders(len(state.hidden_TD), starts, seen, device)
        last_R = torch.tensor(ends, dtype=torch.int64, device=device) - 1
        self.position_ids_R = positions_behind(state.position_ids_T, last_R)
        self._embedded_LD = embedded_LD
        self._hidden_RD = embedded_LD.new_zeros(len(samples), embedded_LD.shape[1])

    def joining(self, layer: int, hidden_TD: Tensor) -> Tensor:
        """float[T + R, D]: a batch in front of `layer` (1-based), the riders behind it."""
        riding = self._hidden_RD + self._embedded_LD[layer - 1]
        return torch.cat([hidden_TD, riding.to(hidden_TD.dtype)])

    def leaving(self, hidden_TD: Tensor) -> Tensor:
        """float[T, D]: of float[T + R, D] behind a layer the batch alone; the riders are kept for the next."""
        batch_TD, self._hidden_RD = hidden_TD.split([self.riders.behind, len(self.riders.seen)])
        return batch_TD


def riding_with(state: PackedSequence, reducers: Mapping[int, TokenReducer], joins: bool) -> Riding | None:
    """The riders of the first reducer, where it has some and the batch has a picture, or `joins` (see `Part`)."""
    rider = next((reducers[site].rider for site in sorted(reducers)), None)
    return Riding(state, rider()) if rider is not None and (state.images or joins) else None
