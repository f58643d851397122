"""What a model's processor does, whoever wrote it: conversations and pictures to the model's inputs, ids to text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dpn_model.objects.record import Objects
from dpn_model.processing.images import normalise
from dpn_model.special_texts import IMAGE_TEXT

IGNORE_INDEX = -100
#: (question with its placeholders, answer); the last answer may be open
Turn = tuple[str, str | None]
#: the pictures of one question
Pictures = Image.Image | Sequence[Image.Image] | None


@dataclass(frozen=True)
class EncodedSample:
    """One sample.

    Attributes:
        input_ids: int64[S], every picture expanded.
        labels: int64[S], -100 where not supervised.
        images: uint8[3, H, W] pictures of a processor of ours; normalised on the device.
        tensors: what another processor says of the pictures, under its own names (`pixel_values` ...).
    """

    input_ids: Tensor
    labels: Tensor
    images: tuple[Tensor, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


class Processor(ABC):
    """Of one model.

    Attributes:
        tokenizer: of transformers.
        max_length: longer samples are cut at the right, never through a picture; None keeps everything.
        image_token_id: id that stands for a visual token.
        end_ids: ids that end an answer.
        takes_objects: whether a sample may bring boxes on its picture.
    """

    takes_objects = False
    tokenizer: Any
    max_length: int | None
    image_token_id: int
    end_ids: list[int]

    @abstractmethod
    def __call__(
        self, questions: Sequence[str], images: Sequence[Pictures], *, router: bool = True
    ) -> dict[str, Tensor]:
        """A batch of questions, as `forward` and `generate` take it."""

    def encode_training(
        self,
        turns: Sequence[Turn],
        images: Sequence[Image.Image],
        *,
        router: bool,
        sample_id: object = None,
        needs_answer: bool = True,
        objects: Objects | None = None,
    ) -> EncodedSample:
        """Ids and labels of a whole conversation.

        Args:
            turns: (question, answer); an open last answer gives a prompt without labels.
            images: pictures in the order of their placeholders.
            router: add `<ROUTER>` to the questions (ignored for text-only samples).
            sample_id: names the sample in errors.
            objects: boxes on the one picture, which `<objN>` of the turns names.
            needs_answer: whether a conversation whose answers all lie behind the limit is refused; otherwise it has
                no label, as in LLaVA's training.

        Raises:
            ValueError: placeholders and pictures differ in number, the limit falls inside a picture, or no supervised
                token is left of a conversation that has answers.
        """
        try:
            found = sum(question.count(IMAGE_TEXT) for question, _ in turns)
            if found != len(images):
                raise ValueError(f"{found} {IMAGE_TEXT} placeholders but {len(images)} images")
            if objects is not None and not self.takes_objects:
                raise ValueError("it brings boxes, which this model is not made for; bases that are: chatrex")
            sample = self._encode(turns, images, router=router and bool(images), objects=objects)
            if needs_answer:
                _check_answers(sample, turns, self.max_length)
        except ValueError as error:
            if sample_id is None:
                raise
            raise ValueError(f"sample {sample_id}: {error}") from error
        return sample

    def encode_prompt(
        self, question: str, images: Sequence[Image.Image], *, router: bool, objects: Objects | None = None
    ) -> EncodedSample:
        """A question alone, ready for generation."""
        return self.encode_training([(question, None)], images, router=router, objects=objects)

    @abstractmethod
    def _encode(
        self, turns: Sequence[Turn], images: Sequence[Image.Image], *, router: bool, objects: Objects | None
    ) -> EncodedSample:
        """A conversation with as many pictures as placeholders; objects are of processors that take them."""

    @abstractmethod
    def collate(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor | None]:
        """Padded on the right; `pixel_values` are None without pictures. For `model_inputs`."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids to text, special tokens left out."""

    @abstractmethod
    def fit(self, picture: Image.Image) -> Image.Image:
        """As much of a picture's preparation as threads may do beforehand."""

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """Id that fills rows up."""

    @property
    @abstractmethod
    def decode_size(self) -> int | None:
        """Longer side, in pixels, to which a picture may be scaled while it is decoded; None: it must not be."""

    @abstractmethod
    def for_captions(self) -> Processor:
        """The processor that reads pictures and their captions (LLaVA's stage 1).

        Raises:
            ValueError: there is no such form of it.
        """

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `load_processor` reads into a from_pretrained folder."""


def ask(
    processor: Processor,
    questions: Sequence[str],
    images: Sequence[Pictures],
    *,
    router: bool,
    objects: Sequence[Objects | None] | None = None,
) -> dict[str, Tensor]:
    """Questions, one per sample, as a collated batch; placeholders go in front of a question that has none.

    Raises:
        ValueError: questions and images differ in number; otherwise as `Processor.encode_training`.
    """
    if len(questions) != len(images):
        raise ValueError(f"{len(questions)} questions but {len(images)} images; give None where there is none")
    if objects is not None and len(objects) != len(questions):
        raise ValueError(f"{len(questions)} questions but objects for {len(objects)}; give None where there are none")
    samples = []
    for question, image, boxes in zip(questions, images, objects or [None] * len(questions), strict=True):
        shown = [] if image is None else [image] if isinstance(image, Image.Image) else list(image)
        if IMAGE_TEXT not in question:
            question = f"{IMAGE_TEXT}\n" * len(shown) + question
        samples.append(processor.encode_prompt(question, shown, router=router, objects=boxes))
    batch = processor.collate(samples)
    return {name: tensor for name, tensor in batch.items() if tensor is not None and name != "labels"}


def _check_answers(sample: EncodedSample, turns: Sequence[Turn], max_length: int | None) -> None:
    """Refuses a conversation whose answers were all cut away.

    Raises:
        ValueError: it has answers and no supervised token.
    """
    if any(answer is not None for _, answer in turns) and bool((sample.labels == IGNORE_INDEX).all()):
        tokens = len(sample.input_ids)
        raise ValueError(f"no supervised token is left of {tokens}; max_length = {max_length} cut the answers")


def pad_samples(samples: Sequence[EncodedSample], pad_token_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels`, int64[B, S], padded on the right."""
    longest = max(len(sample.input_ids) for sample in samples)
    input_ids = torch.full((len(samples), longest), pad_token_id)
    labels = torch.full((len(samples), longest), IGNORE_INDEX)
    mask = torch.zeros(len(samples), longest, dtype=torch.long)
    for row, sample in enumerate(samples):
        length = len(sample.input_ids)
        input_ids[row, :length] = sample.input_ids
        labels[row, :length] = sample.labels
        mask[row, :length] = 1
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def picture_inputs(batch: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a collated batch says of its pictures, as `forward` takes it, on the device.

    Pixels as uint8 are normalised there; all other tensors keep their values, floats in `dtype`. Boxes stay on the
    host, which works out what to read of them, and keep their precision.
    """
    inputs: dict[str, Any] = {}
    for name, value in batch.items():
        if name == BOXES:
            inputs[name] = value
        elif name not in _TEXT and isinstance(value, Tensor):
            placed = value.to(device, non_blocking=True)
            placed = normalise(placed) if placed.dtype == torch.uint8 else placed
            inputs[name] = placed.to(dtype) if placed.is_floating_point() else placed
    return inputs


#: of a collated batch: float32[N, 4], in pixels of the model's input
BOXES = "boxes"
#: of a collated batch: what is no picture's, and what only the training loop reads
_TEXT = frozenset({"input_ids", "attention_mask", "labels", "row_ids", "sample_keys", "families"})
