"""Static pyramid: one fixed kernel for every sample, no router, no scaling (paper table 3; spec A.4 row 30)."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.methods.static.spec import StaticSettings
from dpn_model.packing import PackedSequence


def build(settings: StaticSettings, host: Host) -> Parts:
    """One kernel at every site."""
    sites = settings.kernels_by_site(host.num_layers)
    return Parts({layer: StaticPooling(layer, settings, host.hidden_size, kernels) for layer, kernels in sites.items()})


class StaticPooling(PoolingSite):
    """Pools every image with the site's one kernel."""

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """The one kernel."""
        return Decision((0,) * len(samples))
