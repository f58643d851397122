"""Processor of folders that LLaVA's own code would read: its templates, square pictures, as many tokens for each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dpn_model.objects.record import Objects
from dpn_model.processing.contract import (
    IGNORE_INDEX,
    EncodedSample,
    Pictures,
    Processor,
    Turn,
    ask,
    pad_samples,
)
from dpn_model.processing.conversation import LAYOUTS, PLAIN, conversation_segments
from dpn_model.processing.images import fit_square, normalise, prepare_image
from dpn_model.processing.truncation import kept_length
from dpn_model.special_texts import IMAGE_TEXT, ROUTER_TEXT

FILE_NAME = "dpn_processor.json"
SAVED = ("image_size", "tokens_per_image", "template", "aspect_ratio", "max_length", "truncation")


class SquareProcessor(Processor):
    """Encodes samples for one model; see `contract.Processor`.

    Args:
        tokenizer: any transformers tokenizer that knows `<image>` and, for routed methods, `<ROUTER>`.
        image_size: side of the model's input in pixels.
        tokens_per_image: V, visual tokens of one image.
        template: conversation template, see `conversation.TEMPLATES`.
        aspect_ratio: how a picture becomes a square, see `images.prepare_image`.
        max_length: longer samples are cut at the right; None keeps everything.
        truncation: what `max_length` counts, see `truncation.kept_length`.
    """

    #: further texts that stand between pieces which are tokenised each by itself
    chunk_texts: tuple[str, ...] = ()

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_size: int,
        tokens_per_image: int,
        template: str,
        aspect_ratio: str = "pad",
        max_length: int | None = None,
        truncation: str = "expanded",
    ) -> None:
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.tokens_per_image = tokens_per_image
        self.template = template
        self.aspect_ratio = aspect_ratio
        self.max_length = max_length
        self.truncation = truncation
        end = LAYOUTS[template].end if template in LAYOUTS else "</s>"
        texts = (IMAGE_TEXT, ROUTER_TEXT, end, *self.chunk_texts)
        self._special_ids = {text: tokenizer.convert_tokens_to_ids(text) for text in texts}
        self._special = re.compile(f"({'|'.join(map(re.escape, texts))})")
        self.image_token_id: int = self._special_ids[IMAGE_TEXT]
        #: that of the tokenizer, and the layout's own, where it has one
        ends = {tokenizer.eos_token_id, self._special_ids[end]} - {tokenizer.unk_token_id, None}
        self.end_ids: list[int] = sorted(ends)

    def __call__(
        self,
        questions: Sequence[str],
        images: Sequence[Pictures],
        *,
        router: bool = True,
        objects: Sequence[Objects | None] | None = None,
    ) -> dict[str, Tensor]:
        """A batch of questions, as `forward` and `generate` take it.

        Args:
            questions: one per sample; an image's placeholder goes in front where the question has none.
            images: one per question, or several, or None.
            router: add `<ROUTER>`, which routed methods need and others do not mind.
            objects: boxes on every question's picture, for models that take them.

        Raises:
            ValueError: questions and images differ in number; otherwise as `encode_training`.
        """
        batch = ask(self, questions, images, router=router, objects=objects)
        if (pixels := batch.get("pixel_values")) is not None:
            batch["pixel_values"] = normalise(pixels)
        return batch

    def _encode(
        self, turns: Sequence[Turn], images: Sequence[Image.Image], *, router: bool, objects: Objects | None
    ) -> EncodedSample:
        return self._encode_text(turns, images, router=router)

    def _encode_text(
        self, turns: Sequence[Turn], images: Sequence[Image.Image], *, router: bool, objects: str | None = None
    ) -> EncodedSample:
        """A conversation; `objects` as `conversation_segments` takes them."""
        bos = self.tokenizer.bos_token_id
        ids: list[int] = [] if bos is None else [bos]
        labels = [IGNORE_INDEX] * len(ids)
        for segment in conversation_segments(turns, template=self.template, router=router, objects=objects):
            piece = self._tokenize(segment.text)
            ids += piece
            labels += piece if segment.is_supervised else [IGNORE_INDEX] * len(piece)
        if self.max_length is not None:
            sizes = [self.tokens_per_image] * len(images)
            kept, shown = kept_length(ids, self.image_token_id, sizes, self.max_length, self.truncation)
            ids, labels, images = ids[:kept], labels[:kept], images[:shown]
        pictures = tuple(prepare_image(image, self.image_size, self.aspect_ratio) for image in images)
        return EncodedSample(torch.tensor(ids), torch.tensor(labels), pictures)

    def collate(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor | None]:
        """Pad on the right; `pixel_values` stay uint8 until the device (`images.normalise`), None without images."""
        pictures = [picture for sample in samples for picture in sample.images]
        pixels = torch.stack(pictures) if pictures else None
        return {**pad_samples(samples, self.pad_id), "pixel_values": pixels}

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids to text, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def fit(self, picture: Image.Image) -> Image.Image:
        """The picture as a square of the model's size; encoding then finds nothing to do."""
        return fit_square(picture, self.image_size, self.aspect_ratio)

    @property
    def pad_id(self) -> int:
        """Of the tokenizer."""
        return int(self.tokenizer.pad_token_id)

    @property
    def decode_size(self) -> int | None:
        """The model's size where pictures are padded; the centre is cut out of the whole picture."""
        return self.image_size if self.aspect_ratio == "pad" else None

    def for_captions(self) -> SquareProcessor:
        """With template `plain` and centre crops: LLaVA's stage 1 does not pad."""
        reading = copy(self)
        reading.template, reading.aspect_ratio = PLAIN, "crop"
        return reading

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer and `dpn_processor.json` into a from_pretrained folder."""
        self.tokenizer.save_pretrained(folder)
        values = {key: getattr(self, key) for key in SAVED}
        (Path(folder) / FILE_NAME).write_text(json.dumps(values, indent=2) + "\n")

    def _tokenize(self, text: str) -> list[int]:
        """Ids without BOS; special texts by their own ids, each piece between them by itself (spec B.3)."""
        ids: list[int] = []
        before = ""
        for piece in self._special.split(text):
            if before == ROUTER_TEXT:
                # The tokenizer of the checkpoints drops the space behind an added token and puts its own in front.
                piece = piece.removeprefix(" ")
            before = piece or before
            if piece == IMAGE_TEXT:
                ids += [self._special_ids[IMAGE_TEXT]] * self.tokens_per_image
            elif piece in self._special_ids:
                ids.append(self._special_ids[piece])
            elif piece:
                ids += self.tokenizer.encode(piece, add_special_tokens=False)
        return ids
