"""One layer about to run over a packed batch, as a patch sees it: run all rows, some, or none.

Shape letters: B samples, T packed rows, R chosen rows, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dpn_model.cost.ledger import Rows
from dpn_model.methods.records import PatchRecord
from dpn_model.packing import ImageSpan, PackedSequence

#: (rows, or None for all; whether they are renumbered) -> what the layer makes of them
RunRows = Callable[[np.ndarray | None, bool], Tensor]


class LayerCall:
    """What a `LayerPatch` is called with.

    Attributes:
        layer: 1-based.
        hidden_TD: the residual stream before the layer.
        lengths: rows per sample.
        state: the batch; None behind a cache, where all rows are text.
        past: rows of every sample that own keys in this layer, behind a cache; None in prefill and training.
        training: as of the model.
        has_run: whether the layer was called.
    """

    def __init__(
        self,
        layer: int,
        hidden_TD: Tensor,
        lengths: tuple[int, ...],
        run_rows: RunRows,
        *,
        state: PackedSequence | None = None,
        past: tuple[int, ...] | None = None,
        training: bool = False,
        norm: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.layer = layer
        self.hidden_TD = hidden_TD
        self.lengths = lengths
        self.state = state
        self.past = past
        self.training = training
        self.has_run = False
        self._run_rows = run_rows
        self._norm = norm
        self._ran: np.ndarray | None = np.empty(0, dtype=np.int64)

    @cached_property
    def starts(self) -> np.ndarray:
        """int64[B]: first row of every sample."""
        return np.concatenate(([0], np.cumsum(self.lengths)[:-1])).astype(np.int64)

    @cached_property
    def is_visual_T(self) -> np.ndarray:
        """bool[T] on the host."""
        is_visual = np.zeros(sum(self.lengths), dtype=bool)
        images: Sequence[ImageSpan] = () if self.state is None else self.state.images
        for image in images:
            is_visual[image.start : image.start + image.num_tokens] = True
        return is_visual

    def rows_of(self, samples: Sequence[int]) -> np.ndarray:
        """int64[R], ascending: all rows of some samples."""
        chosen = np.zeros(len(self.lengths), dtype=bool)
        chosen[list(samples)] = True
        return np.flatnonzero(np.repeat(chosen, self.lengths))

    def normed(self) -> Tensor:
        """float[T, D]: the rows behind the layer's own first norm, as its attention sees them.

        Raises:
            ValueError: nobody has said which norm.
        """
        if self._norm is None:
            raise ValueError(f"the first norm of layer {self.layer} was asked for; this call was made without one")
        return self._norm(self.hidden_TD)

    def run(self, rows: np.ndarray | None = None, *, renumber: bool = False) -> Tensor:
        """The base's layer over some rows, which attend to each other (and, behind a cache, to their sample's keys).

        A patch calls it once. Whoever runs no row calls it with an empty array: in training the layer's weights take
        part all the same, and a cache notes that nobody owns keys here.

        Args:
            rows: int64[R] on the host, ascending; None: all.
            renumber: chosen rows stand at 0, 1, 2 ... in this layer, and rows behind a cache follow on, whatever the
                other layers hold; else they keep their positions. The prefill decides.

        Returns:
            float[R, D], what the layer makes of them.
        """
        self._ran, self.has_run = rows, True
        return self._run_rows(rows, renumber)

    def merged(self, rows: np.ndarray, out_RD: Tensor) -> Tensor:
        """float[T, D]: the stream with some rows replaced, all others as they were."""
        places = torch.from_numpy(rows).to(self.hidden_TD.device)
        return self.hidden_TD.index_copy(0, places, out_RD.to(self.hidden_TD.dtype))

    def record(
        self,
        *,
        choices: Sequence[str] | None = None,
        ffn_factor: float | tuple[float, ...] = 1.0,
        runs_new: Sequence[bool] | None = None,
        macs: Mapping[str, tuple[int, ...]] | None = None,
        new_macs: tuple[int, ...] = (),
        router_probs_BE: Tensor | None = None,
        expert_index: tuple[int, ...] = (),
        loss: Tensor | None = None,
    ) -> PatchRecord | None:
        """What was run, for the ledger; None behind a cache.

        Args:
            choices: per sample; default the share of its rows that ran.
            ffn_factor: see `PatchRecord`.
            runs_new: per sample, whether later tokens run the layer; default: those of samples that own keys here.
            macs: spent beside the layer, by tag and sample.
            new_macs: see `PatchRecord`.
            router_probs_BE, expert_index: of what decided.
            loss: see `PatchRecord`.
        """
        if not self.has_run:
            raise RuntimeError(
                f"the patch of layer {self.layer} must call `run` once, with no row where none is to run"
            )
        if self.past is not None:
            return None
        ran_T = np.ones(len(self.is_visual_T), dtype=bool)
        if self._ran is not None:
            ran_T[:] = False
            ran_T[self._ran] = True
        bounds = [*self.starts, len(ran_T)]
        rows = tuple(
            Rows(int((ran_T & self.is_visual_T)[a:b].sum()), int((ran_T & ~self.is_visual_T)[a:b].sum()))
            for a, b in zip(bounds[:-1], bounds[1:], strict=True)
        )
        shares = [f"{sum(ran) / length:.0%}" for ran, length in zip(rows, self.lengths, strict=True)]
        return PatchRecord(
            self.layer,
            attention=rows,
            ffn=rows,
            keys=rows,
            choices=tuple(choices or shares),
            ffn_factor=ffn_factor,
            runs_new=tuple(bool(sum(ran)) for ran in rows) if runs_new is None else tuple(runs_new),
            macs=macs or {},
            new_macs=new_macs,
            router_probs_BE=router_probs_BE,
            expert_index=expert_index,
            loss=loss,
        )
