"""Average pooling as a selector: the base's projector stays, with what it has learned (spec peer-methods 4.2).

M3 and AVG-LLaVA pool behind the projector, the comparison of projectors in front of it; its GELU makes them differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dpn_model.methods.avgpool.spec import AvgPoolSettings, check
from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.pooling.experts import mean_of_windows, pool_image
from dpn_model.methods.probe import VisionProbe
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.settings import parse_kernel
from dpn_model.packing import ImageSpan


def build(settings: AvgPoolSettings, host: Host) -> Parts:
    """One selector. Raises ValueError as `check`."""
    check(settings, host.shape)
    return Parts(selector=AvgPool(settings))


class AvgPool(Selector):
    """The mean of every window, stride as the kernel; a grid again."""

    def __init__(self, settings: AvgPoolSettings) -> None:
        super().__init__()
        self.settings = settings
        self.kernel = parse_kernel(settings.kernel)
        self.before_projector = settings.where == "pre"

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """For each picture, its windows. Raises ValueError where the kernel does not divide a picture's grid."""
        for image in images:
            self.settings.grid(image.height, image.width)
        return [pool_image(image, self.kernel, pool=mean_of_windows) for image in images]

    def describe(self, image: ImageSpan, rows: ImageRows) -> str:
        """The kernel, as pooling methods tell it."""
        return self.settings.kernel
