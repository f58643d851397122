"""Where `<ROUTER>` and `<image>` stand in an imported vocabulary, and the rows an embedding lacks for them.

The ids are those that the folder's own tokenizer gives: what it has already, else the next free one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from dpn_model.special_texts import IMAGE_TEXT, ROUTER_TEXT

EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
#: of the authors' `resize_token_embeddings`: transformers' default deviation, their training seed
ROUTER_ROW_STD, ROUTER_ROW_SEED = 0.02, 42

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def tokenizer_ids(folder: Path, image_token_id: int | None = None) -> tuple[int, int] | None:
    """Ids of `<ROUTER>` and `<image>` in the folder's tokenizer, taught to it where it lacks them.

    Args:
        folder: with or without a tokenizer.
        image_token_id: the model's, where it is known; `<ROUTER>` never takes it.

    Returns:
        None where the folder has no tokenizer, or one that transformers cannot read.
    """
    tokenizer = folder_tokenizer(folder)
    if tokenizer is None:
        return None
    router = _id_of(tokenizer, ROUTER_TEXT)
    if router == image_token_id:
        router += 1
    return router, (_id_of(tokenizer, IMAGE_TEXT) if image_token_id is None else image_token_id)


def folder_tokenizer(folder: Path) -> Any | None:
    """The folder's tokenizer; None where it has none, or one that transformers cannot read."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception:  # whoever needs the tokenizer says what is wrong with it; the weights are read without it
        return None


def with_rows(tensors: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """The embedding, and the head where it is another one, with `rows` rows: the new ones for `<ROUTER>` (spec A.3)."""
    generator = torch.Generator("cpu").manual_seed(ROUTER_ROW_SEED)
    grown = dict(tensors)
    for name in (EMBEDDING, HEAD):
        if name in grown:
            grown[name] = grow_rows(grown[name], rows, generator)
    return grown


def grow_rows(weight: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """float[rows, D]: `weight` with drawn rows behind its own; itself where it has as many."""
    if rows <= len(weight):
        return weight
    shape = (rows - len(weight), weight.shape[1])
    drawn = torch.randn(shape, generator=generator, device=generator.device) * ROUTER_ROW_STD
    return torch.cat([weight, drawn.to(weight)])


def _id_of(tokenizer: Any, text: str) -> int:
    tokenizer.add_tokens([text], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(text))
