"""Probes: what a part may look at, computed when it is asked for, once, and billed.

The layers themselves stay on the fused kernel: a probe keeps references to the queries and keys of one layer and works
out the few rows of attention that somebody wants.

Shape letters: B samples, T packed rows, Q rows that ask, n rows of one sample, N heads, H head width, I pictures,
P tokens of the tower (its class token first, if it has one), C width of the tower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.attention.riders import Riders
from dpn_model.attention.watch import Watched
from dpn_model.packing import ImageSpan, PackedSequence, TokenKind

#: looks of a reducer
ATTENTION, NEXT_LAYER, EMBEDDINGS = "attention", "next_layer", "embeddings"
#: beside ATTENTION or NEXT_LAYER: what is shown of it carries a gradient where one is wanted at all
GRADIENT = "gradient"
#: look of any part: where answers are known, every turn's asking row (`PackedSequence.asking_rows_R`)
TURNS = "turns"

#: (rows that ask or None, what was found before or None) -> queries and keys, int64[B] multiply-accumulates
NextLayer = Callable[[np.ndarray | None, Watched | None], tuple[Watched, np.ndarray]]


@dataclass(frozen=True)
class Branch:
    """What layers of a part's own made of some samples, beside the decoder.

    Attributes:
        state: those samples behind the last of the layers.
        attention: for each of them, that of the rows that ask, in the last layer; as `Probe.attention` gives it.
        macs: of the layers, for every sample of the batch.
    """

    state: PackedSequence
    attention: list[Tensor]
    macs: tuple[int, ...]


class Probe:
    """Of a reducer, after the layer it acts behind.

    Every rank asks for the same, whatever its batch holds: `next_queries_keys` runs modules with weights.

    Args:
        layer: 1-based, the finished one; 0: none is.
        state: the batch behind it.
        watched: queries and keys of that layer.
        next_layer: works out the next layer's keys, and queries of some rows (None: all), and says what it spent; told
            what it found before, so that keys are worked out once. None behind the last layer.
        embeddings_TD: the batch as it entered the first layer, at the rows of now.
        vision: of the tower's run.
        entered: pictures as they entered the first layer, in the order of `state.images`.
        final_norm: the decoder's.
        rotary: (cosines, sines) that the finished layer was called with.
        run_beside: runs copied layers over a batch.
        riders: rows that rode with the batch up to here (`contract.Rider`).
    """

    def __init__(
        self,
        layer: int,
        state: PackedSequence,
        watched: Watched | None,
        next_layer: NextLayer | None,
        embeddings_TD: Tensor | None = None,
        vision: VisionProbe | None = None,
        entered: tuple[ImageSpan, ...] = (),
        final_norm: Callable[[Tensor], Tensor] | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        run_beside: Callable[[PackedSequence, Sequence[Any]], tuple[PackedSequence, Watched, list[int]]] | None = None,
        riders: Riders | None = None,
    ) -> None:
        self.layer = layer
        self.state = state
        self.vision = vision
        self.entered = entered or state.images
        self._final_norm = final_norm
        self._rotary = rotary
        self._run_beside = run_beside
        self._riders = riders
        self._watched = watched
        self._next_layer = next_layer
        self._next: Watched | None = None
        self._embeddings_TD = embeddings_TD
        self._known: dict[tuple[str, bytes], list[Tensor]] = {}
        self._macs_B = np.zeros(state.num_samples, dtype=np.int64)

    @property
    def macs(self) -> tuple[int, ...]:
        """Multiply-accumulates per sample of everything that was asked for."""
        return tuple(self._macs_B.tolist())

    def attention(self, rows: np.ndarray | None = None) -> list[Tensor]:
        """Attention weights of some rows in the finished layer.

        Args:
            rows: int64[Q] packed rows, ascending; default those that ask (`PackedSequence.asking_rows_R`).

        Returns:
            For every sample float32[N, Q of it, n]: softmax over the rows of its own sample up to each row, 0 behind.

        Raises:
            ValueError: no layer is finished, or the part did not say that it would look ("attention" in `looks`).
        """
        return self._weights("finished", self._finished(), rows)

    def queries_keys(self) -> tuple[Tensor, Tensor]:
        """float[T, N, H] and float[T, N of keys, H] of the finished layer, rotary positions in. Raises as above."""
        watched = self._finished()
        return watched.query_TNH, watched.key_TNH

    def rider_attention(self) -> list[Tensor]:
        """Of every sample with a picture float32[N, n + 1]: logarithms of its rider's attention in the finished layer.

        The n are the rows of its sample from the first on, as far as it sees; its own row stands behind them.

        Raises:
            ValueError: nothing rode with the batch, or as in `attention`.
        """
        if self._riders is None:
            raise ValueError(f"a rider's attention after layer {self.layer} was asked for; nothing rode up to there")
        key = "rider", b""
        if key not in self._known:
            watched = self._finished()
            self._known[key], starts = self._riders.log_attention(watched), list(self.state.starts)
            for start, seen in zip(self._riders.starts, self._riders.seen, strict=True):
                self._macs_B[starts.index(start)] += (seen + 1) * math.prod(watched.query_TNH.shape[1:])
        return self._known[key]

    def normed(self) -> Tensor:
        """float[T, D]: the batch behind the decoder's final norm, without gradient.

        Raises:
            ValueError: nobody has said which norm.
        """
        if self._final_norm is None:
            raise ValueError("the final norm was asked for; this probe was made without one")
        with torch.no_grad():
            return self._final_norm(self.state.hidden_TD)

    def rotary(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines, float[T, R] each, that turned queries and keys of the finished layer.

        Raises:
            ValueError: no layer is finished, or its positions are of several kinds (multimodal RoPE).
        """
        if self._rotary is None or self._rotary[0].ndim != 3:
            reason = "the base has multimodal positions" if self._rotary is not None else "there is no finished layer"
            raise ValueError(f"rotary positions after layer {self.layer} were asked for; {reason}")
        return self._rotary[0][0], self._rotary[1][0]

    def next_queries_keys(self) -> tuple[Tensor, Tensor]:
        """float[T, N, H] and float[T, N of keys, H]: the next layer's, rotary positions in them.

        Without gradient, unless "gradient" is in the part's looks.

        Raises:
            ValueError: there is no next layer.
        """
        watched = self._run_next(None)
        return watched.query_TNH, watched.key_TNH

    def next_attention(self, rows: np.ndarray | None = None) -> list[Tensor]:
        """As `attention`, of the next layer: its keys are worked out for all rows, its queries for those that ask.

        Raises as above.
        """
        rows = self.state.asking_rows_R if rows is None else rows
        return self._weights("next", self._run_next(rows), rows)

    def run(self, layers: Sequence[Any], samples: Sequence[int]) -> Branch:
        """Layers of a part's own (`Host.copy_layers`) over all rows of some samples, which the decoder does not see.

        Gradients reach the layers, not what is in front of them. The layers' cost is the caller's to bill; the rows of
        attention are billed here.

        Args:
            layers: one after the other, from the place they were copied from on.
            samples: ascending, one at least.

        Raises:
            ValueError: as `run_on`.
        """
        state = self.state.of_samples(samples)
        state, watched, macs = self.run_on(layers, state.with_hidden(state.hidden_TD.detach()))
        attention, by_sample = [], [0] * self.state.num_samples
        for sample, start, length, spent in zip(samples, state.starts, state.lengths, macs, strict=True):
            rows = state.asking_rows_R
            asking = rows[(rows >= start) & (rows < start + length)] - start
            attention.append(watched.rows_of_attention(start, length, asking))
            by_sample[sample] = spent
            self._macs_B[sample] += len(asking) * length * math.prod(watched.query_TNH.shape[1:])
        return Branch(state, attention, tuple(by_sample))

    def run_on(self, layers: Sequence[Any], state: PackedSequence) -> tuple[PackedSequence, Watched, list[int]]:
        """The same over any batch of the decoder's width: rows attend within their sample, at their own positions.

        Returns:
            The batch behind the layers, queries and keys of the last one, and for every sample of `state` the layers'
            multiply-accumulates, which are the caller's to bill.

        Raises:
            ValueError: nobody has said how layers are run.
        """
        if self._run_beside is None:
            raise ValueError("layers were to run beside the decoder; this probe was made without one")
        return self._run_beside(state, layers)

    def embeddings(self) -> Tensor:
        """float[T, D]: what entered the first layer in the rows of now (a pooled row: its first cell's).

        Raises:
            ValueError: "embeddings" is not in the part's looks.
        """
        if self._embeddings_TD is None:
            raise ValueError("embeddings were asked for; 'embeddings' is not in the part's looks")
        return self._embeddings_TD

    def _finished(self) -> Watched:
        if self._watched is None:
            reason = "there is no finished layer before site 0" if not self.layer else "'attention' is not in its looks"
            raise ValueError(f"attention after layer {self.layer} was asked for; {reason}")
        return self._watched

    def _run_next(self, rows: np.ndarray | None) -> Watched:
        if self._next_layer is None:
            raise ValueError(f"queries and keys behind layer {self.layer} were asked for; there is no next layer")
        if self._next is None or not self._next.has_queries_of(rows):
            self._next, macs_B = self._next_layer(rows, self._next)
            self._macs_B += macs_B
        return self._next

    def _weights(self, what: str, watched: Watched, rows: np.ndarray | None) -> list[Tensor]:
        rows = self.state.asking_rows_R if rows is None else rows
        key = what, rows.tobytes()
        if key not in self._known:
            ends = np.cumsum(self.state.lengths)
            found = []
            for sample, (end, length) in enumerate(zip(ends, self.state.lengths, strict=True)):
                start = int(end) - length
                asking = rows[(rows >= start) & (rows < end)] - start
                found.append(watched.rows_of_attention(start, length, asking))
                num_heads, width = watched.query_TNH.shape[1:]
                self._macs_B[sample] += len(asking) * length * num_heads * width
            self._known[key] = found
        return self._known[key]


