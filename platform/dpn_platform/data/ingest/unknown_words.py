"""Words that a tokenizer does not know: how many a data set has, and which. Byte-level tokenizers know every word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dpn_platform.data.ingest.object_fields import TAG
from dpn_platform.data.ingest.record_forms import IMAGE_TEXT
from dpn_platform.data.ingest.tokens import parse_tokenizer
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_columns
from dpn_platform.storage import read_bytes

#: of a large set so many rows are looked at: ingest has spread the source's rows over the shards
SAMPLED_ROWS = 20_000
_EXAMPLES = 5

Texts = Mapping[str, int]


@dataclass
class UnknownWords:
    """What was counted.

    Attributes:
        rows: rows looked at.
        question_tokens, unknown_question_tokens: tokens of the questions, without template and pictures.
        answers, unknown_answers: answers, and those that hold an unknown token.
        in_questions, in_answers: the unknown words with their frequencies.
    """

    rows: int = 0
    question_tokens: int = 0
    unknown_question_tokens: int = 0
    answers: int = 0
    unknown_answers: int = 0
    in_questions: Counter[str] = field(default_factory=Counter)
    in_answers: Counter[str] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        """Whether every word is known."""
        return not (self.unknown_question_tokens or self.unknown_answers)

    def counts(self) -> dict[str, int]:
        """The sums, as the manifest records them."""
        names = ("question_tokens", "unknown_question_tokens", "answers", "unknown_answers")
        return {name: getattr(self, name) for name in names}

    def told(self) -> str:
        """The shares and the most frequent of the words, for people."""
        found = (("questions", self.in_questions), ("answers", self.in_answers))
        examples = []
        for where, words in found:
            ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_EXAMPLES]
            examples += [f"in {where} {', '.join(repr(word[:40]) for word, _ in ranked)}"] if ranked else []
        return f"{in_words(self.counts())} ({self.rows} rows looked at): {'; '.join(examples)}"


def in_words(counts: Mapping[str, int]) -> str:
    """Sums of `UnknownWords` as shares, for people."""
    questions = counts["unknown_question_tokens"] / max(counts["question_tokens"], 1)
    answers = counts["unknown_answers"] / max(counts["answers"], 1)
    return (
        f"{questions:.1%} of {counts['question_tokens']} tokens of the questions are unknown, and "
        f"{answers:.1%} of {counts['answers']} answers hold an unknown one"
    )


def count_unknown(conversations: Iterable[str], tokenizer_uri: str) -> UnknownWords | None:
    """Counts what a `tokenizer.json` does not know in rows' columns `conversations`.

    Returns:
        None for a tokenizer that knows every word.

    Raises:
        DpnError: there is no such file, or it is no tokenizer.
    """
    tokenizer, unknown_id = _tokenizer(tokenizer_uri)
    if unknown_id is None:
        return None
    rows, questions, answers = _texts(conversations)
    found = UnknownWords(rows=rows, answers=answers.total())
    for text, times in questions.items():
        encoding = tokenizer.encode(text, add_special_tokens=False)
        found.question_tokens += times * len(encoding.ids)
        for word in _unknown(text, encoding, unknown_id):
            found.unknown_question_tokens += times
            found.in_questions[word] += times
    for text, times in answers.items():
        words = _unknown(text, tokenizer.encode(text, add_special_tokens=False), unknown_id)
        found.unknown_answers += times * bool(words)
        for word in words:
            found.in_answers[word] += times
    return found


def count_unknown_of_split(manifest: Manifest, split: str, tokenizer_uri: str) -> UnknownWords | None:
    """The same for a published split; of a large one for the first shards, `SAMPLED_ROWS` rows or a few more."""
    if _tokenizer(tokenizer_uri)[1] is None:
        return None
    return count_unknown(_conversations(manifest, split, SAMPLED_ROWS), tokenizer_uri)


def unknown_line(manifest: Manifest, split: str, tokenizer_uri: str) -> str | None:
    """What a tokenizer does not know of a published split, in one line; None when it knows every word."""
    found = count_unknown_of_split(manifest, split, tokenizer_uri)
    return None if found is None or found.is_empty else f"{manifest.root}, split '{split}': {found.told()}"


def words_of_split(manifest: Manifest, split: str) -> list[str]:
    """Every word of a split's questions and answers, as a word-level tokenizer tells them apart; sorted."""
    from tokenizers.pre_tokenizers import WhitespaceSplit

    _, questions, answers = _texts(_conversations(manifest, split, None))
    tell_apart = WhitespaceSplit().pre_tokenize_str
    return sorted({word for text in {*questions, *answers} for word, _ in tell_apart(text)})


def _conversations(manifest: Manifest, split: str, limit: int | None) -> Iterable[str]:
    read = 0
    for shard in manifest.split(split).shards:
        if limit is not None and read >= limit:
            return
        texts = read_columns(manifest.shard_uri(shard), ["conversations"]).column("conversations").to_pylist()
        read += len(texts)
        yield from texts


def _texts(conversations: Iterable[str]) -> tuple[int, Counter[str], Counter[str]]:
    """(rows, questions, answers): many rows ask the same."""
    rows, questions, answers = 0, Counter[str](), Counter[str]()
    for text in conversations:
        values = [TAG.sub(" ", turn["value"]) for turn in json.loads(text)]  # tags of boxes are the model's own tokens
        questions.update(value.replace(IMAGE_TEXT, " ").strip() for value in values[::2])
        answers.update(values[1::2])
        rows += 1
    return rows, questions, answers


def _unknown(text: str, encoding: Any, unknown_id: int) -> list[str]:
    places = zip(encoding.ids, encoding.offsets, strict=True)
    return [text[start:end] for token, (start, end) in places if token == unknown_id]


def _tokenizer(uri: str) -> tuple[Any, int | None]:
    """The tokenizer of a `tokenizer.json`, and the id it gives to what it does not know; None where that cannot be."""
    return _parsed(read_bytes(uri), uri)


@lru_cache(maxsize=2)
def _parsed(data: bytes, uri: str) -> tuple[Any, int | None]:
    tokenizer = parse_tokenizer(data, uri)
    model = json.loads(tokenizer.to_str())["model"]
    unknown = model.get("unk_token")
    if model.get("byte_fallback"):
        return tokenizer, None
    if model["type"] == "Unigram":
        return tokenizer, model.get("unk_id")
    return tokenizer, None if unknown is None else tokenizer.token_to_id(unknown)
