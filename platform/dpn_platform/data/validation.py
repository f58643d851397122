"""Is this record fit for training? Pure checks of a LLaVA record and of its picture; a refusal names its reason."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError

IMAGE_TEXT = "<image>"
ROLES = ("human", "gpt")
#: decoded by content, whatever the file is called (GIFs named .jpg are common in LLaVA's set)
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
MIN_IMAGE_SIDE = 8
MAX_IMAGE_PIXELS = 64_000_000

Reason = Literal[
    "not_an_object",
    "bad_id",
    "duplicate",
    "bad_turns",
    "empty_question",
    "empty_answer",
    "placeholder_mismatch",
    "bad_image_path",
    "image_missing",
    "image_undecodable",
    "image_format",
    "image_size",
]


class RejectedError(Exception):
    """The record must not be trained on.

    Attributes:
        reason: one of `Reason`, for counting.
        detail: one line for people.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class CheckedRecord:
    """A record whose text is sound; `image` is its picture's path relative to the source, None for text only."""

    id: str
    image: str | None
    conversations: str
    num_turns: int
    text_length: int
    source: str
    difficulty: str | None


def check_record(record: Any) -> CheckedRecord:
    """Checks everything that can be known without the picture.

    Raises:
        RejectedError: with the first reason found.
    """
    if not isinstance(record, dict):
        raise RejectedError("not_an_object", f"expected an object, got {type(record).__name__}")
    identity = record.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        raise RejectedError("bad_id", "'id' must be a non-empty string or an integer")
    turns = _check_turns(record.get("conversations"))
    image = _check_image_path(record.get("image"))
    placeholders = sum(turn["value"].count(IMAGE_TEXT) for turn in turns)
    if placeholders != (image is not None):
        raise RejectedError("placeholder_mismatch", f"{placeholders} {IMAGE_TEXT} for {int(image is not None)} images")
    difficulty = record.get("difficulty")
    return CheckedRecord(
        id=str(identity),
        image=image,
        conversations=json.dumps(turns, ensure_ascii=False),
        num_turns=len(turns) // 2,
        text_length=sum(len(turn["value"]) for turn in turns),
        source=_source_of(record, image),
        difficulty=None if difficulty is None else str(difficulty),
    )


def check_image(data: bytes) -> tuple[int, int]:
    """Decodes the whole picture (a truncated file opens, but does not load).

    Returns:
        (width, height) in pixels.

    Raises:
        RejectedError: undecodable, a format that is not allowed, or an absurd size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
        if image.format not in IMAGE_FORMATS:
            raise RejectedError("image_format", f"{image.format}; allowed: {', '.join(IMAGE_FORMATS)}")
        width, height = image.size
        if min(width, height) < MIN_IMAGE_SIDE or width * height > MAX_IMAGE_PIXELS:
            raise RejectedError("image_size", f"{width}x{height} pixels")
        image.load()
    except Image.DecompressionBombError as error:
        raise RejectedError("image_size", str(error)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        # PIL writes the buffer's address into some messages; the table must not differ between runs.
        detail = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise RejectedError("image_undecodable", detail) from error
    return width, height


def find_duplicates(records: Sequence[Any]) -> set[int]:
    """Positions of records that repeat an earlier one: same id, picture and conversations.

    The id alone does not decide: LLaVA's own set uses a picture's id for several different conversations.
    """
    seen: set[bytes] = set()
    repeated: set[int] = set()
    for position, record in enumerate(records):
        if not isinstance(record, dict):
            continue
        content = json.dumps([str(record.get("id")), record.get("image"), record.get("conversations")], sort_keys=True)
        key = hashlib.sha256(content.encode()).digest()
        if key in seen:
            repeated.add(position)
        seen.add(key)
    return repeated


def _check_turns(turns: Any) -> list[dict[str, str]]:
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        raise RejectedError("bad_turns", "'conversations' must be a list of question/answer pairs")
    checked = []
    for number, turn in enumerate(turns):
        role = ROLES[number % 2]
        if not isinstance(turn, dict) or turn.get("from") != role or not isinstance(turn.get("value"), str):
            raise RejectedError("bad_turns", f"turn {number + 1} must be {{from: {role}, value: text}}")
        value = turn["value"]
        if role == "gpt":
            if not value.strip():
                raise RejectedError("empty_answer", f"turn {number + 1} is empty")
            if IMAGE_TEXT in value:
                raise RejectedError("placeholder_mismatch", f"{IMAGE_TEXT} in an answer (turn {number + 1})")
        elif not value.replace(IMAGE_TEXT, "").strip():
            raise RejectedError("empty_question", f"turn {number + 1} asks nothing")
        checked.append({"from": role, "value": value})
    return checked


def _check_image_path(path: Any) -> str | None:
    """A relative path that stays inside the source folder."""
    if path is None:
        return None
    if not isinstance(path, str) or not path:
        raise RejectedError("bad_image_path", "'image' must be one path")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path or ":" in parts[0]:
        raise RejectedError("bad_image_path", f"not a plain relative path: {path[:200]!r}")
    return path


def _source_of(record: dict[str, Any], image: str | None) -> str:
    family = record.get("family")
    if isinstance(family, str) and family:
        return family
    return image.split("/")[0] if image else "text"
