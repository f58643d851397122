"""A toy model with a method attached, and batches that fit it: what the property suite examines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpn_model import DpnForConditionalGeneration, modeling, packed_inputs
from dpn_model.decoder import DecoderPass
from dpn_model.methods.registry import find_method
from dpn_model.methods.spec import MethodSpec
from dpn_model.outputs import DpnOutput
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from dpn_model.tiny import tiny_config
from tests.model.conftest import picture
from tests.model.methods.method_cases import EVERY, Case

Batch = dict[str, Tensor]
#: a sample: turns of (question, answer), and the seeds of its pictures
Sample = tuple[list[tuple[str, str]], list[int]]
PICTURE: Sample = ([("<image>\nis there a red circle ?", "yes")], [0])
TEXT: Sample = ([("what colour is it", "blue")], [])
TURNS: Sample = ([("<image>\nis there ?", "no"), ("red ?", "yes")], [1])
TWO_PICTURES: Sample = ([("<image>\nis there a <image>\nred circle ?", "no")], [0, 1])
MIXED = (PICTURE, TEXT, TURNS)


@dataclass(repr=False)
class Subject:
    """A model of its own for one test.

    Attributes:
        name, case: of the method.
        model: in evaluation; weights of parts are off what they begin with, where much may be zero.
        processor: makes as many placeholders a picture as the method's projector gives.
    """

    name: str
    case: Case
    model: DpnForConditionalGeneration
    processor: DpnProcessor

    @classmethod
    def made(cls, name: str, case: Case, processor: DpnProcessor, *, fresh: bool = False, **other: Any) -> Subject:
        """The same weights at every call; `other` settings than the case's where any are given."""
        torch.manual_seed(0)
        model = DpnForConditionalGeneration(tiny_config(len(processor.tokenizer))).eval()
        model.configure_method({"name": name, **(other.pop("settings", case.settings)), **other})
        tokens = model.num_visual_tokens()
        ours = DpnProcessor(processor.tokenizer, image_size=96, tokens_per_image=tokens, template="short")
        with torch.no_grad():
            for weight in () if fresh else own_weights(model).values():
                weight.add_(torch.randn_like(weight) * 0.05)
        return cls(name, case, model, ours)

    def __repr__(self) -> str:
        """Short, for failures."""
        return f"{self.name} with {self.case.settings}"

    @property
    def spec(self) -> MethodSpec:
        return find_method(self.name)

    def prompts(self, *samples: Sample, router: bool | None = None) -> Batch:
        """The first question of every sample, as `forward` and `generate` take them."""
        router = self.model.needs_router_token if router is None else router
        encoded = [
            self.processor.encode_prompt(turns[0][0], [picture(seed) for seed in seeds], router=router)
            for turns, seeds in samples
        ]
        return {key: one for key, one in self._collated(encoded).items() if key != "labels"}

    def answered(self, *samples: Sample) -> Batch:
        """All turns, with labels."""
        router = self.model.needs_router_token
        return self._collated(
            [
                self.processor.encode_training(turns, [picture(seed) for seed in seeds], router=router)
                for turns, seeds in samples
            ]
        )

    def _collated(self, encoded: list[Any]) -> Batch:
        batch = self.processor.collate(encoded)
        if batch["pixel_values"] is None:
            del batch["pixel_values"]
            return batch
        return batch | {"pixel_values": normalise(batch["pixel_values"])}

    def watched(self, batch: Batch, **more: Any) -> tuple[DpnOutput, DecoderPass]:
        """A forward pass, and what the decoder left."""
        seen: list[DecoderPass] = []

        def run(*args: Any, **kwargs: Any) -> DecoderPass:
            seen.append(run_decoder(*args, **kwargs))
            return seen[-1]

        run_decoder = modeling.run_decoder
        with patch.object(modeling, "run_decoder", run):
            out = self.model(**batch, **more)
        return out, seen[0]


def own_weights(model: DpnForConditionalGeneration) -> dict[str, nn.Parameter]:
    """Parameters of the method's parts, by name."""
    own = {id(weight) for part in model.parts.all() for weight in part.parameters()}
    return {name: weight for name, weight in model.named_parameters() if id(weight) in own}


@contextmanager
def decided_by_prompt(length: int) -> Iterator[None]:
    """Of one sample whose first `length` rows are the prompt: its last row asks and its key draws, whatever follows."""
    pack_ids = packed_inputs.pack_ids

    def packed(*args: Any, **kwargs: Any) -> Any:
        return replace(pack_ids(*args, **kwargs), asking_rows_R=np.array([length - 1]))

    with (
        patch.object(packed_inputs, "pack_ids", packed),
        patch.object(packed_inputs, "sample_keys", lambda *_: (7,)),
    ):
        yield


#: of every method its first way of working; the others are longer proofs (`make test-long`)
each_case = pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(*row[1:], id=row[0], marks=() if row[0] == row[1] else pytest.mark.long) for row in EVERY],
)
