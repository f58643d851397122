"""One slice of the source's list becomes one shard: fetch, validate, repair, write. A pure function of the slice.

The shard is named by its content, so a task that Ray repeats writes the same object again and nothing is
ever overwritten by something else.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dpn_model.objects.record import ObjectRecord
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.images import CheckedImage, check_image
from dpn_platform.data.ingest.near_names import near_name
from dpn_platform.data.ingest.object_fields import TOKENS_PER_BOX, num_shown, read_objects
from dpn_platform.data.ingest.policy import Findings, Policy, RejectedError
from dpn_platform.data.ingest.record_forms import as_conversation
from dpn_platform.data.ingest.tokens import VISUAL_TOKENS, TokenCounter, token_counter
from dpn_platform.data.ingest.unknown_words import count_unknown
from dpn_platform.data.ingest.validation import CheckedRecord, check_record, parse_record
from dpn_platform.data.published.manifest import SHARDS_FOLDER
from dpn_platform.data.published.schema import MORE_IMAGES, OBJECTS, content_digest, shard_bytes, shard_table
from dpn_platform.storage import MissingObjectError, join_uri, read_bytes, write_bytes

FETCH_THREADS = 16
_MAX_RECORD_CHARACTERS = 2000
_EXPLAINED = 3
_ROTATED = "image_rotated"


@dataclass(frozen=True)
class SourceRow:
    """A record as the source has it.

    Attributes:
        position: in the split's list.
        raw: its JSON text.
        is_duplicate: it repeats an earlier record.
    """

    position: int
    raw: bytes
    is_duplicate: bool = False


@dataclass(frozen=True)
class BuildOptions:
    """What decides, beside the records and the image files, what a shard holds.

    Attributes:
        image_roots: folders to look for images in, in this order.
        policy: what to do about defects.
        visual_tokens: of one image, for `expected_cost`.
        tokenizer: path of a tokenizer.json relative to the target; None estimates the number of tokens.
    """

    image_roots: tuple[str, ...]
    policy: Policy = Policy()
    visual_tokens: int = VISUAL_TOKENS
    tokenizer: str | None = None


@dataclass(frozen=True)
class Slice:
    """The work of one task: some rows of one split, and where to read and write."""

    target_uri: str
    split: str
    index: int
    first_row_id: int
    rows: tuple[SourceRow, ...]
    options: BuildOptions


def build_shard(part: Slice) -> dict[str, Any]:
    """Writes the slice's good rows as a shard.

    Returns:
        Plain JSON values: `split`, `index`, `num_rows` (of the source), `shard` (fields of `manifest.Shard`,
        None when no row was good), `counts` (sums over the good rows), `unknown` (see `UnknownWords`),
        `sources`, `repairs`, `kept` (rows by source or kind), and `rejected` (rows for the quarantine table).

    Raises:
        DpnError: the storage could not be reached or refused; a missing image is not such an error.
    """
    outcomes = check_rows(part, part.rows)
    good = [row for row, _ in outcomes if "reason" not in row]
    for offset, row in enumerate(good):
        row["row_id"] = part.first_row_id + offset
    noted = [findings for row, findings in outcomes if "reason" not in row]
    sums = ("has_image", "prompt_tokens", "answer_tokens", "expected_cost")
    unknown = None
    if (tokenizer := part.options.tokenizer) is not None:
        unknown = count_unknown((row["conversations"] for row in good), join_uri(part.target_uri, tokenizer))
    return {
        "split": part.split,
        "index": part.index,
        "num_rows": len(part.rows),
        "shard": _write(part, good) if good else None,
        "counts": {
            **{name: sum(int(row[name]) for row in good) for name in sums},
            "objects": sum(row[OBJECTS.name] is not None for row in good),
        },
        "sources": dict(Counter(row["source"] for row in good)),
        "repairs": dict(Counter(kind for findings in noted for kind in set(findings.repaired))),
        "unknown": unknown.counts() if unknown else {},
        "kept": dict(Counter(kind for findings in noted for kind in set(findings.kept))),
        "rejected": [row for row, _ in outcomes if "reason" in row],
    }


def check_rows(part: Slice, rows: Sequence[SourceRow]) -> list[tuple[dict[str, Any], Findings]]:
    """For each row what the shard will hold (without its id), or its line of the quarantine table (with `reason`)."""
    # Counted first: a tokenizer must not be shared between threads, and whole files are in memory from then on.
    checker = _Checker(part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns of oddities that the checks look for themselves
        texts = [checker.check_text(row) for row in rows]
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            outcomes = list(pool.map(checker.add_image, rows, texts))
    # The first missing pictures are looked for under other endings; for all, it could be a million looks.
    for row in [row for row, _ in outcomes if row.get("reason") == "image_missing"][:_EXPLAINED]:
        if (near := near_name(row["detail"], part.options.image_roots)) is not None:
            row["detail"] += f" is not there, but {near} is: the records name another ending than the files have"
    return outcomes


def quarantine_lines(rejected: Sequence[dict[str, Any]]) -> bytes:
    """The quarantine table: one JSON object per refused row, in source order."""
    ordered = sorted(rejected, key=lambda row: (row["split"], row["source_row"]))
    return "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in ordered).encode()


class _Checker:
    """Checks rows of one slice: first the text, then the image."""

    def __init__(self, part: Slice) -> None:
        self._part = part
        self._options = part.options
        tokenizer = part.options.tokenizer
        self._count: TokenCounter = token_counter(tokenizer and join_uri(part.target_uri, tokenizer))

    def check_text(self, row: SourceRow) -> tuple[CheckedRecord | RejectedError, tuple[int, int], Findings]:
        """(the record or its refusal, its tokens, what was found)."""
        findings = Findings(self._options.policy)
        try:
            if row.is_duplicate:
                findings.meet("duplicate", "same id, image, boxes and conversations as an earlier record")
            record = check_record(as_conversation(parse_record(row.raw), row.position), findings)
        except RejectedError as refusal:
            return refusal, (0, 0), findings
        return record, self._count(record.turns), findings

    def add_image(
        self, row: SourceRow, text: tuple[CheckedRecord | RejectedError, tuple[int, int], Findings]
    ) -> tuple[dict[str, Any], Findings]:
        """The finished row, or its line of the quarantine table; and what was found."""
        record, tokens, findings = text
        if isinstance(record, RejectedError):
            return _refused(self._part.split, row, record), findings
        try:
            images = [self._fetch(path, findings) for path in record.images]
            objects = _objects(record, images, findings)
        except RejectedError as refusal:
            return _refused(self._part.split, row, refusal), findings
        first = images[0] if images else None
        return {
            "source_row": row.position,
            "id": record.id,
            "split": self._part.split,
            "source": record.source,
            "difficulty": record.difficulty,
            "conversations": record.conversations,
            "num_turns": record.num_turns,
            "text_length": record.text_length,
            "prompt_tokens": tokens[0],
            "answer_tokens": tokens[1],
            "expected_cost": sum(tokens)
            + self._options.visual_tokens * len(images)
            + (0 if objects is None else TOKENS_PER_BOX * num_shown(objects)),
            "repairs": ",".join(dict.fromkeys(findings.repaired)) or None,
            "has_image": first is not None,
            "width": first and first.width,
            "height": first and first.height,
            "image": first and first.data,
            MORE_IMAGES.name: [image.data for image in images[1:]] or None,
            OBJECTS.name: None if objects is None else objects.to_json(),
        }, findings

    def _fetch(self, path: str, findings: Findings) -> CheckedImage:
        for root in self._options.image_roots:
            try:
                data = read_bytes(join_uri(root, path))
            except DpnError as error:
                # A path that leads through a file (x.jpg/y.jpg) is as absent as any other.
                if isinstance(error, MissingObjectError) or isinstance(error.__cause__, NotADirectoryError):
                    continue
                raise
            return check_image(data, path, findings)
        raise RejectedError("image_missing", path)


def _objects(record: CheckedRecord, images: Sequence[CheckedImage], findings: Findings) -> ObjectRecord | None:
    """The record's boxes, inside its picture as it is stored."""
    if record.objects is None:
        return None
    if _ROTATED in findings.repaired:
        raise RejectedError(_ROTATED, f"{record.images[0]}: its boxes may be of the picture as it is stored, or turned")
    (image,) = images
    return read_objects(record.objects, (image.width, image.height))


def _refused(split: str, row: SourceRow, refusal: RejectedError) -> dict[str, Any]:
    return {
        "split": split,
        "source_row": row.position,
        "reason": refusal.reason,
        "detail": refusal.detail.encode("utf-8", "backslashreplace").decode(),  # UTF-8 cannot write lone surrogates
        "record": row.raw.decode("utf-8", "backslashreplace")[:_MAX_RECORD_CHARACTERS],
    }


def _write(part: Slice, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    table = shard_table(rows)
    data = shard_bytes(table)
    content = content_digest(table)
    path = f"{SHARDS_FOLDER}/{part.split}-{part.index:05d}-{content[:16]}.parquet"
    write_bytes(join_uri(part.target_uri, path), data)
    return {
        "path": path,
        "rows": table.num_rows,
        "first_row_id": part.first_row_id,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_sha256": content,
    }
