"""Random-kernel pyramid: every sample's kernel is drawn uniformly, no router, no scaling (spec A.4 row 30)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.methods.random_kernel.spec import RandomKernelSettings
from dpn_model.packing import PackedSequence
from dpn_model.sample_keys import uniform_draws


def build(settings: RandomKernelSettings, host: Host) -> Parts:
    """A draw at every site."""
    sites = settings.kernels_by_site(host.num_layers)
    return Parts(
        {layer: RandomKernelPooling(layer, settings, host.hidden_size, kernels) for layer, kernels in sites.items()}
    )


class RandomKernelPooling(PoolingSite):
    """Uniform over the feasible experts.

    In training every call draws anew from torch's generator, which activation checkpointing replays; at inference the
    draw depends on (seed, layer, the sample itself), so that an answer does not depend on its batch.
    """

    method: RandomKernelSettings

    @property
    def needs_sample_keys(self) -> bool:
        """At inference only."""
        return not self.training

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """One feasible expert per sample."""
        if self.training:
            draws = torch.rand(len(samples), dtype=torch.float64).numpy()
        else:
            draws = uniform_draws([state.sample_keys[sample] for sample in samples], self.method.seed, self.layer)
        feasible = [np.flatnonzero(row) for row in tokens_BE]
        return Decision(tuple(int(row[int(draw * len(row))]) for row, draw in zip(feasible, draws, strict=True)))
