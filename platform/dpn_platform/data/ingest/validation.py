"""Is this record fit for training? Pure checks of a LLaVA record's text; a refusal names its kind (see `policy`)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dpn_platform.data.ingest.object_fields import check_objects, object_fields
from dpn_platform.data.ingest.policy import Findings, RejectedError
from dpn_platform.data.ingest.record_forms import (
    ANSWER,
    IMAGE_TEXT,
    QUESTION,
    ROLES,
    is_plain,
    keys_of,
    turn_problem,
    turns_problem,
    what_is,
)

#: what the template writes between and behind the turns (spec base-models B.3)
CONTROL_TEXTS = ("</s>", "<ROUTER>")
#: what file systems and S3 allow: longer names could not be looked up
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1000

Turn = dict[str, str]


@dataclass(frozen=True)
class CheckedRecord:
    """A record whose text is sound.

    Attributes:
        id, turns, source, difficulty: as the shard has them.
        images: paths below the image roots, in the order of the placeholders.
        objects: fields of `ObjectRecord`, not yet compared with the picture; None for a record without boxes.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    source: str
    difficulty: str | None
    objects: dict[str, Any] | None = None

    @property
    def conversations(self) -> str:
        """The turns as the shard's column holds them."""
        return json.dumps(self.turns, ensure_ascii=False)

    @property
    def num_turns(self) -> int:
        """Question/answer pairs."""
        return len(self.turns) // 2

    @property
    def text_length(self) -> int:
        """Characters of all turns."""
        return sum(len(turn["value"]) for turn in self.turns)


