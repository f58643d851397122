"""Downsampling in front of the tower, whose position embeddings are interpolated to the smaller grid."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from dpn_model.methods.contract import Host, Parts, Resizer
from dpn_model.methods.downsample.spec import REASON, DownsampleSettings


def build(settings: DownsampleSettings, host: Host) -> Parts:
    """One resizer.

    Raises:
        ValueError: a base whose pictures have one size.
    """
    if host.base is None or host.base.model_type != "llava":
        raise ValueError(f"name = {settings.name}: {REASON}")
    return Parts(resizer=Downsample(settings, int(host.base.vision_config.patch_size)))


class Downsample(Resizer):
    """Bicubic, and with a filter, so that what is too fine for the smaller picture is smoothed and not aliased."""

    def __init__(self, settings: DownsampleSettings, patch_size: int) -> None:
        super().__init__()
        self.settings, self.patch_size = settings, patch_size

    def forward(self, picture: Tensor) -> Tensor:
        """See `Resizer`; a picture that keeps all its patches stays as it is."""
        old = picture.shape[-2] // self.patch_size, picture.shape[-1] // self.patch_size
        height, width = self.settings.grid(*old)
        if (height, width) == old:
            return picture
        size = (height * self.patch_size, width * self.patch_size)
        smaller = interpolate(picture[None].float(), size, mode="bicubic", antialias=True)
        return smaller[0].to(picture.dtype)
