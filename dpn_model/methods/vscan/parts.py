"""VScan's two stages: picks of two layers of the tower with merging, and the next layer's attention half-way.

Shape letters: I pictures, V patches, W windows, M cells of the largest, K kept, J dropped, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.keeping import Ranker, columns_of
from dpn_model.methods.probe import NEXT_LAYER, Probe, VisionProbe, tower_layer
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.settings import kept_count
from dpn_model.methods.vscan.spec import VScanSettings
from dpn_model.packing import ImageSpan, PackedSequence


def build(settings: VScanSettings, host: Host) -> Parts:
    """A selector and a ranker.

    Raises:
        ValueError: a tower with too few layers.
    """
    settings.check_tower(getattr(getattr(host.base, "vision_config", None), "num_hidden_layers", None))
    (site,) = settings.resolve_sites(host.num_layers)
    return Parts(reducers={site: LateDrop(site, settings)}, selector=Scan(settings))


class LateDrop(Ranker):
    """Keeps what the asking rows look at most in the next layer, mean over heads, as PyramidDrop ranks."""

    looks = frozenset({NEXT_LAYER})

    def __init__(self, layer: int, settings: VScanSettings) -> None:
        super().__init__(layer, settings.positions)
        self.late_keep = settings.late_keep

    def count(self, entered: int, now: int) -> int:
        """Of what entered the decoder."""
        return kept_count(self.late_keep, entered)

    def scores(self, state: PackedSequence, probe: Probe) -> list[Tensor]:
        """Attention of the asking rows."""
        weights = probe.next_attention()
        return [weights[image.sample].mean(dim=(0, 1))[columns_of(state, image)] for image in state.images]


class Scan(Selector):
    """Works behind the projector: what is dropped is merged into the projected tokens that are kept."""

    def __init__(self, settings: VScanSettings) -> None:
        super().__init__()
        self.settings, self.positions = settings, settings.positions
        self.looks = frozenset({tower_layer(settings.local_layer), tower_layer(-2)})
        self._width = 0

    @torch.no_grad()
    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """All pictures at once: they have one size; one copy from the device."""
        tokens_IVD = tokens_VD.unflatten(0, (len(images), -1)).float()
        self._width = tokens_IVD.shape[2]
        local_IV = probe.cls_attention(self.settings.local_layer).mean(dim=1)
        kept_IK, dropped_IJ = picks(local_IV, probe.cls_attention().mean(dim=1), images[0], self.settings)
        unit_IVD = normalize(tokens_IVD, dim=2)
        kept, dropped = (unit_IVD.take_along_dim(rows[:, :, None], dim=1) for rows in (kept_IK, dropped_IJ))
        joined_IJ = (dropped @ kept.mT).argmax(dim=2) if dropped_IJ.shape[1] else dropped_IJ
        found = torch.cat([kept_IK, dropped_IJ, joined_IJ], dim=1).cpu().numpy()
        bounds = [kept_IK.shape[1], tokens_IVD.shape[1]]
        return [merged(*np.split(one, bounds)) for one in found]

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """The likeness of what is dropped to what is kept."""
        return self.settings.macs(image.num_tokens, self._width)


def picks(local_IV: Tensor, global_IV: Tensor, grid: ImageSpan, settings: VScanSettings) -> tuple[Tensor, Tensor]:
    """int64[I, K] and int64[I, J], ascending: what is kept of pictures of one grid, and what is not.

    Equally many of every window by the local layer, then of all that is left by the global one, until there are T.
    """
    count, each = kept_count(settings.keep, grid.num_tokens), settings.local_count(grid.num_tokens)
    cells_WM = torch.from_numpy(window_cells(grid.height, grid.width, settings.windows)).to(local_IV.device)
    ranked_IWM = local_IV[:, cells_WM.clamp(min=0)].masked_fill(cells_WM < 0, -1)
    best_IWE = ranked_IWM.sort(dim=2, descending=True, stable=True).indices[:, :, :each]
    best_IL = cells_WM.expand(len(local_IV), -1, -1).gather(2, best_IWE).flatten(1)
    nowhere = grid.num_tokens  # a place for what windows lack
    is_kept_IV = torch.zeros(len(local_IV), nowhere + 1, dtype=torch.bool, device=local_IV.device)
    is_kept_IV = is_kept_IV.scatter(1, best_IL.where(best_IL >= 0, nowhere), True)[:, :nowhere]
    rest_IV = global_IV.masked_fill(is_kept_IV, torch.inf)
    order_IV = rest_IV.sort(dim=1, descending=True, stable=True).indices
    return order_IV[:, :count].sort(dim=1).values, order_IV[:, count:].sort(dim=1).values


def window_cells(height: int, width: int, windows: int) -> np.ndarray:
    """int64[W, M]: cells of `windows` x `windows` parts of a grid, as equal as they can be; -1 where one is smaller."""
    rows, columns = (np.array_split(np.arange(side), windows) for side in (height, width))
    cells = np.full((windows**2, len(rows[0]) * len(columns[0])), -1)
    for number in range(windows**2):
        part = (rows[number // windows][:, None] * width + columns[number % windows]).flatten()
        cells[number, : len(part)] = part
    return cells


def merged(kept_K: np.ndarray, dropped_J: np.ndarray, joined_J: np.ndarray) -> ImageRows:
    """Every kept row becomes the plain mean of itself and those that joined it (`joined_J`: which of the kept)."""
    joiners = np.bincount(joined_J, minlength=len(kept_K)) if len(joined_J) else np.zeros(len(kept_K), np.int64)
    order = np.argsort(joined_J, kind="stable")
    place_J = np.arange(len(joined_J)) - np.repeat(np.cumsum(joiners) - joiners, joiners)
    windows = np.full((len(kept_K), 1 + int(joiners.max())), -1)
    windows[:, 0] = kept_K
    windows[joined_J[order], 1 + place_J] = dropped_J[order]
    weights = torch.from_numpy((windows >= 0) / (1 + joiners)[:, None]).float()
    return ImageRows.merged(windows, weights)
