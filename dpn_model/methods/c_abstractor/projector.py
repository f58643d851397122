"""The C-Abstractor's layers (spec peer-methods 4.5).

Shape letters: I images, P patches of one image, V tokens of one image after, C width of the tower, D model width, H,
W a grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, silu

from dpn_model.methods.c_abstractor.spec import KERNEL, CAbstractorSettings, squeezed
from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.projecting.layers import SizedProjector
from dpn_model.methods.projecting.settings import Sizes


def build(settings: CAbstractorSettings, host: Host) -> Parts:
    """One projector."""
    return Parts(projector=CAbstractor(settings, Sizes.of(host.shape)))


class CAbstractor(SizedProjector):
    """Convolutions around an adaptive mean, then matrices."""

    def __init__(self, settings: CAbstractorSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width = sizes.vision_size
        self.positions_PC = nn.Parameter(torch.zeros(sizes.patches, width)) if settings.pos_emb else None
        self.before, self.after = (nn.Sequential(*(Bottleneck(width) for _ in range(settings.depth))) for _ in range(2))
        layers: list[nn.Module] = [nn.Linear(width, sizes.hidden_size)]
        for _ in range(settings.mlp_depth - 1):
            layers += [nn.SiLU(), nn.Linear(sizes.hidden_size, sizes.hidden_size)]
        self.mlp = nn.Sequential(*layers)

    def draw(self) -> None:
        """Positions from a cut normal distribution."""
        if self.positions_PC is not None:
            nn.init.trunc_normal_(self.positions_PC, std=0.02)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, D]; the features stay as they are (the authors add to them in place)."""
        if self.positions_PC is not None:
            features_IPC = features_IPC + self.positions_PC
        planes = self.before(features_IPC.transpose(1, 2).unflatten(2, (height, width)))
        planes = self.after(adaptive_avg_pool2d(planes, self.tokens))
        tokens: Tensor = self.mlp(planes.flatten(2).transpose(1, 2))
        return tokens


class Bottleneck(nn.Module):
    """RegNet's block as Honeybee takes it: as wide inside as outside, its 3x3 convolution depthwise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = (nn.Conv2d(width, width, 1, bias=False) for _ in range(2))
        self.around = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width, bias=False)
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(3))
        self.squeeze = nn.Conv2d(width, squeezed(width), 1)
        self.excite = nn.Conv2d(squeezed(width), width, 1)

    def forward(self, planes_ICHW: Tensor) -> Tensor:
        """float[I, C, H, W] to the same."""
        inner = silu(self.norms[0](self.enter(planes_ICHW)))
        inner = silu(self.norms[1](self.around(inner)))
        gate = self.excite(silu(self.squeeze(inner.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        return silu(self.norms[2](self.leave(inner * gate)) + planes_ICHW)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every cell."""

    def forward(self, planes_ICHW: Tensor) -> Tensor:
        """float[I, C, H, W] to the same."""
        return super().forward(planes_ICHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
