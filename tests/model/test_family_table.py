"""docs/families.md: which of transformers' image-text-to-text families attach, and why the others do not.

`pytest -s` prints the table, which is what the document holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_model.bases.decoders import DECODERS
from dpn_model.bases.families import why_not
from dpn_model.bases.vision.anyres_images import AnyresImages
from dpn_model.bases.vision.clip_images import ClipImages
from dpn_model.bases.vision.fixed_images import FixedImages
from dpn_model.bases.vision.gridded_images import GriddedImages
from dpn_model.bases.vision.image_side import IMAGE_SIDES, image_side_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"
#: what the visual tokens of a picture form
GRIDS = {
    ClipImages: "one grid, of any size",
    AnyresImages: "a thumbnail, and a larger grid whose rows end with a newline",
    FixedImages: "a square grid per tile",
    GriddedImages: "one grid, of any shape",
}


def default_config(kind: str) -> Any:
    if kind == "vision-encoder-decoder":  # older releases make it of two parts only
        return CONFIG_MAPPING[kind].from_encoder_decoder_configs(CONFIG_MAPPING["vit"](), CONFIG_MAPPING["bert"]())
    return CONFIG_MAPPING[kind]()


def grids_of(kind: str) -> str:
    side = image_side_of(CONFIG_MAPPING[kind]())
    return next(told for known, told in GRIDS.items() if isinstance(side, known))


def rows() -> list[str]:
    working = [kind for kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if kind in IMAGE_SIDES]
    others = [kind for kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if kind not in IMAGE_SIDES]
    return [
        *(f"| {kind} | yes | {grids_of(kind)} |" for kind in sorted(working)),
        *(f"| {kind} | no | {why_not(default_config(kind))} |" for kind in sorted(others)),
    ]


def test_the_document_holds_the_table_and_the_decoders() -> None:
    table = rows()
    print("\n".join(table))
    stored = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and " --- " not in line][1:]
    names = [line.split(" | ")[0] for line in table]
    stored_known = [line for line in stored if line.split(" | ")[0] in names]
    if len(stored_known) < len(stored):  # an older transformers, whose default configurations give other reasons
        table, stored_known = ([line.split(" | ")[:2] for line in lines] for lines in (table, stored_known))
    assert stored_known == table
    assert f"`{'`, `'.join(DECODERS)}`" in DOCUMENT.read_text().replace("\n", " ")


@pytest.mark.parametrize("kind", ["gemma3", "paligemma", "mllama", "qwen3_5", "florence2", "aya_vision"])
def test_the_others_are_refused_by_name_and_reason_before_anything_is_built(kind) -> None:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"the installed transformers has no {kind}")
    config = CONFIG_MAPPING[kind]()
    with pytest.raises(ValueError, match=f"base_config.model_type = '{kind}'") as told:
        DpnForConditionalGeneration(DpnConfig(base_config=AutoConfig.for_model(kind)))
    assert f"({why_not(config)}); allowed: llava, llava_hr, llava_next" in str(told.value)


@pytest.mark.parametrize("kind", sorted(set(IMAGE_SIDES) - {"llava_hr"}))
def test_those_that_work_are_built_from_their_default_configuration(kind) -> None:
    """At full size, without memory: the guard admits what the Hub's models say."""
    # Older releases give these a padding token outside their decoder's vocabulary.
    larger = {"text_config": {"model_type": "llama", "vocab_size": 128260}} if kind in ("idefics3", "smolvlm") else {}
    with torch.device("meta"):
        model = DpnForConditionalGeneration(DpnConfig(base_config=AutoConfig.for_model(kind, **larger)))
    assert len(model.model.language_model.layers) == model.config.base.text_config.num_hidden_layers
