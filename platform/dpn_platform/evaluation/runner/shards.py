"""Cuts a benchmark into shards: questions of one picture stay together, and a shard's name says what is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.benchmarks.files.questions import PictureRef, Question

#: what is answered, written and (after an interruption) kept as a whole; apart from batches, so that these may change
SHARD_QUESTIONS = 128


@dataclass(frozen=True)
class Shard:
    """Some questions; `name` has a digest of everything their answers depend on."""

    name: str
    questions: tuple[Question, ...] = field(repr=False)

    def pictures(self) -> list[PictureRef]:
        """Those its questions show, each once."""
        return list(dict.fromkeys(picture for question in self.questions for picture in question.pictures))


def cut(questions: Sequence[Question], key: Mapping[str, Any], size: int = SHARD_QUESTIONS) -> list[Shard]:
    """The questions in shards of about `size`.

    Args:
        questions: of the benchmark.
        key: what decides the answers beside the questions: checkpoint, variant, precision.
        size: a picture with more questions than that is cut.
    """
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    parts: list[list[Question]] = [[]]
    for members in groups.values():
        if parts[-1] and len(parts[-1]) + len(members) > size:
            parts.append([])
        for question in members:
            if len(parts[-1]) == size:
                parts.append([])
            parts[-1].append(question)
    return [Shard(f"{number:05d}-{_digest(part, key)}", tuple(part)) for number, part in enumerate(parts)]


def _digest(questions: Sequence[Question], key: Mapping[str, Any]) -> str:
    content = [[question.place, question.id, question.text, _pictures(question)] for question in questions]
    limits: list[list[Any]] = [[question.max_new_tokens, question.fixed_answer] for question in questions]
    limits += [[question.place, question.boxes] for question in questions if question.boxes is not None]
    text = json.dumps([dict(key), content, limits], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _pictures(question: Question) -> list[Any]:
    return [
        [picture.uri, picture.column, picture.row, picture.item, hashlib.sha256(picture.data).hexdigest()]
        for picture in question.pictures
    ]
