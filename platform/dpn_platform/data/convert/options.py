"""What a conversion may be told; each kind of source uses some of it (see `kinds`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Ask = Literal["detect", "describe"]
ASKS: tuple[Ask, ...] = ("detect", "describe")
Reading = Literal["xyxy", "xywh"]
READINGS: tuple[Reading, ...] = ("xyxy", "xywh")

#: called with (what is done, what there is in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        split: name of the split to write; None: what the source calls it.
        ask: which questions; empty: those that the kind asks by itself.
        absent: categories of each picture's detection question that are not in it.
        seed: of everything drawn.
        turns: questions about a picture that one training record holds; elsewhere every question is a record.
        prefix: folder that is put before the pictures' names.
        images: files that hold the pictures, in order; empty: those beside the source.
        boxes: how four numbers are read; None: as the source's own boxes show.
        text: field of a box that holds its text; None: `phrase`, else `caption`.
    """

    split: str | None = None
    ask: tuple[Ask, ...] = ()
    absent: int = 0
    seed: int = 0
    turns: int = 10
    prefix: str = ""
    images: tuple[str, ...] = ()
    boxes: Reading | None = None
    text: str | None = None

    def path(self, name: str) -> str:
        """The path of a picture in its record."""
        return f"{self.prefix.rstrip('/')}/{name}" if self.prefix else name


def is_training(split: str) -> bool:
    """Whether a split is learned from: then it holds no question whose answer is known in part alone."""
    return split.startswith("train")
