"""M3's pooling: one scale at inference, several in training (arXiv 2405.17430; spec peer-methods 9).

In training a sample goes through the decoder once per scale, its copies side by side in one batch; tower and projector
run once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.m3.spec import M3Settings
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.packing import PackedSequence


def build(settings: M3Settings, host: Host) -> Parts:
    """One site."""
    on_grid = settings.on_grid(host.image_grid)
    (layer,) = on_grid.resolve_sites(host.num_layers)
    site = Matryoshka(layer, on_grid, host.hidden_size)
    return Parts({layer: site}, copies=len(on_grid.scales) if settings.training == "all" else 1)


class Matryoshka(PoolingSite):
    """Pools all pictures of a sample with one kernel."""

    method: M3Settings

    def __init__(self, layer: int, settings: M3Settings, hidden_size: int) -> None:
        super().__init__(layer, settings, hidden_size, tuple(dict.fromkeys((*settings.scales, settings.scale))))

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """The picked scale; in training each copy's own, or one that is drawn.

        Raises:
            ValueError: it leaves a picture too few tokens.
        """
        scales = len(self.method.scales)
        if state.copies > 1:
            chosen = [state.copy_of(sample) for sample in samples]
        elif self.training and self.method.training == "sampled":
            chosen = [int(torch.randint(scales, ()))] * len(samples)
        else:
            chosen = [self.expert_names.index(self.method.scale)] * len(samples)
        for sample, scale, tokens in zip(samples, chosen, tokens_BE, strict=True):
            if not tokens[scale]:
                raise ValueError(
                    f"scale = {self.expert_names[scale]} leaves a picture of sample {sample} fewer tokens than "
                    f"min_tokens = {self.method.min_tokens}; take a smaller kernel"
                )
        return Decision(tuple(chosen))
