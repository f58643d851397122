"""Choosing tokens that differ from each other, out of the cosines between all of a picture: what such selectors share.

Shape letters: G pictures of one size, V visual tokens of each, K kept of each, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dpn_model.methods.contract import Selector
from dpn_model.methods.probe import VisionProbe
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.settings import kept_count
from dpn_model.packing import ImageSpan


def cosines(tokens_GVD: Tensor) -> Tensor:
    """float32[G, V, V], a token's with itself exactly 1: rounding must not decide between equals."""
    unit_GVD = F.normalize(tokens_GVD.float(), dim=-1)
    found = unit_GVD @ unit_GVD.transpose(1, 2)
    found.diagonal(dim1=1, dim2=2).fill_(1.0)
    return found


class DiversePatches(Selector):
    """Chooses behind the projector, picture by picture (tiles and other grids of one picture each by themselves).

    Pictures of one size share their steps, since a greedy choice takes one step for every token that is kept.

    Args:
        keep: share or number of a picture's tokens.
        positions: as in `SitedSettings`.
        hidden_size: D.
    """

    def __init__(self, keep: float, positions: str, hidden_size: int) -> None:
        super().__init__()
        self.keep, self.positions, self.hidden_size = keep, positions, hidden_size

    def picks(self, tokens_GVD: Tensor, count: int, images: Sequence[ImageSpan], probe: VisionProbe) -> Tensor:
        """int64[G, K]: the tokens kept of each picture, in any order."""
        raise NotImplementedError

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """Choose, and copy what was chosen to the host once for every size of picture."""
        by_size: dict[int, list[int]] = {}
        for number, image in enumerate(images):
            by_size.setdefault(image.num_tokens, []).append(number)
        rows: dict[int, ImageRows] = {}
        for size, numbers in by_size.items():
            own = [images[number] for number in numbers]
            tokens_GVD = torch.stack([tokens_VD[image.start : image.start + size] for image in own]).detach()
            with torch.no_grad():
                chosen_GK = self.picks(tokens_GVD, kept_count(self.keep, size), own, probe)
            for number, kept in zip(numbers, chosen_GK.sort(dim=1).values.cpu().numpy(), strict=True):
                rows[number] = ImageRows.kept(kept)
        return [rows[number] for number in range(len(images))]

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """Cosines between all tokens."""
        return image.num_tokens**2 * self.hidden_size
