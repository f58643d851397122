"""A model's own processor of transformers behind our interface: its tokenizer, image processor and chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from dpn_model.objects.record import Objects
from dpn_model.processing.answer_labels import answer_labels
from dpn_model.processing.chat import (
    check_template,
    conversation,
    placeholders,
    render,
    user_message,
)
from dpn_model.processing.contract import (
    IGNORE_INDEX,
    EncodedSample,
    Pictures,
    Processor,
    Turn,
    ask,
    pad_samples,
)
from dpn_model.processing.square_processor import FILE_NAME
from dpn_model.processing.tokenizer import add_router_token
from dpn_model.processing.truncation import kept_length
from dpn_model.special_texts import IMAGE_TEXT

#: in `dpn_processor.json`: the folder's other files are a processor of transformers
KIND = "transformers"
_OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


class ChatProcessor(Processor):
    """Encodes samples as the model's own processor does; see `contract.Processor`.

    Args:
        processor: of transformers, with a chat template.
        image_token_id: id that the model takes for a visual token.
        router_token_id: the row that the model has for `<ROUTER>`; None: the first behind the tokenizer's.
        files: of the processor's folder, by name; saved as they are.
        end_ids: ids that end an answer beside the tokenizer's own.
        max_length: longer samples are cut at the right; None keeps everything.
        truncation: what `max_length` counts, see `truncation.kept_length`.

    Raises:
        ValueError: a processor that cannot ask about a picture, or has no room for `<ROUTER>`.
    """

    def __init__(
        self,
        processor: Any,
        *,
        image_token_id: int,
        router_token_id: int | None,
        files: dict[str, bytes],
        end_ids: Sequence[int] = (),
        max_length: int | None = None,
        truncation: str = "expanded",
    ) -> None:
        check_template(processor)
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token_id = image_token_id
        self.router_token_id = add_router_token(self.tokenizer, router_token_id)
        self.end_ids: list[int] = sorted({*end_ids, self.tokenizer.eos_token_id})
        self.max_length = max_length
        self.truncation = truncation
        self._files = files

    def __call__(
        self, questions: Sequence[str], images: Sequence[Pictures], *, router: bool = True
    ) -> dict[str, Tensor]:
        """A batch of questions, as `forward` and `generate` take it; see `DpnProcessor`."""
        return ask(self, questions, images, router=router)

    def _encode(
        self, turns: Sequence[Turn], images: Sequence[Image.Image], *, router: bool, objects: Objects | None
    ) -> EncodedSample:
        said = conversation(self.processor, turns, router=router, end=self.tokenizer.eos_token)
        inputs = self._inputs(said.text, images)
        ids = inputs["input_ids"][0]
        labels = torch.full_like(ids, IGNORE_INDEX)
        if said.answers:
            plain = self.tokenizer(said.text, return_offsets_mapping=True, **self._special_tokens(said.text))
            markers = {self.image_token_id, *map(self.tokenizer.convert_tokens_to_ids, placeholders(self.processor))}
            labels = torch.tensor(answer_labels(ids.tolist(), plain, said.answers, markers))
        tensors = {name: value for name, value in inputs.items() if name not in _OF_TEXT}
        if self.max_length is not None and len(ids) > self.max_length:
            sizes = self._picture_tokens(images)
            kept, shown = kept_length(ids.tolist(), self.image_token_id, sizes, self.max_length, self.truncation)
            ids, labels = ids[:kept], labels[:kept]
            tensors = tensors if shown == len(images) else self._picture_tensors(images[:shown])
        return EncodedSample(ids, labels, tensors=tensors)

    def _inputs(self, text: str, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What the processor makes of a text and its pictures.

        Raises:
            ValueError: it refuses them.
        """
        options = {"images": [list(images)]} if images else {}
        try:
            return dict(self.processor(text=[text], return_tensors="pt", **options, **self._special_tokens(text)))
        except Exception as error:  # processors differ in what they raise
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"its processor refuses the text or its pictures: {reason}") from error

    def _special_tokens(self, text: str) -> dict[str, bool]:
        """A template that writes the first token is not given it twice."""
        begin = self.tokenizer.bos_token
        return {"add_special_tokens": False} if begin is not None and text.startswith(begin) else {}

    def _picture_tokens(self, images: Sequence[Image.Image]) -> list[int]:
        """Visual tokens of every picture."""
        return [int((self._shown([image])["input_ids"] == self.image_token_id).sum()) for image in images]

    def _picture_tensors(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Of pictures alone, without a text."""
        inputs = self._shown(images) if images else {}
        return {name: value for name, value in inputs.items() if name not in _OF_TEXT}

    def _shown(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        return self._inputs(render(self.processor, [user_message(IMAGE_TEXT * len(images))], asks=True), images)

    def collate(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor | None]:
        """Padded on the right; the pictures' tensors are joined along their first axis, `pixel_values` None without."""
        batch: dict[str, Tensor | None] = {**pad_samples(samples, self.pad_id), "pixel_values": None}
        for name in dict.fromkeys(name for sample in samples for name in sample.tensors):
            batch[name] = _join([sample.tensors[name] for sample in samples if name in sample.tensors])
        return batch

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids to text, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def fit(self, picture: Image.Image) -> Image.Image:
        """The picture: its own processor prepares it."""
        return picture

    @property
    def decode_size(self) -> int | None:
        """None: its own processor scales it."""
        return None

    def for_captions(self) -> ChatProcessor:
        """Refused: captions are read in LLaVA's own form."""
        raise ValueError("template plain is LLaVA's own; this base is asked by its chat template")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer with `<ROUTER>`, the processor's own files, and `dpn_processor.json`."""
        self.tokenizer.save_pretrained(folder)
        for name, content in self._files.items():
            (Path(folder) / name).write_bytes(content)
        values = {
            "processor": KIND,
            "end_ids": self.end_ids,
            "max_length": self.max_length,
            "truncation": self.truncation,
        }
        (Path(folder) / FILE_NAME).write_text(json.dumps(values, indent=2) + "\n")

    @property
    def pad_id(self) -> int:
        """Of the tokenizer, or an end of answers where it has none."""
        found = self.tokenizer.pad_token_id
        return self.end_ids[0] if found is None else int(found)


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Along the first axis; other axes that differ are padded with zeros, as processors do for a batch."""
    sizes = [max(tensor.shape[axis] for tensor in tensors) for axis in range(1, tensors[0].ndim)]
    padded = []
    for tensor in tensors:
        missing = [size - have for size, have in zip(sizes, tensor.shape[1:], strict=True)]
        padded.append(pad(tensor, [part for size in reversed(missing) for part in (0, size)]))
    return torch.cat(padded)
