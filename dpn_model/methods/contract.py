"""The contract of every token-reduction method, and the record of what one reduction did.

A method looks at a packed state after a layer and returns a smaller one with a `ReductionRecord`. The routing loss,
the FLOPs account, the routing statistics and the logged curves all read that one record.

Shape letters: B samples, T packed tokens, D model width, E experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.windows import PoolWindows, WindowGroup, max_of_windows, pool_rows
from dpn_model.packing import ImageSpan, PackedSequence
from dpn_model.positions import renumbered_positions


@dataclass(frozen=True)
class ReductionRecord:
    """What one reduction did.

    Attributes:
        layer: 1-based, "after layer N".
        tokens_in, tokens_out: visual tokens per sample before and after.
        choices: what was chosen per sample ("1x2", "keep 50%"); "-" for a sample without an image.
        router_probs_BE: float[B', E] of the samples that have images, None for methods without a router.
        expert_index: chosen expert of those samples, on the host.
        router_logits_BE: float32[B', E] behind the probabilities, over the temperature; -inf where not feasible.
        kernels_E: (height, width) of every expert.
        expert_tokens_BE: visual tokens of those samples each expert would have left (0: not feasible).
        method_macs: per sample, multiply-accumulates the method itself spent (routers, scores); () for none.
    """

    layer: int
    tokens_in: tuple[int, ...]
    tokens_out: tuple[int, ...]
    choices: tuple[str, ...]
    router_probs_BE: Tensor | None = None
    expert_index: tuple[int, ...] = ()
    router_logits_BE: Tensor | None = None
    kernels_E: tuple[tuple[int, int], ...] = ()
    expert_tokens_BE: tuple[tuple[int, ...], ...] = ()
    method_macs: tuple[int, ...] = ()

    def detached(self) -> ReductionRecord:
        """The same without gradients."""
        probs, logits = (None if t is None else t.detach() for t in (self.router_probs_BE, self.router_logits_BE))
        return replace(self, router_probs_BE=probs, router_logits_BE=logits)

    @property
    def keep_ratio(self) -> float:
        """Kept / original visual tokens over the batch; 1.0 without any."""
        return sum(self.tokens_out) / sum(self.tokens_in) if sum(self.tokens_in) else 1.0


class TokenReducer(nn.Module):
    """A method at one site. Subclasses implement `forward`; text and router tokens are never dropped.

    In training, every module of a reducer that has weights runs once a call, in one order, and gets a gradient,
    whatever the batch holds: sharded training (ZeRO-3) gathers weights where a module runs, on all ranks together, and
    a rank that leaves one out stops the others for good. What has nothing to do runs on no rows (see `joined`).
    """

    #: whether prompts must carry the `<ROUTER>` token
    needs_router_token = False
    #: whether every module runs in evaluation too, for ranks that evaluate a sharded model together
    joins_ranks = False

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    @property
    def needs_sample_keys(self) -> bool:
        """Whether the next batch must carry `sample_keys`: something is drawn at inference."""
        return False

    def forward(self, state: PackedSequence) -> tuple[PackedSequence, ReductionRecord]:
        """Reduce the visual tokens of `state` after layer `self.layer`."""
        raise NotImplementedError


def joined(hidden_TD: Tensor, outputs: Iterable[Tensor]) -> Tensor:
    """`hidden_TD` unchanged, from which zeros flow back to whatever computed `outputs`.

    It adds the sum of none of their rows, which unlike a sum times zero stays zero where an output is NaN.
    """
    for output in outputs:
        hidden_TD = hidden_TD + output[:0].sum().to(hidden_TD.dtype)
    return hidden_TD


@dataclass(frozen=True)
class ImageRows:
    """How one image's rows are made from old ones.

    Attributes:
        windows: int64[V_out, K], rows relative to the image's first; -1 where a window lacks a cell, never its first.
        height, width, is_grid, row_end: of the image after (`ImageSpan`).
        pool: what becomes of a window of several cells.
    """

    windows: np.ndarray
    height: int
    width: int
    is_grid: bool = True
    pool: PoolWindows = max_of_windows
    row_end: int = 0


def replace_image_rows(
    state: PackedSequence,
    rows: Sequence[ImageRows],
    *,
    keep_positions: bool = False,
    always: Sequence[tuple[PoolWindows, int]] = (),
) -> tuple[PackedSequence, Tensor]:
    """Rebuild a packed batch in which every image's rows are pooled from windows of its old rows.

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
        injections=injections,
    )
    return after, torch.from_numpy(image_T).to(device)


def _plan_rows(
    state: PackedSequence, rows: Sequence[ImageRows], always: Sequence[tuple[PoolWindows, int]]
) -> tuple[np.ndarray, np.ndarray, list[WindowGroup], tuple[ImageSpan, ...], tuple[int, ...]]:
    """Index arrays on the host: source row and image of every new row, and the windows by pooling and size."""
    pieces: list[np.ndarray] = []
    images: list[np.ndarray] = []
    groups: dict[tuple[PoolWindows, int], list[tuple[np.ndarray, np.ndarray]]] = {
        (pool, cells): [(np.empty((0, cells), np.int64), np.empty(0, np.int64))] for pool, cells in always
    }
    spans, lengths = [], list(state.lengths)
    read = written = 0
    for number, (old, new) in enumerate(zip(state.images, rows, strict=True)):
        pieces += [np.arange(read, old.start), old.start + new.windows[:, 0]]
        images += [np.full(old.start - read, -1), np.full(len(new.windows), number)]
        written += old.start - read
        if new.windows.shape[1] > 1:
            target = np.arange(written, written + len(new.windows))
            source = np.where(new.windows < 0, -1, old.start + new.windows)
            groups.setdefault((new.pool, new.windows.shape[1]), []).append((source, target))
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
    return np.concatenate(pieces), np.concatenate(images), pooled, tuple(spans), tuple(lengths)


def router_state(state: PackedSequence, which: str = "mean") -> tuple[Tensor, tuple[int, ...]]:
    """Hidden state of the routing tokens of every sample that has an image (spec A.3).

    Args:
        state: the batch, with at least one image.
        which: of a sample's routing tokens: their "mean", the "first" or the "last" one.

    Returns:
        float[B', D], and the B' sample numbers.

    Raises:
        ValueError: a sample has an image but no routing token.
    """
    with_images = sorted({image.sample for image in state.images})
    sample_R = np.searchsorted(np.cumsum(state.lengths), state.router_rows_R, side="right")
    counts_B = np.bincount(sample_R, minlength=state.num_samples)
    if counts_B[with_images].min() == 0:
        raise ValueError(
            "a sample with an image holds no <ROUTER> token; encode prompts with router=True for this method"
        )
    device = state.hidden_TD.device
    ends_B = counts_B.cumsum()[with_images]
    if which != "mean" or counts_B[with_images].max() == 1:
        places_B = ends_B - counts_B[with_images] if which == "first" else ends_B - 1
        rows_B = torch.from_numpy(state.router_rows_R[places_B]).to(device)
        return state.hidden_TD[rows_B], tuple(with_images)
    rows_R, sample_of_R = (torch.from_numpy(array).to(device) for array in (state.router_rows_R, sample_R))
    sums_BD = state.hidden_TD.new_zeros(state.num_samples, state.hidden_TD.shape[1])
    sums_BD = sums_BD.index_add(0, sample_of_R, state.hidden_TD[rows_R])
    counts_B1 = torch.from_numpy(counts_B[with_images, None]).to(device)
    return sums_BD[torch.tensor(with_images, device=device)] / counts_B1, tuple(with_images)
