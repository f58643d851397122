"""Rows to tensors, in the process that needs them: decode pictures, tokenise, pad."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from dpn_model.objects.record import ObjectRecord, Objects
from dpn_model.objects.views import Positives, training_view
from dpn_model.processing import Processor
from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.schema import MORE_IMAGES, OBJECTS, row_images

DECODE_THREADS = 2
# What Pillow's decoders and the JSON reader raise on damaged bytes.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    Image.DecompressionBombError,
)

Turn = tuple[str, str]


class DamagedRowError(DpnError):
    """A row that ingest could read and that cannot be read any more."""

    def __init__(self, row_id: int, what: str, reason: object) -> None:
        super().__init__(f"row {row_id}: its {what} cannot be read ({' '.join(str(reason).split())[:120]})")
        self.row_id = row_id


def parse_turns(conversations: str) -> list[Turn]:
    """(question, answer) pairs from the `conversations` column; the placeholder stays in the question."""
    turns = json.loads(conversations)
    return [(ask["value"], reply["value"]) for ask, reply in zip(turns[::2], turns[1::2], strict=True)]


def decode_image(data: bytes) -> Image.Image:
    """The encoded picture as RGB (first frame of an animation)."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def decode_fitting(data: bytes, size: int) -> Image.Image:
    """The picture as RGB with its longer side `size`: the fast path.

    A JPEG of at least twice the size is decoded at a half, a quarter or an eighth; resizing comes before padding.
    About 48 dB from the full path and 1.4 times as fast (spec performance 4.3).
    """
    with Image.open(io.BytesIO(data)) as image:
        scale = size / max(image.size)
        fitting = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image.draft("RGB", fitting)
        return image.convert("RGB").resize(fitting, Image.Resampling.BICUBIC)


class SampleCollator:
    """Callable that turns a batch of rows into model inputs; fits Ray's `collate_fn` and can be pickled.

    Args:
        processor: of the model that is trained.
        router: whether questions about pictures end in `<ROUTER>` (routed methods).
        decode: "full" (LLaVA's order) or "fast", see `decode_fitting` (where the processor allows it: for padded
            pictures).
        positives: which proposals are right answers, see `objects.views.training_view`.
        num_threads: threads that decode; tokenising stays in the caller's (tokenizers must not be shared).
    """

    def __init__(
        self,
        processor: Processor,
        *,
        router: bool,
        decode: Literal["full", "fast"] = "full",
        positives: Positives = "exact",
        num_threads: int = DECODE_THREADS,
    ) -> None:
        self.processor = processor
        self.router = router
        self.decode = decode
        self.positives = positives
        self.num_threads = num_threads

    def __call__(self, batch: Mapping[str, np.ndarray] | pa.Table) -> dict[str, Any]:
        """Encodes a batch.

        Args:
            batch: columns of `schema.SHARD_SCHEMA` and `sample_key`, as numpy arrays by name or as a table.

        Returns:
            What `Processor.collate` gives (`input_ids`, `attention_mask`, `labels` int64[B, S]; `pixel_values`, None
            without pictures, and whatever else the processor says of them), and `sample_keys` int64[B].

        Raises:
            DamagedRowError: a picture, a conversation or its boxes cannot be read.
            ValueError: as `Processor.encode_training`.
        """
        row_ids, keys = _values(batch, "row_id"), _values(batch, "sample_key")
        images = self._decode(row_ids, _pictures(batch))
        turns = [_turns_of(row_id, text) for row_id, text in zip(row_ids, _values(batch, "conversations"), strict=True)]
        objects: list[Objects | None] = [None] * len(turns)
        for place, text in _records(batch):
            size = (_values(batch, "width")[place], _values(batch, "height")[place])
            try:
                record = ObjectRecord.of_json(text)
                objects[place], turns[place] = training_view(record, turns[place], size, keys[place], self.positives)
            except _DAMAGE as error:
                raise DamagedRowError(row_ids[place], "boxes", error) from error
        samples = [
            self.processor.encode_training(
                asked,
                shown,
                router=self.router,
                sample_id=row_id,
                needs_answer=False,  # one question longer than the limit is no reason to end a run: the loop counts it
                objects=boxes,
            )
            for asked, shown, row_id, boxes in zip(turns, images, row_ids, objects, strict=True)
        ]
        return {**self.processor.collate(samples), "sample_keys": torch.tensor(keys, dtype=torch.long)}

    def _decode(self, row_ids: Sequence[int], encoded: Sequence[Sequence[bytes]]) -> list[list[Image.Image]]:
        size = None if self.decode == "full" else self.processor.decode_size

        # Padding and resizing cost more than decoding: the threads do them too (the processor finds nothing to do).
        def decode(row_id: int, data: bytes) -> Image.Image:
            try:
                picture = decode_image(data) if size is None else decode_fitting(data, size)
            except _DAMAGE as error:
                raise DamagedRowError(row_id, "picture", error) from error
            return self.processor.fit(picture)

        def decode_row(row_id: int, pictures: Sequence[bytes]) -> list[Image.Image]:
            return [decode(row_id, data) for data in pictures]

        if self.num_threads <= 1:
            return list(map(decode_row, row_ids, encoded))
        with ThreadPoolExecutor(self.num_threads) as pool:
            return list(pool.map(decode_row, row_ids, encoded))


def _pictures(batch: Mapping[str, np.ndarray] | pa.Table) -> list[list[bytes]]:
    """Every row's encoded pictures; a batch of rows with one at most may lack the column of the others."""
    names = batch.column_names if isinstance(batch, pa.Table) else batch.keys()
    firsts = _values(batch, "image")
    more = _values(batch, MORE_IMAGES.name) if MORE_IMAGES.name in names else [None] * len(firsts)
    return [row_images({"image": first, MORE_IMAGES.name: rest}) for first, rest in zip(firsts, more, strict=True)]


def _records(batch: Mapping[str, np.ndarray] | pa.Table) -> list[tuple[int, str]]:
    """What rows with boxes say of them, by their place in the batch."""
    names = batch.column_names if isinstance(batch, pa.Table) else batch.keys()
    texts = _values(batch, OBJECTS.name) if OBJECTS.name in names else []
    return [(place, text) for place, text in enumerate(texts) if text is not None]


def _turns_of(row_id: int, conversations: str) -> list[Turn]:
    try:
        return parse_turns(conversations)
    except _DAMAGE as error:
        raise DamagedRowError(row_id, "conversation", error) from error


def _values(batch: Mapping[str, np.ndarray] | pa.Table, column: str) -> list[Any]:
    """A column as plain Python values."""
    values = batch[column]
    return list(values.to_pylist() if isinstance(values, pa.ChunkedArray) else values.tolist())
