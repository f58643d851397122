"""COCO's JSON of instances: pictures with their boxes, whatever the order in which the file has them.

The file is read once, as a stream. What stays in memory is 65 bytes an annotation, and its pictures' names.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpn_model.objects.boxes import FloatArray
from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.boxes import clipped, xyxy_of_xywh
from dpn_platform.data.convert.json_tables import table_items
from dpn_platform.data.convert.questions import is_askable
from dpn_platform.data.ingest.record_forms import keys_of, what_is

TABLES = ("images", "annotations", "categories")
#: reasons why boxes are left out
NO_AREA, NO_PICTURE = "boxes without area", "boxes of no picture of the file"

_NO_ID, _MAX_ID, _MAX_SIDE, _MAX_NUMBER = -1, 2**62, 10**6, 1e12
_SHOWN_CHARACTERS = 80

Id = int | str


@dataclass(frozen=True)
class Picture:
    """A picture as the file names it.

    Attributes:
        id: the file's.
        path: relative to the folder of pictures.
        size: (width, height) in pixels.
        fields: the file's others, such as LVIS's lists of categories.
    """

    id: Id
    path: str
    size: tuple[int, int]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Annotated:
    """A picture and its boxes, in the file's order.

    Attributes:
        picture: which.
        boxes: float64[N, 4], x1, y1, x2, y2, inside the picture and with an area.
        categories: ids, of each.
        crowd: whether each is a group.
        ids: of the annotations.
        areas: float64[N], of each outline in pixels; None where an annotation does not say.
    """

    picture: Picture
    boxes: FloatArray
    categories: tuple[Id, ...]
    crowd: tuple[bool, ...]
    ids: tuple[int, ...]
    areas: FloatArray | None = None


class Instances:
    """The pictures of a file.

    Args:
        uri: the JSON file.
        path_of: the path of a picture, from its entry in `images`; None where that names no file.
        kept: fields of a picture to keep.

    Attributes:
        categories: id -> entry, in the file's order.

    Raises:
        DpnError: no such file, or entries that are not COCO's.
    """

    def __init__(
        self, uri: str, path_of: Callable[[Mapping[str, Any]], str | None], kept: tuple[str, ...] = ()
    ) -> None:
        self._uri, self._path_of, self._kept = uri, path_of, kept
        self.categories: dict[Id, Mapping[str, Any]] = {}
        # Annotations may come before what they name: both get numbers when they are first met.
        self._numbers: tuple[dict[Id, int], dict[Id, int]] = ({}, {})
        self._pictures: dict[int, Picture] = {}
        self._columns = (array("q"), array("q"), array("q"), array("b"))  # picture, category, id, crowd
        self._boxes = array("d")
        self._areas = array("d")  # not a number: the file does not say
        take = {"images": self._take_picture, "annotations": self._take_box, "categories": self._take_category}
        for table, entry in table_items(uri, TABLES):
            if not isinstance(entry, dict):
                raise DpnError(f"{uri}: an entry of '{table}' is {what_is(entry)}; wanted an object")
            take[table](entry)
        self._check()

    def pictures(self, left_out: Counter[str]) -> Iterator[Annotated]:
        """Every picture with its boxes, in the file's order.

        Args:
            left_out: `NO_AREA` and `NO_PICTURE` are counted here.
        """
        numbers, categories, ids, crowd = map(np.asarray, self._columns)
        boxes = xyxy_of_xywh(np.asarray(self._boxes).reshape(-1, 4))
        areas = np.asarray(self._areas)
        order = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[order], np.arange(len(self._numbers[0]) + 1))
        category_ids = list(self._numbers[1])
        for number, picture in self._pictures.items():
            rows = order[starts[number] : starts[number + 1]]
            inside, has_area = clipped(boxes[rows], picture.size)
            left_out[NO_AREA] += int(np.sum(~has_area))
            rows = rows[has_area]
            yield Annotated(
                picture,
                inside[has_area],
                tuple(category_ids[place] for place in categories[rows].tolist()),
                tuple(map(bool, crowd[rows].tolist())),
                tuple(ids[rows].tolist()),
                None if np.isnan(areas[rows]).any() else areas[rows],
            )
        left_out[NO_PICTURE] += sum(
            int(starts[number + 1] - starts[number])
            for number in self._numbers[0].values()
            if number not in self._pictures
        )

    def __len__(self) -> int:
        """Pictures of the file."""
        return len(self._pictures)

    def _take_picture(self, entry: Mapping[str, Any]) -> None:
        identity, size, path = self._id(entry, "id", "images"), _size(entry), self._path_of(entry)
        if size is None:
            found = f"width {what_is(entry.get('width'))} and height {what_is(entry.get('height'))}"
            raise DpnError(f"{self._uri}: picture {identity} has {found}; wanted pixels")
        if path is None:
            raise DpnError(f"{self._uri}: picture {identity} names no file; its keys are {keys_of(entry)}")
        number = self._number(0, identity)
        if number in self._pictures:
            raise DpnError(f"{self._uri}: picture {identity} is there twice")
        kept = {name: entry[name] for name in self._kept if name in entry}
        self._pictures[number] = Picture(identity, path, size, kept)

    def _take_box(self, entry: Mapping[str, Any]) -> None:
        picture, category = (self._id(entry, name, "annotations") for name in ("image_id", "category_id"))
        identity, box = entry.get("id"), entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            where = f"annotation {identity} of picture {picture}"
            raise DpnError(
                f"{self._uri}: the bbox of {where} is {str(box)[:_SHOWN_CHARACTERS]}; wanted [x, y, width, height]"
            )
        values = (
            self._number(0, picture),
            self._number(1, category),
            identity if isinstance(identity, int) and abs(identity) < _MAX_ID else _NO_ID,
            bool(entry.get("iscrowd")),
        )
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self._boxes.extend(map(float, box))
        area: Any = entry.get("area")
        self._areas.append(float(area) if _is_number(area) and area > 0 else math.nan)

    def _take_category(self, entry: Mapping[str, Any]) -> None:
        identity, name = self._id(entry, "id", "categories"), entry.get("name")
        if not isinstance(name, str) or not is_askable(name):
            wanted = "a name without ';' and tags, which questions and answers use"
            raise DpnError(f"{self._uri}: category {identity} is called {what_is(name)}; wanted {wanted}")
        self._number(1, identity)
        self.categories[identity] = entry

    def _id(self, entry: Mapping[str, Any], name: str, table: str) -> Id:
        value = entry.get(name)
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise DpnError(f"{self._uri}: an entry of '{table}' has the {name} {what_is(value)}; wanted an id")
        return value

    def _number(self, which: int, identity: Id) -> int:
        numbers = self._numbers[which]
        return numbers.setdefault(identity, len(numbers))

    def _check(self) -> None:
        if not self._pictures or not self.categories:
            missing = "images" if not self._pictures else "categories"
            raise DpnError(f"{self._uri}: no '{missing}'; wanted COCO's instances, lists of {', '.join(TABLES)}")
        unknown = [identity for identity in self._numbers[1] if identity not in self.categories]
        if unknown:
            raise DpnError(f"{self._uri}: annotations have the category {unknown[0]}, which 'categories' does not name")


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    sides: list[Any] = [entry.get("width"), entry.get("height")]
    if not all(_is_number(side) and 0 < side < _MAX_SIDE and side == int(side) for side in sides):
        return None
    width, height = map(int, sides)
    return width, height


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER
