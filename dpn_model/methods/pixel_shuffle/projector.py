"""InternVL's projector: blocks of patches side by side, norm, two matrices (spec peer-methods 4.3).

Shape letters: I images, P patches of one image, V tokens of one image after, C width of the tower, D model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.pixel_shuffle.spec import PixelShuffleSettings
from dpn_model.methods.projecting.layers import SizedProjector, blocks, two_layers
from dpn_model.methods.projecting.settings import Sizes


def build(settings: PixelShuffleSettings, host: Host) -> Parts:
    """One projector."""
    return Parts(projector=PixelShuffle(settings, Sizes.of(host.shape)))


class PixelShuffle(SizedProjector):
    """A token is a block's patches, side by side in the order (r, c), (r, c + 1), (r + 1, c), (r + 1, c + 1)."""

    def __init__(self, settings: PixelShuffleSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.factor, self.by_columns = settings.factor, settings.order == "v1"
        width = settings.factor**2 * sizes.vision_size
        self.norm = nn.LayerNorm(width)
        self.mlp = two_layers(width, sizes.hidden_size)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, D]."""
        tokens: Tensor = self.mlp(self.norm(self.shuffled(features_IPC, height, width)))
        return tokens

    def shuffled(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, factor ** 2 * C]."""
        tokens = blocks(features_IPC, height, width, self.factor).flatten(2)
        if self.by_columns:
            grid = (height // self.factor, width // self.factor)
            tokens = tokens.unflatten(1, grid).transpose(1, 2).flatten(1, 2)
        return tokens
