"""Static pyramid: one fixed kernel for every sample, no router, no scaling (paper table 3; spec A.4 row 30)."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_model.methods.method import Method
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.packing import PackedSequence


class StaticPooling(PoolingSite):
    """Pools every image with `method.kernel`."""

    def __init__(self, layer: int, method: Method, hidden_size: int) -> None:
        super().__init__(layer, method, hidden_size, (method.kernel,))

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """The one kernel."""
        return Decision((0,) * len(samples))
