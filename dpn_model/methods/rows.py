"""New rows out of old ones: what a reduction keeps, pools or merges of every image, and the packed batch behind it.

Shape letters: B samples, T packed tokens, V rows of one image after, K cells of a window, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.windows import PoolWindows, WindowGroup, max_of_windows, pool_rows
from dpn_model.packing import ImageSpan, PackedSequence
from dpn_model.positions import renumbered_positions


@dataclass(frozen=True)
class ImageRows:
    """How one image's rows are made from old ones.

    Attributes:
        windows: int64[V, K], rows relative to the image's first; -1 where a window lacks a cell, never its first.
            The first cell gives a new row its place: its position where positions are kept, and its kind.
        height, width, is_grid, row_end: of the image after (`ImageSpan`).
        pool: what becomes of a window of several cells.
        weights: float[V, K], in place of `pool`: a new row is the sum of its cells times these (0 where absent). A
            weighted mean has weights that add up to 1; PruMerge's need not.
        made: float[V, C], of a selector in front of the projector, which has worked the new rows out itself (a mean
            over hundreds of cells, a class token); windows then have one cell, and only give places.
        mass: float[V], of rows that were made (`PackedSequence.weight_T`).
        plain: so many rows, the first, are their first cell as it is, whatever their weights say.
    """

    windows: np.ndarray
    height: int
    width: int
    is_grid: bool = True
    pool: PoolWindows = max_of_windows
    row_end: int = 0
    weights: Tensor | None = None
    made: Tensor | None = None
    mass: Tensor | None = None
    plain: int = 0

    @classmethod
    def kept(cls, rows: np.ndarray) -> ImageRows:
        """Some rows as they are, int64[V] ascending; they are no grid any more."""
        return cls(rows[:, None], 1, len(rows), is_grid=False)

    @classmethod
    def merged(cls, windows: np.ndarray, weights: Tensor, plain: int = 0) -> ImageRows:
        """Weighted sums of rows, int64[V, K] and float[V, K], behind `plain` rows as they are; no grid any more."""
        return cls(windows, 1, len(windows), is_grid=False, weights=weights, plain=plain)

    def group(self, start: int, written: int) -> WindowGroup:
        """Windows to be pooled, of an image whose old rows begin at `start` and whose new ones at `written`."""
        windows = self.windows[self.plain :]
        targets = np.arange(written + self.plain, written + len(self.windows))
        weights = None if self.weights is None else self.weights[self.plain :]
        return WindowGroup(self.pool, np.where(windows < 0, -1, start + windows), targets, weights)

    @classmethod
    def given(cls, places: np.ndarray, made: Tensor, mass: Tensor) -> ImageRows:
        """Rows worked out already, float[V, C] with float[V], at the places of int64[V]; no grid any more."""
        return cls(places[:, None], 1, len(places), is_grid=False, made=made, mass=mass)


def replace_image_rows(
    state: PackedSequence,
    rows: Sequence[ImageRows],
    *,
    keep_positions: bool = False,
    always: Sequence[tuple[PoolWindows, int]] = (),
) -> tuple[PackedSequence, Tensor]:
    """Rebuild a packed batch in which every image's rows are made from windows of its old rows.

    A new row's mass (`PackedSequence.weight_T`) is the sum of its cells' masses. What `ImageRows.made` holds is not
    looked at: it is as wide as the tower (see `pick_rows`).

    Args:
        state: the batch before.
        rows: one entry per `state.images`.
        keep_positions: keep the rotary position of each window's first cell instead of renumbering 0..n-1.
        always: poolings, with the cells of their windows, that run first and in this order, on no window if need be.

    Returns:
        The batch after, and int64[T_out]: the image (index into `images`) behind every row, -1 for text.
    """
    first_T, image_T, groups, spans, lengths = _plan_rows(state, rows, always)
    if state.injections and any(isinstance(group.pool, nn.Module) for group in groups):
        raise ValueError(
            f"method.pool = conv at a site behind which {len(state.injections)} more layers add to visual tokens; "
            "allowed there: max, avg"
        )
    device = state.hidden_TD.device
    first = torch.from_numpy(first_T).to(device)
    hidden_TD = pool_rows(state.hidden_TD, first, groups)
    # What later layers add to a picture's tokens is pooled as the tokens are, so that each gets one share of it.
    injections = tuple(pool_rows(injected_TD, first, groups) for injected_TD in state.injections)
    positions = (
        state.position_ids_T[first] if keep_positions else renumbered_positions(state.position_ids_T, lengths, spans)
    )
    after = replace(
        state,
        hidden_TD=hidden_TD,
        kind_T=state.kind_T[first],
        token_index_T=state.token_index_T[first],
        position_ids_T=positions,
        lengths=lengths,
        images=spans,
        router_rows_R=np.flatnonzero(np.isin(first_T, state.router_rows_R)),
        asking_rows_R=np.flatnonzero(np.isin(first_T, state.asking_rows_R)),
        injections=injections,
        weight_T=_masses(state, first, groups, rows, spans),
        key_bias_T=None if state.key_bias_T is None else state.key_bias_T[first],
    )
    return after, torch.from_numpy(image_T).to(device)


def pick_rows(tokens_VD: Tensor, images: Sequence[ImageSpan], rows: Sequence[ImageRows]) -> Tensor:
    """float[V, D] of pictures end to end, spans counted from 0 -> float[V after, D]; all are picked, or all made."""
    made = [new.made for new in rows if new.made is not None]
    if made:
        return torch.cat(made).to(tokens_VD.dtype)
    first: list[np.ndarray] = []
    groups: list[WindowGroup] = []
    written = 0
    for image, new in zip(images, rows, strict=True):
        first.append(image.start + new.windows[:, 0])
        if new.windows.shape[1] > 1 or new.weights is not None:
            groups.append(new.group(image.start, written))
        written += len(new.windows)
    return pool_rows(tokens_VD, torch.from_numpy(np.concatenate(first)).to(tokens_VD.device), groups)


def _masses(
    state: PackedSequence,
    first_T: Tensor,
    groups: Sequence[WindowGroup],
    rows: Sequence[ImageRows],
    spans: Sequence[ImageSpan],
) -> Tensor | None:
    """float[T_out]; None while every row stands for itself alone: rows were dropped or pooled on a grid, not merged."""
    made = [(span, new.mass) for span, new in zip(spans, rows, strict=True) if new.mass is not None]
    if state.weight_T is None and not made and not any(group.weights is not None for group in groups):
        return None
    before_T = torch.ones(len(state.hidden_TD), device=first_T.device) if state.weight_T is None else state.weight_T
    after_T = before_T[first_T]
    for span, mass_V in made:
        after_T[span.start : span.start + span.num_tokens] = mass_V.to(after_T)
    for group in groups:
        targets = torch.from_numpy(group.targets_V).to(first_T.device)
        cells_VK = before_T[torch.from_numpy(np.maximum(group.rows_VK, 0)).to(first_T.device)]
        present_VK = torch.from_numpy(group.rows_VK >= 0).to(first_T.device)
        after_T = after_T.index_copy(0, targets, (cells_VK * present_VK).sum(dim=1))
    return after_T


def _plan_rows(
    state: PackedSequence, rows: Sequence[ImageRows], always: Sequence[tuple[PoolWindows, int]]
) -> tuple[np.ndarray, np.ndarray, list[WindowGroup], tuple[ImageSpan, ...], tuple[int, ...]]:
    """Index arrays on the host: source row and image of every new row, and the windows by pooling and size."""
    pieces: list[np.ndarray] = []
    images: list[np.ndarray] = []
    groups: dict[tuple[PoolWindows, int], list[tuple[np.ndarray, np.ndarray]]] = {
        (pool, cells): [(np.empty((0, cells), np.int64), np.empty(0, np.int64))] for pool, cells in always
    }
    merged: list[WindowGroup] = []
    spans, lengths = [], list(state.lengths)
    read = written = 0
    for number, (old, new) in enumerate(zip(state.images, rows, strict=True)):
        pieces += [np.arange(read, old.start), old.start + new.windows[:, 0]]
        images += [np.full(old.start - read, -1), np.full(len(new.windows), number)]
        written += old.start - read
        if new.windows.shape[1] > 1 or new.weights is not None:
            group = new.group(old.start, written)
            if new.weights is None:
                groups.setdefault((new.pool, new.windows.shape[1]), []).append((group.rows_VK, group.targets_V))
            else:
                merged.append(group)
        spans.append(ImageSpan(old.sample, written, new.height, new.width, new.is_grid, new.row_end))
        lengths[old.sample] += len(new.windows) - old.num_tokens
        written += len(new.windows)
        read = old.start + old.num_tokens
    pieces.append(np.arange(read, sum(state.lengths)))
    images.append(np.full(len(pieces[-1]), -1))
    pooled = [
        WindowGroup(pool, np.concatenate([source for source, _ in group]), np.concatenate([t for _, t in group]))
        for (pool, _), group in groups.items()
    ]
    return np.concatenate(pieces), np.concatenate(images), pooled + merged, tuple(spans), tuple(lengths)