def parse_record(raw: bytes) -> Any:
    """One record's JSON. Bytes that are not UTF-8 survive as lone surrogates, which `check_record` refuses.

    Raises:
        RejectedError: it is not JSON.
    """
    try:
        return json.loads(raw.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise RejectedError("not_json", str(error)) from error


def check_record(record: Any, findings: Findings) -> CheckedRecord:
    """Checks everything that can be known without the image.

    Args:
        record: as parsed.
        findings: carries the policy, and notes what was repaired or kept.

    Raises:
        RejectedError: with the first kind found that the policy quarantines.
    """
    if not isinstance(record, dict):
        raise RejectedError("not_an_object", f"expected an object, got {type(record).__name__}")
    _check_utf8(record)
    if "conversations" not in record:  # before the id: the whole record is of another form
        raise RejectedError("bad_turns", turns_problem(record))
    identity = record.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        found = f"'id' is {what_is(identity)}" if "id" in record else f"no 'id'; the keys are {keys_of(record)}"
        raise RejectedError("bad_id", f"{found}; wanted a text or an integer")
    turns = _check_turns(record, findings)
    images = _check_image_paths(record.get("image"))
    placeholders = sum(turn["value"].count(IMAGE_TEXT) for turn in turns)
    if placeholders != len(images):
        found = " ('images' is not read: wanted 'image', a path or a list of paths)" if "images" in record else ""
        raise RejectedError("placeholder_mismatch", f"{placeholders} {IMAGE_TEXT} for {len(images)} images{found}")
    if spelled := [text for text in CONTROL_TEXTS if any(text in turn["value"] for turn in turns)]:
        findings.meet("control_text", f"{' and '.join(spelled)} in a turn")
    objects = object_fields(record)
    check_objects(objects, [turn["value"] for turn in turns], len(images))
    difficulty = record.get("difficulty")
    return CheckedRecord(
        id=str(identity),
        images=images,
        turns=tuple(turns),
        source=_source_of(record, images),
        difficulty=None if difficulty is None else str(difficulty),
        objects=objects,
    )


def content_key(raw: bytes) -> bytes | None:
    """16 bytes that two records share when the later one is a duplicate: same id, image, boxes and conversations.

    The id alone does not decide: LLaVA's own set uses an image's id for several different conversations.
    None for what is no object with questions: there is nothing to compare.
    """
    try:
        record = parse_record(raw)
    except RejectedError:
        return None
    if not isinstance(record, dict) or not ("conversations" in record or is_plain(record)):
        return None
    parts = [str(record.get("id")), *map(record.get, ("image", "conversations", QUESTION, ANSWER))]
    if (objects := object_fields(record)) is not None:
        parts.append(objects)
    try:
        content = json.dumps(parts, sort_keys=True)
    except RecursionError:
        return None
    return hashlib.sha256(content.encode()).digest()[:16]


def _check_utf8(record: dict[str, Any]) -> None:
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RejectedError("not_utf8", f"{error.object[error.start]!r} cannot be written as UTF-8") from error
    except RecursionError as error:
        raise RejectedError("not_json", "nested too deeply") from error


def _check_turns(record: dict[str, Any], findings: Findings) -> list[Turn]:
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise RejectedError("bad_turns", turns_problem(record))
    if _role(turns[0]) == "gpt" and findings.meet("leading_answer", "the first turn is from gpt"):
        turns = turns[1:]
    if turns and _role(turns[-1]) == "human" and findings.meet("trailing_question", "the last turn is from human"):
        turns = turns[:-1]
    checked = [_check_turn(number, turn, findings) for number, turn in enumerate(turns)]
    if not turns or len(turns) % 2:
        raise RejectedError("bad_turns", f"{len(turns)} turns do not make question/answer pairs")
    return checked


def _role(turn: Any) -> Any:
    return turn.get("from") if isinstance(turn, dict) else None


def _check_turn(number: int, turn: Any, findings: Findings) -> Turn:
    if (problem := turn_problem(number, turn)) is not None:
        raise RejectedError("bad_turns", problem)
    role = ROLES[number % 2]
    value = turn["value"]
    if role == "human":
        if not value.replace(IMAGE_TEXT, "").strip():
            findings.meet("empty_question", f"turn {number + 1} asks nothing")
    elif not value.strip():
        raise RejectedError("empty_answer", f"turn {number + 1} is empty")
    elif IMAGE_TEXT in value:
        raise RejectedError("placeholder_mismatch", f"{IMAGE_TEXT} in an answer (turn {number + 1})")
    return {"from": role, "value": value}


def _check_image_paths(found: Any) -> tuple[str, ...]:
    """One path or a list of them; none for a record without a picture."""
    paths = found if isinstance(found, list) else [] if found is None else [found]
    for path in paths:
        if not isinstance(path, str) or not path:
            where = "an entry of 'image'" if paths is found else "'image'"
            wanted = "wanted a path, a list of paths, or no 'image' where there is no picture"
            raise RejectedError("bad_image_path", f"{where} is {what_is(path)}; {wanted}")
    return tuple(map(_check_image_path, paths))


def _check_image_path(path: str) -> str:
    """A relative path that stays inside the image roots, without the `./` that some tools write in front."""
    wanted = "wanted a path below an image root (--images), such as images/x.jpg"
    parts = [part for part in path.split("/") if part != "."]
    if path.startswith("/"):
        raise RejectedError("bad_image_path", f"an absolute path: {path[:200]!r}; {wanted}")
    if not parts or any(part in ("", "..") for part in parts) or "\0" in path or ":" in parts[0]:
        raise RejectedError("bad_image_path", f"not a plain relative path: {path[:200]!r}; {wanted}")
    if "\\" in path:
        raise RejectedError("bad_image_path", f"backslashes in {path[:200]!r}; wanted slashes: images/x.jpg")
    if len(path.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in parts):
        raise RejectedError("bad_image_path", f"a name too long for any storage: {path[:60]!r} ...")
    return "/".join(parts)


def _source_of(record: dict[str, Any], images: tuple[str, ...]) -> str:
    """The question's family, else the top folder of the picture; pictures in no folder are one source."""
    family = record.get("family")
    if isinstance(family, str) and family:
        return family
    if not images:
        return "text"
    folder, slash, _ = images[0].partition("/")
    return folder if slash else "images"
