"""Rows of a vocabulary for objects: the tokenizer tells where they are, new ones are means (spec chatrex 1.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpn_model.special_texts import OBJECT_TOKENS
from dpn_model.weights.object_rows import ObjectRows, find_object_rows, with_object_rows
from tests.model.toy_chatrex_folders import ROWS, WORDS
from tests.model.toy_folders import word_tokenizer

EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


def with_tokenizer(folder: Path, *texts: str) -> Path:
    """A tokenizer of `WORDS` tokens (`<unk>`, `<s>`, `</s>` and words), and `texts` behind them."""
    tokenizer = word_tokenizer(words=[f"w{number}" for number in range(WORDS - 3)])
    tokenizer.add_tokens(list(texts), special_tokens=True)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_texts_are_those_of_the_paper() -> None:
    assert len(OBJECT_TOKENS) == 104
    assert OBJECT_TOKENS[0::50] == ("<obj0>", "<obj50>", "<ground>")
    assert OBJECT_TOKENS[99:] == ("<obj99>", "<ground>", "</ground>", "<objects>", "</objects>")


@pytest.mark.parametrize(("rows", "first"), [(32104, 32000), (151769, 151665)])
def test_published_vocabularies_end_with_them(rows: int, first: int, tmp_path: Path) -> None:
    assert find_object_rows(tmp_path, rows) == ObjectRows(first, rows, router=rows)


def test_the_tokenizer_says_where_they_are(tmp_path: Path) -> None:
    with_tokenizer(tmp_path / "theirs", *OBJECT_TOKENS)
    assert find_object_rows(tmp_path / "theirs", ROWS) == ObjectRows(WORDS, ROWS, router=ROWS)
    assert find_object_rows(tmp_path / "theirs", WORDS) == ObjectRows(WORDS, WORDS, router=ROWS)
    with_tokenizer(tmp_path / "more", *OBJECT_TOKENS, "<other>")
    assert find_object_rows(tmp_path / "more", ROWS + 1) == ObjectRows(WORDS, ROWS + 1, router=ROWS + 1)
    with_tokenizer(tmp_path / "ours", *OBJECT_TOKENS, "<other>", "<ROUTER>")
    assert find_object_rows(tmp_path / "ours", ROWS + 2) == ObjectRows(WORDS, ROWS + 2, router=ROWS + 1)
    with_tokenizer(tmp_path / "base")
    assert find_object_rows(tmp_path / "base", ROWS) == ObjectRows(WORDS, ROWS, router=ROWS)  # added after loading
    for rows in (WORDS, WORDS + 8, ROWS + 8):  # spare rows of a base LLM are not theirs
        assert find_object_rows(tmp_path / "base", rows) == ObjectRows(WORDS, WORDS, router=ROWS)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (OBJECT_TOKENS[:-1], f"</objects> the id None; allowed: {ROWS - 1}, in the order"),
        ((*OBJECT_TOKENS[1:100], "<obj0>", *OBJECT_TOKENS[100:]), f"<obj1> the id {WORDS}; allowed: {WORDS + 100}"),
    ],
)
def test_tokenizers_with_other_orders_are_refused(texts: tuple[str, ...], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        find_object_rows(with_tokenizer(tmp_path, *texts), ROWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_rows_start_at_the_mean_of_the_old(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    old = {EMBEDDING: torch.randn(WORDS + 8, 6).to(dtype), HEAD: torch.randn(WORDS + 8, 6).to(dtype)}
    other = {"model.language_model.norm.weight": torch.ones(6)}
    grown = with_object_rows(old | other, ObjectRows(WORDS, WORDS, ROWS))
    for name, weight in old.items():
        assert grown[name].dtype == dtype
        assert torch.equal(grown[name][:WORDS], weight[:WORDS])
        mean = weight[:WORDS].double().mean(dim=0)
        for row in grown[name][WORDS:]:
            torch.testing.assert_close(row.double(), mean, atol=1e-7 if dtype == torch.float32 else 2e-3, rtol=0)
        assert len(grown[name]) == ROWS
    assert not torch.equal(grown[EMBEDDING][-1], grown[HEAD][-1])
    full = with_object_rows(old | other, ObjectRows(WORDS + 8 - 104, WORDS + 8, WORDS + 8))
    assert all(full[name] is weight for name, weight in (old | other).items())
