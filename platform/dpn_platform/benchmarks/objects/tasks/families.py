"""Which records each of the benchmarks asks, by the family that they name; and where a published data set has them."""

from __future__ import annotations

from collections.abc import Callable

from dpn_platform.benchmarks.contract import PUBLISHED, Layout, Row, is_of_families
from dpn_platform.benchmarks.files.published import first_turn

DETECTION, REFERRING, REGIONS, COUNTING = "detection", "referring", "regions", "counting"
#: benchmark -> families, as drawn sets and `dpn data convert` call them; `*` stands for any end
FAMILIES = {
    DETECTION: ("detect", "detection"),
    REFERRING: ("refer", "referring"),
    REGIONS: ("name", "naming", "description", "region*"),
    COUNTING: ("count", "counting"),
}
#: of a data set that is given as it is, where nobody names another
SPLIT = "test"


def layout_of(benchmark: str, says: Callable[[str, str], object]) -> Layout:
    """Where a published data set keeps a benchmark's questions.

    Args:
        benchmark: a key of `FAMILIES`.
        says: what a question and its gold answer ask for; a record that says nothing of it is not asked.
    """

    def is_asked(row: Row) -> bool:
        if row.get("objects") is None or not is_of_families(row["source"], FAMILIES[benchmark]):
            return False
        return bool(says(*first_turn(row)))

    return Layout(PUBLISHED, SPLIT, "manifest.json", annotations="", id="id", family="source", is_asked=is_asked)
