"""Proposals in the rows of a shard: what changes, what stays, what is counted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpn_model.objects.boxes import box_array
from dpn_model.objects.record import ObjectRecord
from dpn_model.proposals.contract import Known, Proposed
from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.rows import AT_ONCE, Asked, true_boxes, with_proposals
from dpn_platform.data.proposing.tally import Tally
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.schema import is_shard_schema, shard_table
from tests.data.proposing.published_set import TRUTH, publish_set


class Noting:
    """Gives every picture the same boxes and notes what it was shown."""

    def __init__(self, boxes: Any = ((4, 4, 20, 24.004), (0, 0, 9, 9), (3, 3, 3.001, 3.001))) -> None:
        self.boxes = box_array(boxes)
        self.calls: list[tuple[Sequence[Image.Image], Sequence[str], Sequence[Known]]] = []

    def propose(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        assert questions is not None
        assert known is not None
        self.calls.append((images, questions, known))
        scores = np.linspace(0.98765432, 0.4, len(self.boxes))
        return [Proposed(self.boxes, scores) for _ in images]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return publish_set(tmp_path_factory.mktemp("rows"), rows_per_shard=100)


@pytest.fixture(scope="module")
def table(manifest: Manifest) -> pa.Table:
    (shard,) = manifest.splits["train"].shards
    return pq.read_table(manifest.shard_uri(shard).removeprefix("file://"))


def by_id(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in table.to_pylist()}


def test_boxes_are_added_and_everything_else_stays(table: pa.Table) -> None:
    after, _ = with_proposals(table, Asked(Noting(), False, {}))

    assert is_shard_schema(after.schema)
    before, rows = by_id(table), by_id(after)
    changed = ("objects", "expected_cost")
    for name, row in rows.items():
        assert {key: value for key, value in row.items() if key not in changed} == {
            key: value for key, value in before[name].items() if key not in changed
        }
    for number in range(7):
        found = ObjectRecord.of_json(rows[f"r{number}"]["objects"])
        assert found.proposed is not None
        # Rounded to hundredths of a pixel, which leaves nothing of the last.
        assert found.proposed[0].tolist() == [[4, 4, 20, 24], [0, 0, 9, 9]]
        assert found.proposed[1].tolist() == [0.9877, 0.6938]
    kept = ObjectRecord.of_json(rows["r2"]["objects"])
    assert kept.scores is not None
    assert (kept.boxes.tolist(), kept.scores.tolist()) == ([[4, 4, 20, 23]], [0.7])
    assert kept.truth is not None
    assert kept.truth.categories == ("red circle", "dog")
    assert ObjectRecord.of_json(rows["r1"]["objects"]).boxes.tolist() == []
    assert (rows["text"]["objects"], rows["two"]["objects"]) == (None, None)


def test_rows_cost_two_tokens_for_every_box_that_is_shown_more(table: pa.Table) -> None:
    after, _ = with_proposals(table, Asked(Noting(), False, {}))
    again, _ = with_proposals(after, Asked(Noting([[50, 40, 60, 48]]), False, {}))
    costs = [{row["id"]: row["expected_cost"] for row in one.to_pylist()} for one in (table, after, again)]
    more = {name: costs[1][name] - costs[0][name] for name in costs[0]}
    # r0 has the first proposal among its own boxes, r1 has none, r2's own covers .95 of the first.
    assert (more["r0"], more["r1"], more["r2"], more["text"], more["two"]) == (2, 4, 2, 0, 0)
    assert costs[2]["r1"] == costs[0]["r1"] + 2


def test_the_source_hears_of_picture_question_record_and_truth(table: pa.Table) -> None:
    source = Noting()
    with_proposals(table, Asked(source, True, {"r4": "img/4.png"}))
    ((images, questions, known),) = source.calls
    told = dict(zip([one.id for one in known], zip(images, questions, known, strict=True), strict=True))
    assert set(told) == {f"r{number}" for number in range(7)}
    assert [one.size for one in images] == sorted(one.size for one in images)
    image, question, one = told["r4"]
    assert np.asarray(image).tolist() == np.random.default_rng(4).integers(0, 255, (64, 48, 3), dtype=np.uint8).tolist()
    assert "Please detect red circle; dog in this image" in question
    assert (one.image, one.boxes) == ("img/4.png", None)
    assert told["r0"][2].boxes is not None
    assert told["r0"][2].boxes.tolist() == TRUTH["boxes"]
    assert told["r2"][2].boxes is not None
    assert told["r2"][2].boxes.tolist() == TRUTH["boxes"][:1]


def test_pictures_come_in_small_groups(table: pa.Table) -> None:
    row = by_id(table)["r0"]
    many = shard_table([{**row, "row_id": number, "id": f"r{number}"} for number in range(AT_ONCE + 3)])
    source = Noting()
    with_proposals(many, Asked(source, False, {}))
    assert [len(images) for images, _, _ in source.calls] == [AT_ONCE, 3]


def test_what_is_true_is_not_what_a_detector_found() -> None:
    boxes = box_array([[0, 0, 4, 4]])
    assert true_boxes(ObjectRecord(box_array([]))) is None
    assert true_boxes(ObjectRecord(boxes, np.array([0.5]))) is None
    assert true_boxes(ObjectRecord(boxes)) is boxes


def test_counts_and_recall(table: pa.Table) -> None:
    _, tally = with_proposals(table, Asked(Noting(), False, {}))
    # r0, r3 and r6 have two true boxes and the first of them is found; r2 and r5 have one that is no crowd.
    assert (tally.boxes, tally.true, tally.passed_over) == ({2: 7}, 8, 1)
    assert tally.found == (5,) * 10
    assert Tally.of_json(tally.to_json()) == tally
    both = Tally.together([tally, Tally({0: 2, 5: 1}, 2, (2,) + (0,) * 9)])
    assert both.facts() == {
        "rows": 10,
        "rows_without": 2,
        "mean_boxes": 1.9,
        "median_boxes": 2.0,
        "true_boxes": 10,
        "recall_50": 0.7,
        "recall_50_95": 0.52,
        "passed_over": 1,
    }
    assert Tally().facts()["recall_50"] is None


def test_a_picture_that_cannot_be_read_is_named(table: pa.Table) -> None:
    broken = shard_table([{**by_id(table)["r0"], "row_id": 5, "image": b"no picture"}])
    with pytest.raises(DpnError, match="row 5: its picture cannot be read .*; see `dpn data verify`"):
        with_proposals(broken, Asked(Noting(), False, {}))


def test_a_cut_picture_is_named_where_pixels_are_looked_at(table: pa.Table) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(buffer, "PNG")
    cut = shard_table([{**by_id(table)["r0"], "image": buffer.getvalue()[:-900]}])
    with_proposals(cut, Asked(Noting(), False, {}))
    with pytest.raises(DpnError, match="its picture cannot be read"):
        with_proposals(cut, Asked(Noting(), True, {}))
