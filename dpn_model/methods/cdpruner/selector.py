"""CDPruner's choice: the greedy mode of a determinantal point process, conditioned on the question (peer-methods 5.6).

Shape letters: G pictures of one size, V visual tokens of each, K kept of each, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dpn_model.methods.cdpruner.spec import CdPrunerSettings
from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.diverse import DiversePatches, cosines
from dpn_model.methods.probe import TURNS, VisionProbe
from dpn_model.methods.rows import ImageRows
from dpn_model.packing import ImageSpan

#: relevance of the least relevant token, which keeps the kernel from being singular; the authors' number
_LEAST = 1e-6
#: variance that is left, below which a token counts as a combination of those that are kept
_NOTHING_LEFT = 1e-8


def build(settings: CdPrunerSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=CdPruner(settings, host.hidden_size))


class CdPruner(DiversePatches):
    """Works on projected tokens; relevance is scaled picture by picture (the authors' code: over the whole batch)."""

    def __init__(self, settings: CdPrunerSettings, hidden_size: int) -> None:
        super().__init__(settings.keep, settings.positions, hidden_size)
        self.settings = settings
        self.looks = frozenset({TURNS} if settings.relevance == "embeddings" else ())

    def picks(self, tokens_GVD: Tensor, count: int, images: Sequence[ImageSpan], probe: VisionProbe) -> Tensor:
        """int64[G, K]."""
        kernel_GVV = cosines(tokens_GVD)
        if self.settings.relevance == "embeddings" and probe.stands_in_text:
            questions = {image.sample: probe.question_embeddings(image.sample) for image in images}
            means = {sample: F.normalize(words.float(), dim=-1).mean(dim=0) for sample, words in questions.items()}
            question_GD = torch.stack([means[image.sample] for image in images])
            # The mean of cosines is the product with the mean of unit vectors.
            mean_GV = (F.normalize(tokens_GVD.float(), dim=-1) @ question_GD[:, :, None]).squeeze(-1)
            relevance_GV = scaled(mean_GV, self.settings.theta)
            kernel_GVV = relevance_GV[:, :, None] * kernel_GVV * relevance_GV[:, None, :]
        return greedy_mode(kernel_GVV, count)

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """See `CdPrunerSettings.macs`."""
        return self.settings.macs(image.num_tokens, self.hidden_size)


def scaled(relevance_GV: Tensor, theta: float | None = None) -> Tensor:
    """Relevance of each picture's tokens from just above 0 to 1; through the paper's exponential with a `theta`."""
    least_G1, most_G1 = relevance_GV.amin(dim=1, keepdim=True), relevance_GV.amax(dim=1, keepdim=True)
    scaled_GV = (relevance_GV - least_G1 + _LEAST) / (most_G1 - least_G1).clamp_min(_LEAST)
    return scaled_GV if theta is None else torch.exp(theta / (2 * (1 - theta)) * scaled_GV)


def greedy_mode(kernel_GVV: Tensor, count: int) -> Tensor:
    """int64[G, K], in the order of choice: always the token that adds most to the determinant; of equals, the first.

    One row of the Cholesky factor a step. Tokens that are combinations of those kept add nothing, and are taken last:
    the authors' code divides by what is left of them, rounding included.
    """
    pictures = torch.arange(len(kernel_GVV), device=kernel_GVV.device)
    left_GV = kernel_GVV.diagonal(dim1=1, dim2=2).clone()
    factor_GKV = kernel_GVV.new_zeros(len(kernel_GVV), count, kernel_GVV.shape[1])
    chosen: list[Tensor] = []
    for step in range(count):
        pick_G = left_GV.argmax(dim=1)
        chosen.append(pick_G)
        row_GV = kernel_GVV[pictures, pick_G]
        if step:
            rows_GSV = factor_GKV[:, :step]
            row_GV = row_GV - (rows_GSV[pictures, :, pick_G][:, None] @ rows_GSV).squeeze(1)
        left_G1 = left_GV[pictures, pick_G][:, None]
        row_GV = torch.where(left_G1 > _NOTHING_LEFT, row_GV * left_G1.clamp_min(_NOTHING_LEFT).rsqrt(), 0.0)
        factor_GKV[:, step] = row_GV
        left_GV = left_GV - row_GV.square()
        left_GV[pictures, pick_G] = -torch.inf
    return torch.stack(chosen, dim=1)
