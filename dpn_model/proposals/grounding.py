"""Grounding DINO as a source of proposals: it is asked for what the question names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from dpn_model.objects.boxes import FloatArray
from dpn_model.proposals.contract import Known, Limits, Proposed, best
from dpn_model.proposals.detector import BATCH_SIZE, as_array, in_pixels, run
from dpn_model.proposals.families import GROUNDING
from dpn_model.proposals.folders import in_short, load_model, model_type
from dpn_model.proposals.nouns import nouns_of, prompts_of
from dpn_model.proposals.pictures import Prepare, Prepared, batches, load_pictures

#: RexSeek's threshold of a box; the one of text only decides on a box's phrase, which nobody asks for here
THRESHOLD = 0.25


class Grounding:
    """A Grounding DINO. A box's score is that of the token it fits best.

    Args:
        model: see `families.GROUNDING`.
        prepare: its image processor.
        tokenizer: its tokenizer.
        limits: threshold and suppression.
        batch_size: pictures of one shape in a forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prepare: Prepare,
        tokenizer: Any,
        limits: Limits | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.model = model.eval()
        self.prepare = prepare
        self.tokenizer = tokenizer
        self.limits = limits or Limits(THRESHOLD)
        self.batch_size = batch_size

    def propose(
        self,
        images: Sequence[Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        """See `ProposalSource`; a question in several turns is one text.

        Raises:
            ValueError: without questions, or where the detector gives numbers that are not finite.
        """
        if questions is None:
            raise ValueError("Grounding DINO looks for what a question names, and there are no questions")
        limit = int(self.model.config.max_text_len)
        asked = [prompts_of(nouns_of(question), self._count, limit) for question in questions]
        found: list[list[tuple[FloatArray, FloatArray]]] = [[] for _ in images]
        # A question that names more than fits into one prompt is asked in several, and their boxes are put together.
        pairs = [(place, prompt) for place, prompts in enumerate(asked) for prompt in prompts]
        prepared = {place: self.prepare(images[place]) for place in {place for place, _ in pairs}}
        for numbers, inputs in batches([prepared[place] for place, _ in pairs], self.batch_size):
            outputs = run(self.model, {**inputs, **self._texts([pairs[number][1] for number in numbers], limit)})
            for number, scores, boxes in zip(numbers, _best_tokens(outputs.logits), outputs.pred_boxes, strict=True):
                place = pairs[number][0]
                found[place].append((in_pixels(boxes, images[place].size), as_array(scores)))
        return [self._best(parts, image.size) for parts, image in zip(found, images, strict=True)]

    def _count(self, prompt: str) -> int:
        return len(self.tokenizer(prompt)["input_ids"])

    def _texts(self, prompts: list[str], limit: int) -> Prepared:
        return dict(self.tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt"))

    def _best(self, parts: Sequence[tuple[FloatArray, FloatArray]], size: tuple[int, int]) -> Proposed:
        boxes = np.concatenate([np.empty((0, 4)), *(boxes for boxes, _ in parts)])
        return best(boxes, np.concatenate([np.empty(0), *(scores for _, scores in parts)]), size, self.limits)


def load_grounding(
    folder: Path, limits: Limits | None = None, *, device: str = "cpu", batch_size: int = BATCH_SIZE
) -> Grounding:
    """The Grounding DINO of a from_pretrained folder.

    Raises:
        FileNotFoundError: no such folder, or no config.json in it.
        ValueError: it holds another model, or one that cannot be loaded whole.
    """
    found = model_type(folder)
    if found not in GROUNDING:
        raise ValueError(f"{folder} holds a model of type {found}; asked in words are {', '.join(sorted(GROUNDING))}")
    model = load_model(folder, device, asks=True)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no tokenizer that can be used: {in_short(error)}") from error
    return Grounding(model, load_pictures(folder), tokenizer, limits, batch_size)


def _best_tokens(logits: Tensor) -> Tensor:
    """float32[B, Q] of [B, Q, tokens]; padded tokens are minus infinity."""
    return logits.float().amax(-1).sigmoid()
