"""Every method that fits ChatRex, among objects: none is pooled, dropped or moved, whatever their number is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig

from dpn_model import DpnConfig, DpnForConditionalGeneration, modeling
from dpn_model.decoder import DecoderPass
from dpn_model.objects.record import Objects
from dpn_model.packing import TokenKind
from dpn_model.processing.images import normalise
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.special_texts import SPECIAL_TOKENS
from tests.model.conftest import picture
from tests.model.methods.method_cases import EVERY, Case
from tests.model.toy_chatrex import toy_config

#: what looks into the tower's layers, or replaces what CLIP sees; ChatRex shows features alone
SHOWS_MORE = {
    "complexity",
    "downsample",
    "eadaprune",
    "fastervlm",
    "glimpse_prune",
    "holov",
    "prumerge",
    "tokenpacker",
    "toy_projector",
    "toy_select",
    "visionzip",
    "vispruner",
    "vscan",
}
NUMBERS = (3, 0, 20)
FITTING = [(label, name, case) for label, name, case in EVERY if name not in SHOWS_MORE]
each_case = pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(*row[1:], id=row[0], marks=() if row[0] == row[1] else pytest.mark.long) for row in FITTING],
)


@pytest.fixture(scope="module")
def processor() -> ObjectProcessor:
    words = "is there a red circle ? yes".split()
    return ObjectProcessor(
        build_word_tokenizer(words, objects=True), image_size=256, tokens_per_image=64, template="short"
    )


@pytest.fixture(scope="module")
def made(processor: ObjectProcessor) -> Callable[[str, dict[str, Any]], DpnForConditionalGeneration]:
    """A toy of 8 layers and 8x8 visual tokens, as the other properties are examined on."""
    size = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    base = toy_config(
        vision_config=CLIPVisionConfig(**size, num_hidden_layers=3, image_size=64, patch_size=8),
        text_config=LlamaConfig(**size, num_hidden_layers=8, vocab_size=len(processor.tokenizer)),
        image_size=256,
        image_token_index=processor.image_token_id,
        object_token_index=len(SPECIAL_TOKENS),
    )

    def make(name: str, settings: dict[str, Any]) -> DpnForConditionalGeneration:
        torch.manual_seed(0)
        config = DpnConfig(base_config=base, router_token_id=SPECIAL_TOKENS.index("<ROUTER>"))
        model = DpnForConditionalGeneration(config).eval()
        model.configure_method({"name": name, **settings})
        return model

    return make


def prompts(
    processor: ObjectProcessor, model: DpnForConditionalGeneration, numbers: tuple[int, ...]
) -> dict[str, Tensor]:
    """A question for each number of boxes; the same sample, whatever stands beside it."""
    processor.tokens_per_image = model.num_visual_tokens()
    encoded = []
    for count in numbers:
        rng = np.random.default_rng(count)
        corner = rng.uniform(0, 60, (count, 2))
        objects = Objects(np.concatenate([corner, corner + rng.uniform(5, 30, (count, 2))], axis=1), (96, 96))
        question = "<image>\nis there a red circle ?"
        encoded.append(
            processor.encode_prompt(question, [picture(count)], router=model.needs_router_token, objects=objects)
        )
    batch = processor.collate(encoded)
    del batch["labels"]
    return batch | {"pixel_values": normalise(batch["pixel_values"])}  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", sorted(SHOWS_MORE))
def test_what_looks_into_the_tower_is_refused_in_one_line(made: Any, processor: ObjectProcessor, name: str) -> None:
    settings = next(case.settings for _, other, case in EVERY if other == name)

    def run() -> None:
        model = made(name, settings)
        model(**prompts(processor, model, (1,)))

    with pytest.raises(ValueError, match=r"^[^\n]*(tower|chatrex)[^\n]*$"):
        run()


@each_case
@torch.no_grad()
def test_objects_stay_and_a_sample_does_not_depend_on_its_batch(
    made: Any, processor: ObjectProcessor, name: str, case: Case
) -> None:
    model = made(name, case.settings)
    batch = prompts(processor, model, NUMBERS)
    done: list[DecoderPass] = []

    def run(*args: Any, **kwargs: Any) -> DecoderPass:
        done.append(run_decoder(*args, **kwargs))
        return done[-1]

    run_decoder = modeling.run_decoder
    with patch.object(modeling, "run_decoder", run):
        together = model(**batch)
    assert together.routing.num_objects == NUMBERS
    final, start = done[0].final, 0
    tokens = batch["input_ids"][batch["attention_mask"].bool()]
    for count, length in zip(NUMBERS, final.lengths, strict=True):
        rows = slice(start, start + length)
        kind, index = final.kind_T[rows], final.token_index_T[rows]
        objects = index[kind == TokenKind.OBJECT].tolist()
        assert len(objects) == count
        assert all(one + 2 == other for one, other in pairwise(objects))  # a name stands between two
        assert (tokens[objects] == model.object_token_id).all()
        start += length
    for number, count in enumerate(NUMBERS):
        single = model(**prompts(processor, model, (count,)))
        assert together.routing.route(number) == single.routing.route(0)
        torch.testing.assert_close(together.logits[number], single.logits[0], atol=5e-5, rtol=1e-4)
