"""Pieces of benchmarks in miniature: pictures, files by suffix, and rows that both layouts share."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
Writer = Callable[[Path], list[str]]


def picture(number: int) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (20 + number, 16), (37 * number % 256, 91 * number % 256, 20)).save(buffer, "PNG")
    return buffer.getvalue()


def cell(number: int) -> dict[str, Any]:
    """A picture as Hugging Face data sets keep it."""
    return {"bytes": picture(number), "path": f"{number}.png"}


def put(root: Path, name: str, content: Any) -> None:
    """Writes a file by its suffix; a list of records with pictures becomes parquet."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(content), path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def humans(answer: str) -> list[str]:
    return [answer] * 9 + ["other"]


def yes_lines(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """LLaVA's lines that answer these questions with yes."""
    return [{"question_id": str(number), "text": "Yes", "answer_id": "a"} for number in numbers]


def mmbench_rows() -> list[dict[str, Any]]:
    row = {"question": "Q?", "hint": "H", "A": "x", "B": "y", "C": None, "D": None, "category": "c", "split": "dev"}
    return [{**row, "index": 4, "answer": "A"}, {**row, "index": 1_000_004, "A": "y", "B": "x", "answer": "B"}]


def seed_row(number: int, kind: str) -> dict[str, Any]:
    choices = {f"choice_{letter}": letter for letter in "abcd"}
    return {
        "question": "Q?",
        **choices,
        "answer": "C",
        "data_type": kind,
        "question_id": f"{number}",
        "question_type_id": 1,
    }
