"""DpnProcessor: conversations and pictures to model inputs, saved beside the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dpn_model.processing.conversation import IMAGE_TEXT, ROUTER_TEXT, conversation_segments
from dpn_model.processing.images import normalise, prepare_image
from dpn_model.processing.truncation import kept_length

IGNORE_INDEX = -100
FILE_NAME = "dpn_processor.json"
SAVED = ("image_size", "tokens_per_image", "template", "aspect_ratio", "max_length", "truncation")
_SPECIAL = re.compile(f"({re.escape(IMAGE_TEXT)}|{re.escape(ROUTER_TEXT)}|</s>)")


@dataclass(frozen=True)
class EncodedSample:
    """One sample: int64[S] ids with every image expanded, int64[S] labels, and uint8[3, H, W] pictures."""

    input_ids: Tensor
    labels: Tensor
    images: tuple[Tensor, ...]


class DpnProcessor:
    """Encodes samples for one model.

    Args:
        tokenizer: any transformers tokenizer that knows `<image>` and, for routed methods, `<ROUTER>`.
        image_size: side of the model's input in pixels.
        tokens_per_image: V, visual tokens of one image.
        template: conversation template, see `conversation.TEMPLATES`.
        aspect_ratio: how a picture becomes a square, see `images.prepare_image`.
        max_length: longer samples are cut at the right; None keeps everything.
        truncation: what `max_length` counts, see `truncation.kept_length`.
    """

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
        self._special_ids = {text: tokenizer.convert_tokens_to_ids(text) for text in (IMAGE_TEXT, ROUTER_TEXT, "</s>")}

    def __call__(
        self, questions: Sequence[str], images: Sequence[Image.Image | None], *, router: bool = True
    ) -> dict[str, Tensor]:
        """A batch of questions, as `forward` and `generate` take it.

        Args:
            questions: one per sample; the image's placeholder goes in front where the question has none.
            images: one per question, or None.
            router: add `<ROUTER>`, which routed methods need and others do not mind.

        Raises:
            ValueError: questions and images differ in number; otherwise as `encode_training`.
        """
        if len(questions) != len(images):
            raise ValueError(f"{len(questions)} questions but {len(images)} images; give None where there is none")
        samples = []
        for question, image in zip(questions, images, strict=True):
            if image is not None and IMAGE_TEXT not in question:
                question = f"{IMAGE_TEXT}\n{question}"
            samples.append(self.encode_prompt(question, [] if image is None else [image], router=router))
        batch = self.collate(samples)
        pixels = batch.pop("pixel_values")
        inputs = {name: tensor for name, tensor in batch.items() if tensor is not None and name != "labels"}
        return inputs if pixels is None else {**inputs, "pixel_values": normalise(pixels)}

    def encode_training(
        self,
        turns: Sequence[tuple[str, str | None]],
        images: Sequence[Image.Image],
        *,
        router: bool,
        sample_id: object = None,
        needs_answer: bool = True,
    ) -> EncodedSample:
        """Ids and labels of a whole conversation.

        Args:
            turns: (question, answer); an open last answer gives a prompt without labels.
            images: pictures in the order of their placeholders.
            router: add `<ROUTER>` to the questions (ignored for text-only samples).
            sample_id: names the sample in errors.
            needs_answer: whether a conversation whose answers all lie behind the limit is refused; otherwise it has
                no label, as in LLaVA's training.

        Raises:
            ValueError: placeholders and pictures differ in number, the limit falls inside a picture, or no supervised
                token is left of a conversation that has answers.
        """
        try:
            sample = self._encode(turns, images, router=router and bool(images))
            has_answer = any(answer is not None for _, answer in turns)
            if needs_answer and has_answer and bool((sample.labels == IGNORE_INDEX).all()):
                tokens = len(sample.input_ids)
                raise ValueError(
                    f"no supervised token is left of {tokens}; max_length = {self.max_length} cut the answers"
                )
        except ValueError as error:
            if sample_id is None:
                raise
            raise ValueError(f"sample {sample_id}: {error}") from error
        return sample

    def _encode(
        self, turns: Sequence[tuple[str, str | None]], images: Sequence[Image.Image], *, router: bool
    ) -> EncodedSample:
        placeholders = sum(question.count(IMAGE_TEXT) for question, _ in turns)
        if placeholders != len(images):
            raise ValueError(f"{placeholders} {IMAGE_TEXT} placeholders but {len(images)} images")
        ids: list[int] = [self.tokenizer.bos_token_id]
        labels: list[int] = [IGNORE_INDEX]
        for segment in conversation_segments(turns, template=self.template, router=router):
            piece = self._tokenize(segment.text)
            ids += piece
            labels += piece if segment.is_supervised else [IGNORE_INDEX] * len(piece)
        if self.max_length is not None:
            image_id = self._special_ids[IMAGE_TEXT]
            kept = kept_length(ids, image_id, self.tokens_per_image, self.max_length, self.truncation)
            ids, labels = ids[:kept], labels[:kept]
            images = images[: ids.count(image_id) // self.tokens_per_image]
        pictures = tuple(prepare_image(image, self.image_size, self.aspect_ratio) for image in images)
        return EncodedSample(torch.tensor(ids), torch.tensor(labels), pictures)

    def encode_prompt(self, question: str, images: Sequence[Image.Image], *, router: bool) -> EncodedSample:
        """A question alone, ready for generation."""
        return self.encode_training([(question, None)], images, router=router)

    def collate(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor | None]:
        """Pad on the right; `pixel_values` stay uint8 until the device (`images.normalise`), None without images."""
        longest = max(len(sample.input_ids) for sample in samples)
        input_ids = torch.full((len(samples), longest), self.tokenizer.pad_token_id)
        labels = torch.full((len(samples), longest), IGNORE_INDEX)
        mask = torch.zeros(len(samples), longest, dtype=torch.long)
        for row, sample in enumerate(samples):
            length = len(sample.input_ids)
            input_ids[row, :length] = sample.input_ids
            labels[row, :length] = sample.labels
            mask[row, :length] = 1
        pictures = [picture for sample in samples for picture in sample.images]
        pixels = torch.stack(pictures) if pictures else None
        return {"input_ids": input_ids, "attention_mask": mask, "labels": labels, "pixel_values": pixels}

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids to text, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer and `dpn_processor.json` into a from_pretrained folder."""
        self.tokenizer.save_pretrained(folder)
        values = {key: getattr(self, key) for key in SAVED}
        (Path(folder) / FILE_NAME).write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DpnProcessor:
        """Read what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: the folder has no `dpn_processor.json`.
        """
        file = Path(folder) / FILE_NAME
        if not file.is_file():
            raise FileNotFoundError(f"{folder} holds no {FILE_NAME}; expected a folder written by save_pretrained")
        return cls(AutoTokenizer.from_pretrained(str(folder)), **json.loads(file.read_text()))

    def _tokenize(self, text: str) -> list[int]:
        """Ids without BOS; special texts by their own ids, each piece between them by itself (spec B.3)."""
        ids: list[int] = []
        before = ""
        for piece in _SPECIAL.split(text):
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
