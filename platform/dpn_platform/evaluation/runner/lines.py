"""The files of an evaluation: one answer file per shard as it is done, and LLaVA's lines in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from dpn_platform.benchmarks.files.published import boxes_digest
from dpn_platform.benchmarks.files.questions import Question
from dpn_platform.evaluation.answering.contract import Answered, Timing
from dpn_platform.evaluation.runner.shards import Shard
from dpn_platform.storage import join_uri, list_files, read_bytes, read_json, write_bytes, write_json

Line = dict[str, Any]
_READERS = 16


class ShardFiles:
    """`shards/<name>.jsonl` (answers) and `shards/<name>.json` (times) below an output folder."""

    def __init__(self, output_uri: str) -> None:
        self.folder = join_uri(output_uri, "shards")

    def done(self) -> set[str]:
        """Names of the shards that are answered."""
        return {uri.rpartition("/")[2].removesuffix(".jsonl") for uri in list_files(self.folder, ".jsonl")}

    def write(self, shard: Shard, lines: Sequence[Line], times: Sequence[Mapping[str, Any]]) -> None:
        """Keeps a shard; the answers come last, for their presence says that the shard is done."""
        write_json(f"{self.folder}/{shard.name}.json", list(times))
        write_bytes(f"{self.folder}/{shard.name}.jsonl", encoded(lines))

    def read(self, shards: Sequence[Shard]) -> tuple[list[Line], list[dict[str, Any]]]:
        """All lines, variant after variant, in the order of the question file; and every shard's times of each."""

        def one(shard: Shard) -> tuple[list[Line], list[dict[str, Any]]]:
            text = read_bytes(f"{self.folder}/{shard.name}.jsonl").decode()
            lines = [json.loads(line) for line in text.split("\n") if line]
            return lines, read_json(f"{self.folder}/{shard.name}.json")

        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(one, shards))
        lines = sorted((line for lines, _ in found for line in lines), key=lambda line: line["metadata"]["place"])
        return lines, [one for _, times in found for one in times]


def encoded(lines: Sequence[Line]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def answer_line(
    question: Question, answered: Answered | None, model: str, more: Mapping[str, Any], variant: str = ""
) -> Line:
    """One line of LLaVA's answer file; what the answer took stands under `metadata`.

    Args:
        question: as it was asked.
        answered: None where the protocol does not run the model.
        model: its name.
        more: figures of the picture, for `metadata`.
        variant: of the model; its name follows the model's.
    """
    text = answered.text if answered is not None else question.fixed_answer
    model = f"{model}-{variant}" if variant else model
    identity = json.dumps([model, question.place, question.id], default=str)
    took = {} if answered is None else asdict(answered)
    took.pop("text", None)
    known: dict[str, Any] = {"place": question.place, "family": question.family, "difficulty": question.difficulty}
    if took.get("object_probabilities") is None:
        took.pop("object_probabilities", None)
    if question.boxes is not None:
        known["boxes"] = boxes_digest(question.boxes)
    metadata = {"variant": variant, **known, **more, **took.pop("macs", {}), **took}
    return {
        "question_id": question.id,
        "prompt": question.stored_prompt,
        "text": text,
        "answer_id": hashlib.sha256(identity.encode()).hexdigest()[:22],
        "model_id": model,
        **question.fields,
        "metadata": metadata,
    }


def timing_of(times: Sequence[Mapping[str, Any]]) -> Timing:
    """The sum of several shards' times."""
    return sum((Timing(**one["timing"]) for one in times), Timing())
