"""PyramidDrop's ranking: attention of the next layer, mean over heads (arXiv 2410.17247; spec peer-methods 6.2).

The authors' code projects queries, keys and values of all tokens for it, and output too; here keys of all and queries
of the rows that ask, billed as such.
"""

from __future__ import annotations

from torch import Tensor

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.keeping import Ranker, columns_of
from dpn_model.methods.probe import NEXT_LAYER, Probe
from dpn_model.methods.pyramiddrop.spec import PyramidDropSettings
from dpn_model.methods.settings import kept_count
from dpn_model.packing import PackedSequence


def build(settings: PyramidDropSettings, host: Host) -> Parts:
    """A drop at every site."""
    shares = settings.shares(host.num_layers)
    return Parts({site: PyramidDrop(site, settings.positions, share) for site, share in shares.items()})


class PyramidDrop(Ranker):
    """Keeps what the rows that ask will look at most in the layer behind.

    Args:
        layer, positions: as in `Ranker`.
        share: of the tokens that entered the decoder, rounded down as in the authors' code.
    """

    looks = frozenset({NEXT_LAYER})

    def __init__(self, layer: int, positions: str, share: float) -> None:
        super().__init__(layer, positions)
        self.share = share

    def count(self, entered: int, now: int) -> int:
        """Of the tokens that entered."""
        return min(now, kept_count(self.share, entered, int))

    def scores(self, state: PackedSequence, probe: Probe) -> list[Tensor]:
        """Mean attention over heads and, in training, over turns."""
        weights = probe.next_attention()
        return [weights[image.sample].mean(dim=(0, 1))[columns_of(state, image)] for image in state.images]
