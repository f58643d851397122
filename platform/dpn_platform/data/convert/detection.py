"""Records of a picture whose boxes have categories: which are there, where, and what one box is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_model.special_texts import MAX_OBJECTS
from dpn_platform.data.convert.boxes import nameable
from dpn_platform.data.convert.instances import Annotated, Id
from dpn_platform.data.convert.options import ConvertOptions, is_training
from dpn_platform.data.convert.questions import CATEGORY_NAME, conversation, description, detection
from dpn_platform.data.reading.order import permutation

#: reasons why a picture is left out
NOTHING, TOO_MANY = "pictures without anything to ask for", f"training pictures with over {MAX_OBJECTS} boxes"


@dataclass(frozen=True)
class Known:
    """What a data set says of a picture beside its boxes.

    Attributes:
        absent: categories that are certainly not in it.
        incomplete: categories of which boxes may be missing: they are not asked for in training.
        truth: goes into the record's truth as it is.
    """

    absent: Sequence[Id] = ()
    incomplete: frozenset[Id] = frozenset()
    truth: Mapping[str, Any] = field(default_factory=dict)


class DetectionRecords:
    """Makes the records of one split.

    Args:
        split: its name.
        names: what each category is called in questions and answers.
        options: how to ask.
        left_out: counts the pictures that give no record.
    """

    def __init__(self, split: str, names: Mapping[Id, str], options: ConvertOptions, left_out: Counter[str]) -> None:
        self._is_training = is_training(split)
        self._names, self._options, self._left_out = names, options, left_out

    def of_picture(self, found: Annotated, known: Known) -> Iterator[dict[str, Any]]:
        """The records of a picture: one that asks for its categories, those that ask what its boxes are."""
        places: dict[Id, list[int]] = {}
        for place, (category, is_crowd) in enumerate(zip(found.categories, found.crowd, strict=True)):
            if not is_crowd:
                places.setdefault(category, []).append(place)
        absent = self._drawn(known.absent, "absent", found)[: self._options.absent]
        hidden = known.incomplete if self._is_training else frozenset()
        asked = [category for category in places if category not in hidden] + absent
        true = [place for group in places.values() for place in group]
        asks = self._options.ask or ("detect",)
        is_detected, is_described = bool(asked) and "detect" in asks, bool(true) and "describe" in asks
        if not (is_detected or is_described):
            self._left_out[NOTHING] += 1
            return
        if len(true) > MAX_OBJECTS and self._is_training:
            self._left_out[TOO_MANY] += 1
            return
        shown = self._shown(found, true, places)
        if is_detected:
            yield self._detection(found, known, shown, self._drawn(asked, "order", found))
        if is_described:
            yield from self._names_of_boxes(found, shown)

    def _drawn(self, categories: Sequence[Id], what: str, found: Annotated) -> list[Id]:
        """The categories in an order that depends on seed and picture alone."""
        order = permutation(len(categories), what, self._options.seed, str(found.picture.id))
        return [categories[place] for place in order]

    def _shown(self, found: Annotated, true: Sequence[int], places: Mapping[Id, Sequence[int]]) -> list[int]:
        """Places of the boxes that the record names, in the file's order: every category has its largest among them."""
        true = sorted(true)
        areas = ((found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)).tolist()
        largest = [true.index(max(group, key=areas.__getitem__)) for group in places.values()]
        return [true[place] for place in nameable(found.boxes[true], largest)]

    def _detection(self, found: Annotated, known: Known, shown: Sequence[int], asked: Sequence[Id]) -> dict[str, Any]:
        indices: dict[str, list[int]] = {self._names[category]: [] for category in asked}
        for index, place in enumerate(shown):
            indices.get(self._names[found.categories[place]], []).append(index)
        truth = {
            **known.truth,
            "boxes": found.boxes.tolist(),
            "categories": [self._names[category] for category in found.categories],
            **({"crowd": list(found.crowd)} if any(found.crowd) else {}),
            **({} if found.areas is None else {"area": found.areas.tolist()}),
        }
        return {
            "id": str(found.picture.id),
            **self._seen(found, shown, "detection"),
            "truth": truth,
            "conversations": conversation([detection(indices)]),
        }

    def _names_of_boxes(self, found: Annotated, shown: Sequence[int]) -> Iterator[dict[str, Any]]:
        order = permutation(len(shown), "describe", self._options.seed, str(found.picture.id))
        chosen = sorted(order[: self._options.turns].tolist())
        asked = [description(CATEGORY_NAME, index, self._names[found.categories[shown[index]]]) for index in chosen]
        seen = self._seen(found, shown, "naming")
        if self._is_training:
            yield {"id": f"{found.picture.id}-names", **seen, "conversations": conversation(asked)}
            return
        for index, pair in zip(chosen, asked, strict=True):
            yield {"id": f"{found.picture.id}-name-{index}", **seen, "conversations": conversation([pair])}

    def _seen(self, found: Annotated, shown: Sequence[int], family: str) -> dict[str, Any]:
        path = self._options.path(found.picture.path)
        return {"image": path, "family": family, "boxes": found.boxes[list(shown)].tolist()}
