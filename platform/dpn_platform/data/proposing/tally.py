"""What proposals come to: how many boxes a picture has, and how much of what is true is among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpn_model.objects.boxes import FloatArray
from dpn_model.objects.recall import OVERLAPS, found_at

_NONE_FOUND = (0,) * len(OVERLAPS)


@dataclass
class Tally:
    """Counts over rows with one picture.

    Attributes:
        boxes: rows by their number of proposals.
        true: true boxes, of rows where they are known.
        found: of these, how many a proposal covers at each of `recall.OVERLAPS`.
        passed_over: rows with several pictures, whose boxes could be of any.
    """

    boxes: dict[int, int] = field(default_factory=dict)
    true: int = 0
    found: tuple[int, ...] = _NONE_FOUND
    passed_over: int = 0

    def add(self, proposals: FloatArray, true: FloatArray | None) -> None:
        """Counts a row; `true` is None where nobody knows what is in its picture."""
        self.boxes[len(proposals)] = self.boxes.get(len(proposals), 0) + 1
        if true is not None:
            self.true += len(true)
            self.found = tuple(np.add(self.found, found_at(true, proposals)).tolist())

    @classmethod
    def together(cls, tallies: Iterable[Tally]) -> Tally:
        """Their sum."""
        total = cls()
        for one in tallies:
            for number, rows in one.boxes.items():
                total.boxes[number] = total.boxes.get(number, 0) + rows
            total.true += one.true
            total.found = tuple(np.add(total.found, one.found).tolist())
            total.passed_over += one.passed_over
        return total

    def facts(self) -> dict[str, Any]:
        """For people and `--json`: rows, rows without any, mean and median number of boxes, recall at .5 and .5 to .95.

        Recall is None where no true box is known.
        """
        numbers = np.repeat(*np.array(sorted(self.boxes.items())).T) if self.boxes else np.zeros(0)
        recall = [round(count / self.true, 4) for count in self.found] if self.true else None
        return {
            "rows": int(sum(self.boxes.values())),
            "rows_without": self.boxes.get(0, 0),
            "mean_boxes": round(float(numbers.mean()), 2) if len(numbers) else 0.0,
            "median_boxes": float(np.median(numbers)) if len(numbers) else 0.0,
            "true_boxes": self.true,
            "recall_50": recall and recall[0],
            "recall_50_95": recall and round(sum(self.found) / len(OVERLAPS) / self.true, 4),
            "passed_over": self.passed_over,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        boxes = {str(number): rows for number, rows in sorted(self.boxes.items())}
        return {"boxes": boxes, "true": self.true, "found": list(self.found), "passed_over": self.passed_over}

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Tally:
        """What `to_json` wrote."""
        boxes = {int(number): rows for number, rows in fields["boxes"].items()}
        return cls(boxes, fields["true"], tuple(fields["found"]), fields["passed_over"])
