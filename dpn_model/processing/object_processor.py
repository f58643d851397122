"""Processor of a model that is shown boxes: each a row for its name and one for its features (spec chatrex 3.1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dpn_model.objects.answers import object_indices
from dpn_model.objects.boxes import check_boxes, on_square
from dpn_model.objects.record import Objects
from dpn_model.processing.contract import BOXES, EncodedSample, Turn
from dpn_model.processing.conversation import PLAIN
from dpn_model.processing.square_processor import FILE_NAME, SquareProcessor
from dpn_model.special_texts import MAX_OBJECTS, OBJECT_TEXT

#: in `dpn_processor.json`
KIND = "objects"


class ObjectProcessor(SquareProcessor):
    """Encodes samples with boxes on their picture; see `SquareProcessor`.

    The picture comes first, then `<obj0><objfeat><obj1><objfeat>` and so on, then the question. Of more than 100 boxes
    the best-scored are shown.
    """

    chunk_texts = (OBJECT_TEXT,)
    takes_objects = True

    def _encode(
        self, turns: Sequence[Turn], images: Sequence[Image.Image], *, router: bool, objects: Objects | None
    ) -> EncodedSample:
        """A conversation.

        Raises:
            ValueError: boxes without a picture or with several, outside it, too many without scores, or fewer than
                the turns name.
        """
        if objects is not None and len(objects) and len(images) != 1:
            raise ValueError(f"{len(objects)} boxes and {len(images)} images; allowed: boxes on one image")
        # A caption is of the whole picture: there is no question that could name its boxes.
        count = 0 if objects is None or self.template == PLAIN else _shown(objects)
        named = [index for turn in turns for text in turn if text for index in object_indices(text)]
        if named and max(named) >= count:
            raise ValueError(f"<obj{max(named)}> is named, but {count} boxes are shown")
        rows = "".join(f"<obj{number}>{OBJECT_TEXT}" for number in range(count))
        if OBJECT_TEXT in "".join(text for turn in turns for text in turn if text):
            raise ValueError(f"{OBJECT_TEXT} in a turn; it stands for an object's features, which are put there")
        sample = self._encode_text(turns, images, router=router, objects=rows if images else None)
        if int((sample.input_ids == self._special_ids[OBJECT_TEXT]).sum()) != count:
            raise ValueError(
                f"max_length = {self.max_length} falls inside {count} objects; allowed: a limit behind them"
            )
        if objects is None or not count:
            return sample
        boxes = on_square(objects.boxes[:count], objects.size, self.image_size)
        return EncodedSample(
            sample.input_ids, sample.labels, sample.images, {BOXES: torch.from_numpy(boxes).to(torch.float32)}
        )

    def collate(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor | None]:
        """As `SquareProcessor`, with `boxes`, float32[N, 4], of all samples end to end."""
        boxes = [sample.tensors[BOXES] for sample in samples if BOXES in sample.tensors]
        return super().collate(samples) | ({BOXES: torch.cat(boxes)} if boxes else {})

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids to text; names of objects are special tokens that belong to it."""
        left_out = {self.tokenizer.pad_token_id, self.tokenizer.bos_token_id, *self.end_ids}
        return str(self.tokenizer.decode([one for one in ids if one not in left_out])).strip()

    def save_pretrained(self, folder: str | Path) -> None:
        """See `SquareProcessor`."""
        super().save_pretrained(folder)
        file = Path(folder) / FILE_NAME
        values: dict[str, Any] = {"processor": KIND, **json.loads(file.read_text())}
        file.write_text(json.dumps(values, indent=2) + "\n")


def _shown(objects: Objects) -> int:
    """How many of the boxes: the 100 best."""
    if len(objects) > MAX_OBJECTS and objects.scores is None:
        raise ValueError(f"{len(objects)} boxes without scores; allowed: at most {MAX_OBJECTS}, or scores to choose by")
    check_boxes(objects.boxes, objects.size)
    return min(len(objects), MAX_OBJECTS)
