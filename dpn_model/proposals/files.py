"""Proposals that were made before, from a file of JSON lines: {"image" or "id", "boxes", "scores"}."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from dpn_model.objects.boxes import FloatArray, box_array
from dpn_model.objects.record import ObjectRecord
from dpn_model.proposals.contract import Known, Limits, Proposed, best

#: what a line may name its picture by: the path that records give it, or the record's id
_KEYS = ("image", "id")
_EMPTY = Proposed(box_array([]), np.empty(0))


class ProposalFile:
    """A file of proposals, one line for every picture (or record) that has some.

    All lines are checked when the file is opened; what stays in memory is where each begins. A picture without a line
    has no proposals.

    Args:
        file: JSON lines.
        limits: threshold and suppression, applied here too: what another program let through may be more.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is no proposals, or two for one picture, by its number.
    """

    def __init__(self, file: Path, limits: Limits | None = None) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; wanted JSON lines of image or id, boxes and scores")
        self.file = file
        self.limits = limits or Limits()
        self._starts: dict[tuple[str, str], tuple[int, int]] = {}
        with file.open("rb") as lines:
            start = 0
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    self._note(_parsed(line, f"{file}:{number}"), number, start)
                start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def knows(self, known: Known) -> bool:
        """Whether a line names this picture or its record."""
        return self._place(known) is not None

    def propose(
        self,
        images: Sequence[Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        """See `ProposalSource`; pixels are not looked at.

        Raises:
            ValueError: a box outside its picture; or nothing is known by which a line could be found.
        """
        if known is None:
            raise ValueError(f"{self.file} has its boxes by image or id, and neither is known of these pictures")
        with self.file.open("rb") as lines:
            return [self._of_one(lines, image.size, one) for image, one in zip(images, known, strict=True)]

    def _note(self, fields: Mapping[str, Any], number: int, start: int) -> None:
        key = next(name for name in _KEYS if fields.get(name) is not None)
        place = (key, str(fields[key]))
        if place in self._starts:
            first = self._starts[place][0]
            raise ValueError(f"{self.file}:{number}: {key} {place[1]} again, as in line {first}; wanted one line each")
        self._starts[place] = (number, start)

    def _place(self, known: Known) -> tuple[int, int] | None:
        by_id = self._starts.get(("id", known.id))
        return by_id if known.image is None or by_id is not None else self._starts.get(("image", known.image))

    def _of_one(self, lines: Any, size: tuple[int, int], known: Known) -> Proposed:
        place = self._place(known)
        if place is None:
            return _EMPTY
        number, start = place
        lines.seek(start)
        return best(*_checked(json.loads(lines.readline()), f"{self.file}:{number}", size), size, self.limits)


def _parsed(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: no JSON ({error})") from None
    if not isinstance(fields, dict) or not any(isinstance(fields.get(key), str | int) for key in _KEYS):
        raise ValueError(f"{where}: wanted an object with image or id, boxes and scores")
    _checked(fields, where, None)
    return fields


def _checked(fields: Mapping[str, Any], where: str, size: tuple[int, int] | None) -> tuple[FloatArray, FloatArray]:
    """(boxes, scores) of a line, as a record's proposals are checked."""
    proposals = {"boxes": fields.get("boxes"), "scores": fields.get("scores")}
    try:
        proposed = ObjectRecord.of_fields({"boxes": [], "proposals": proposals}, size).proposed
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace('proposals.', '')}") from None
    assert proposed is not None
    return proposed