def level(index: int) -> str:
    """Look: hidden state `index` of the tower, counted as transformers does (0: embeddings)."""
    return f"level:{index}"


def tower_layer(index: int) -> str:
    """Look: queries, keys and values of a layer of the tower (0-based; -2: that which gives LLaVA-1.5's features)."""
    return f"layer:{index}"


#: look: the pixels that the tower is shown
PIXELS = "pixels"


def is_of_tower(look: str) -> bool:
    """Whether a look is at the tower's run."""
    return look == PIXELS or look.startswith(("level:", "layer:"))


@dataclass(frozen=True)
class TowerPicture:
    """What the tower made of one picture.

    Attributes:
        features_PC: float[V, C], what the base's projector takes.
        grid: (height, width) of them.
        looked: by look; a level is float[P, C], a layer float[3, P, C] (queries, keys, values, heads not split), pixels
            are float[3, height, width].
        num_heads, class_tokens: of the tower.
        maps: float[C, height, width] of every resolution, where boxes on the picture are read from them.
    """

    features_PC: Tensor
    grid: tuple[int, int]
    looked: Mapping[str, Tensor] = field(default_factory=dict)
    num_heads: int = 1
    class_tokens: int = 0
    maps: tuple[Tensor, ...] = ()


class VisionProbe:
    """Of the tower's run over some pictures of one size, in reading order.

    Args:
        pictures: what the tower made of each.
        state: the batch of embeddings they belong to.
    """

    def __init__(self, pictures: Sequence[TowerPicture], state: PackedSequence | None = None) -> None:
        self.pictures = tuple(pictures)
        self._state = state
        self._known: dict[str, Tensor] = {}
        self.macs_per_picture = 0

    def level(self, index: int) -> Tensor:
        """float[I, P, C]: hidden state `index`, the class token first where the tower has one."""
        return self._stacked(level(index))

    def pixels(self) -> Tensor:
        """float[I, 3, height, width], normalised."""
        return self._stacked(PIXELS)

    def queries(self, layer: int = -2) -> Tensor:
        """float[I, P, C], heads not split."""
        return self._stacked(tower_layer(layer))[:, 0]

    def keys(self, layer: int = -2) -> Tensor:
        """float[I, P, C], heads not split."""
        return self._stacked(tower_layer(layer))[:, 1]

    def values(self, layer: int = -2) -> Tensor:
        """float[I, P, C], heads not split."""
        return self._stacked(tower_layer(layer))[:, 2]

    def cls_attention(self, layer: int = -2) -> Tensor:
        """float32[I, N, V]: attention of the class token to the patches in one layer, softmax over all tokens.

        Raises:
            ValueError: the tower has no class token.
        """
        name = f"cls:{layer}"
        if name not in self._known:
            first = self.pictures[0]
            if not first.class_tokens:
                raise ValueError("the class token's attention was asked for; this base's tower has no class token")
            query = self.queries(layer)[:, 0].float().unflatten(1, (first.num_heads, -1))
            key = self.keys(layer).float().unflatten(2, (first.num_heads, -1))
            scores_INP = torch.einsum("inh,ipnh->inp", query, key) / math.sqrt(query.shape[-1])
            self._known[name] = scores_INP.softmax(dim=-1)[:, :, first.class_tokens :]
            self.macs_per_picture += key.shape[1] * first.looked[tower_layer(layer)].shape[-1]
        return self._known[name]

    def text_embeddings(self, sample: int) -> Tensor:
        """float[n, D]: embeddings of a sample's text, in order, those in front of its pictures included.

        Raises:
            ValueError: there is no text: a blank picture, which keeps ranks together.
        """
        if self._state is None:
            raise ValueError("text embeddings were asked for; this picture stands in no text")
        start, length = self._state.starts[sample], self._state.lengths[sample]
        kind = self._state.kind_T[start : start + length]
        is_text = (kind != TokenKind.VISION) & (kind != TokenKind.OBJECT)  # neither is embedded yet
        return self._state.hidden_TD[start : start + length][is_text]

    @property
    def stands_in_text(self) -> bool:
        """Whether there is text to ask for: a blank picture, which keeps ranks together, has none."""
        return self._state is not None

    def question_embeddings(self, sample: int) -> Tensor:
        """float[n, D]: embeddings of the first question, for parts with `TURNS` in their looks.

        It is the text from a sample's first picture to the answer that follows; where there is none between, all text
        before that answer. What is kept of a picture must not depend on answers, nor on later turns.

        Raises:
            ValueError: there is no text: a blank picture, which keeps ranks together.
        """
        if self._state is None:
            raise ValueError("a question was asked for; this picture stands in no text")
        state = self._state
        start, end = state.starts[sample], state.starts[sample] + state.lengths[sample]
        behind = min((image.start + image.num_tokens for image in state.images if image.sample == sample), default=end)
        asking = state.asking_rows_R[(state.asking_rows_R >= behind) & (state.asking_rows_R < end)]
        end = int(asking[0]) + 1 if len(asking) else end
        is_text = state.kind_T[start:end] == TokenKind.TEXT
        question = state.hidden_TD[behind:end][is_text[behind - start :]]
        return question if len(question) else state.hidden_TD[start:end][is_text]

    def _stacked(self, look: str) -> Tensor:
        if look not in self._known:
            if any(look not in picture.looked for picture in self.pictures):
                raise ValueError(f"{look!r} of the tower was asked for; it is not in the part's looks")
            self._known[look] = torch.stack([picture.looked[look] for picture in self.pictures])
        return self._known[look]
