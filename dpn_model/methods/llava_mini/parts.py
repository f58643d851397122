"""LLaVA-Mini's pre-fusion: layers in front of the decoder in which words see the picture (arXiv 2501.03895).

Their input is a picture's projected patches, its compressed tokens and the instruction, in this order, causal. Out of
it come the instruction's rows and the compressed tokens, which the decoder gets; patches go. What is answered is not
fused, so a token behind the cache, and an answer in training, enter the decoder as they are. Of a sample's pictures
each is fused by itself, and words become the mean, as over frames in the authors' code; of several turns only the
first question is fused (there, all are). The layers begin as the decoder's first (the authors load layers of their
own), and embeddings get no gradient through them, as there.

Shape letters: T packed rows, P patches and Q compressed tokens of a picture, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.contract import Host, Parts, TokenReducer, joined
from dpn_model.methods.instruction import instruction_rows
from dpn_model.methods.llava_mini.compressor import MiniProjector
from dpn_model.methods.llava_mini.spec import LlavaMiniSettings
from dpn_model.methods.probe import TURNS, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.packing import ImageSpan, PackedSequence
from dpn_model.positions import renumbered_positions


def build(settings: LlavaMiniSettings, host: Host) -> Parts:
    """A projector that compresses, and the fusion in front of the first layer."""
    projector = MiniProjector(settings, settings.sizes(host.shape))
    return Parts({0: Fusion(settings, host.copy_layers(0, settings.depth))}, projector=projector)


class Fusion(TokenReducer):
    """Fuses, and leaves the compressed tokens of every picture."""

    looks = frozenset({TURNS})

    def __init__(self, settings: LlavaMiniSettings, layers: nn.ModuleList) -> None:
        super().__init__(0)
        self.side = settings.side
        self.layers = layers

    def reset_parameters(self) -> None:
        """The layers begin as copies."""

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Fuse the words of every sample with its pictures; in training the layers run on a text-only batch too."""
        tokens_in = state.visual_tokens()
        if not state.images:
            if self.training or self.joins_ranks:
                row = rows_alone(state, state.hidden_TD.new_zeros(1, state.hidden_TD.shape[1]), (1,))
                fused, _, _ = probe.run_on(list(self.layers), row)
                state = state.with_hidden(joined(state.hidden_TD, [fused.hidden_TD]))
            return state, ReductionRecord.of_nothing(self.layer, state.num_samples)
        words = {image.sample: instruction_rows(state, image.sample) for image in state.images}
        fused, _, spent = probe.run_on(list(self.layers), self._input(state, words))
        state = state.with_hidden(self._written(state, words, fused.hidden_TD))
        compressed = self.side**2
        rows = [
            ImageRows(image.num_tokens - compressed + np.arange(compressed)[:, None], self.side, self.side)
            for image in state.images
        ]
        after, _ = replace_image_rows(state, rows)
        macs = [0] * state.num_samples
        for image, cost in zip(state.images, spent, strict=True):
            macs[image.sample] += cost
        tokens_out = after.visual_tokens()
        choices = tuple(str(out) if tokens else "-" for tokens, out in zip(tokens_in, tokens_out, strict=True))
        return after, ReductionRecord(self.layer, tokens_in, tokens_out, choices, macs={"prefusion": tuple(macs)})

    def _input(self, state: PackedSequence, words: dict[int, np.ndarray]) -> PackedSequence:
        """Per picture: patches, compressed tokens, the instruction of its sample."""
        pieces: list[Tensor] = []
        for image in state.images:
            places = torch.from_numpy(words[image.sample]).to(state.hidden_TD.device)
            pieces += [state.hidden_TD[image.start : image.start + image.num_tokens], state.hidden_TD[places].detach()]
        lengths = tuple(image.num_tokens + len(words[image.sample]) for image in state.images)
        return rows_alone(state, torch.cat(pieces), lengths)

    def _written(self, state: PackedSequence, words: dict[int, np.ndarray], fused_TD: Tensor) -> Tensor:
        """float[T, D]: the batch with fused words and compressed tokens in their rows."""
        compressed, means, start = self.side**2, dict[int, Tensor](), 0
        targets: list[np.ndarray] = []
        sources: list[Tensor] = []
        for image in state.images:
            end = start + image.num_tokens
            targets.append(image.start + image.num_tokens - compressed + np.arange(compressed))
            sources.append(fused_TD[end - compressed : end])
            share = fused_TD[end : end + len(words[image.sample])] / _pictures(state.images, image.sample)
            means[image.sample] = means[image.sample] + share if image.sample in means else share
            start = end + len(words[image.sample])
        targets += [words[sample] for sample in means]
        sources += list(means.values())
        places = torch.from_numpy(np.concatenate(targets)).to(fused_TD.device)
        return state.hidden_TD.index_copy(0, places, torch.cat(sources).to(state.hidden_TD.dtype))


def _pictures(images: Sequence[ImageSpan], sample: int) -> int:
    return sum(image.sample == sample for image in images)


def rows_alone(state: PackedSequence, hidden_TD: Tensor, lengths: tuple[int, ...]) -> PackedSequence:
    """Rows of any origin as a batch of its own, counted from 0: enough for layers to run over."""
    none = np.empty(0, dtype=np.int64)
    rows = torch.arange(len(hidden_TD), device=hidden_TD.device)
    return replace(
        state,
        hidden_TD=hidden_TD,
        kind_T=torch.zeros_like(rows, dtype=torch.int8),
        token_index_T=rows,
        position_ids_T=renumbered_positions(state.position_ids_T, lengths, ()),
        lengths=lengths,
        images=(),
        router_rows_R=none,
        asking_rows_R=none,
        sample_keys=(),
        injections=(),
        passages=(),
        weight_T=None,
        key_bias_T=None,
    )
