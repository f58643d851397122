"""LDP-v2's layers (spec peer-methods 4.6).

Shape letters: I images, P patches of one image, V tokens of one image after, C width of the tower, D model width, H,
W the grid of tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.ldpv2.spec import KERNEL, LdpV2Settings
from dpn_model.methods.projecting.layers import SizedProjector, two_layers
from dpn_model.methods.projecting.settings import Sizes


def build(settings: LdpV2Settings, host: Host) -> Parts:
    """One projector."""
    return Parts(projector=LdpV2(settings, Sizes.of(host.shape)))


class LdpV2(SizedProjector):
    """MLP on every patch, adaptive mean, and a depthwise convolution that is added to what it reads."""

    def __init__(self, settings: LdpV2Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width = sizes.hidden_size
        self.mlp = two_layers(sizes.vision_size, width)
        self.positions = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, D]."""
        planes = self.mlp(features_IPC).transpose(1, 2).unflatten(2, (height, width))
        return self.tail(adaptive_avg_pool2d(planes, self.tokens)).flatten(2).transpose(1, 2)

    def tail(self, planes_IDHW: Tensor) -> Tensor:
        """float[I, D, H, W] to the same."""
        return planes_IDHW + self.positions(planes_IDHW)
