"""How sure a model is of the boxes that it names: the probability of each one's token when it was written.

Shape letters: B samples, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from dpn_model.special_texts import MAX_OBJECTS, OBJECT_TOKENS

#: a batch's other samples move the last digits
_DIGITS = 6


class ChosenProbabilities(LogitsProcessor):
    """Notes the probability of what greedy decoding chooses in every step, and changes nothing.

    It stays on the device until it is read: no step waits for it.
    """

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """float[B, C], as they came."""
        self.steps.append((scores.amax(dim=-1) - scores.logsumexp(dim=-1)).exp())
        return scores

    def of_boxes(
        self, new_ids: Sequence[Sequence[int]], boxes: Mapping[int, int]
    ) -> list[tuple[tuple[int, float], ...]]:
        """(box, probability) for every token of a box, of each sample.

        Args:
            new_ids: the generated tokens of each.
            boxes: token -> box.
        """
        by_sample = torch.stack(self.steps, dim=1).tolist()
        return [
            tuple(
                (boxes[token], round(probability, _DIGITS))
                for token, probability in zip(ids, probabilities, strict=False)
                if token in boxes
            )
            for ids, probabilities in zip(new_ids, by_sample, strict=True)
        ]


def box_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, int]:
    """Token -> the box that it names."""
    tokens = tokenizer.convert_tokens_to_ids(list(OBJECT_TOKENS[:MAX_OBJECTS]))
    return {token: number for number, token in enumerate(tokens)}
