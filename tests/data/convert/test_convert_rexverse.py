"""The group's TSV: pictures by offset over all parts, boxes in either form, phrases and captions as questions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert import image_parts
from tests.data.convert.conftest import jpeg

Converted = Callable[..., tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]]
SIZES = [(100, 80), (64, 64), (300, 40)]
#: of each picture; the first list allows corners alone
BOXES = [
    [([10, 10, 95, 75], "a red cup on the table"), ([5, 5, 20, 20], "the left spoon")],
    [([40, 40, 60, 62.5], "a  dog"), ([1, 2, 30, 30], "a dog"), ([5, 5, 5, 9], "nothing")],
    [([0, 0, 301, 40], "a long wall"), ([9, 9, 20, 20], " "), ([9, 9, 20, 20], "cat; dog")],
]


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """A set as it is published: two parts of pictures, annotations and their index; returns its folder."""

    def write(
        rows: Sequence[Sequence[tuple[Any, str]]] = BOXES,
        *,
        field: str = "phrase",
        wrapped: bool = False,
        cut: int | None = None,
        name: str = "referring.annotations",
        order: Sequence[int] = (0, 1, 2),
    ) -> Path:
        folder = tmp_path / "tsv"
        folder.mkdir(exist_ok=True)
        pictures = []
        for number, size in enumerate(SIZES):
            text = base64.b64encode(jpeg(size))
            pictures.append(b"%d\t%s\n" % (number, str(text).encode() if wrapped else text))
        offsets = [sum(map(len, pictures[:number])) for number in range(3)]
        whole = b"".join(pictures)
        at = len(pictures[0]) if cut is None else cut
        (folder / "0_3_image_part_0.tsv").write_bytes(whole[:at])
        (folder / "0_3_image_part_1.tsv").write_bytes(whole[at:])
        lines = [
            b"%d\t%s\n"
            % (offsets[number], json.dumps({"boxes": [{"bbox": box, field: text} for box, text in row]}).encode())
            for number, row in zip(order, rows, strict=False)
        ]
        (folder / f"0_3_{name}.tsv").write_bytes(b"".join(lines))
        starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
        (folder / f"0_3_{name}.tsv.lineidx").write_text("".join(f"{start}\n" for start in starts))
        return folder

    return write


def values(record: dict[str, Any]) -> list[str]:
    return [turn["value"] for turn in record["conversations"]]


@pytest.mark.parametrize("block", [64, 10_000_000])
@pytest.mark.parametrize("cut", [None, 700])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pictures_are_found_over_all_parts_and_written_as_they_are(
    converted: Converted,
    source: Callable[..., Path],
    refused_by_ingest: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wrapped: bool,
    cut: int | None,
    block: int,
) -> None:
    monkeypatch.setattr(image_parts, "_BLOCK_BYTES", block)
    summary, records = converted(
        "rexverse", source(wrapped=wrapped, cut=cut, order=(2, 0, 1), rows=[BOXES[2], *BOXES[:2]])
    )

    assert summary["decided"] == {"boxes": "xyxy", "text": "phrase"}
    assert [record["id"] for record in records["train"]] == ["0-detect-0", "1-detect-0", "2-detect-0"]
    assert [(tmp_path / "raw" / record["image"]).read_bytes() for record in records["train"]] == [
        jpeg(SIZES[number]) for number in (2, 0, 1)
    ]
    assert refused_by_ingest(records["train"], tmp_path / "raw") == []


def test_a_phrase_is_asked_for_and_means_all_its_boxes(converted: Converted, source: Callable[..., Path]) -> None:
    summary, records = converted("rexverse", source())
    first, second, third = records["train"]

    assert values(first) == [
        "<image>\nPlease detect a red cup on the table in this image. Answer the question with object indexes.",
        "<ground>a red cup on the table</ground><objects><obj0></objects>",
        "Please detect the left spoon in this image. Answer the question with object indexes.",
        "<ground>the left spoon</ground><objects><obj1></objects>",
    ]
    assert values(second)[1] == "<ground>a dog</ground><objects><obj0><obj1></objects>"
    assert second["boxes"] == [[40, 40, 60, 62.5], [1, 2, 30, 30]]
    assert second["truth"] == {"boxes": second["boxes"], "categories": ["a dog", "a dog"]}
    assert third["boxes"][0] == [0, 0, 300, 40]
    assert summary["left_out"] == {"boxes without a usable text": 2, "boxes without area": 1}
    assert first["image"].endswith(".jpg")


def test_sides_are_told_from_corners(converted: Converted, source: Callable[..., Path]) -> None:
    sides = [[([60, 30, 20, 10], "a cup")], [([1, 1, 63, 63], "all")]]
    summary, records = converted("rexverse", source(sides))

    assert summary["decided"]["boxes"] == "xywh"
    assert [record["boxes"] for record in records["train"]] == [[[60, 30, 80, 40]], [[1, 1, 64, 64]]]


def test_what_is_ambiguous_needs_the_option(converted: Converted, source: Callable[..., Path]) -> None:
    ambiguous = [[([1, 1, 20, 20], "a cup")]]
    with pytest.raises(DpnError, match=r"of 1 lists of boxes 0 say xyxy, 0 say xywh; say how .* --boxes xyxy\|xywh"):
        converted("rexverse", source(ambiguous))
    for reading, box in (("xyxy", [1, 1, 20, 20]), ("xywh", [1, 1, 21, 21])):
        _, records = converted("rexverse", source(ambiguous), boxes=reading, to=reading)
        assert records["train"][0]["boxes"] == [box]


def test_a_caption_is_the_answer_and_may_hold_any_mark(converted: Converted, source: Callable[..., Path]) -> None:
    rows = [[([10, 10, 50, 60], "A red cup; it is full."), ([90, 70, 95, 75], "A <obj1>.")]]
    summary, records = converted("rexverse", source(rows, field="caption"), split="val")
    (record,) = records["val"]

    assert values(record) == [
        "<image>\nCan you provide a one sentence description of <obj0> in the image? "
        "Answer the question with a one sentence description.",
        "<ground>A red cup; it is full.</ground><objects><obj0></objects>",
    ]
    assert ("truth" in record, record["id"], record["family"]) == (False, "0-0-describe", "description")
    assert len(record["boxes"]) == 2
    assert summary["left_out"] == {"boxes without a usable text": 1}


def test_both_may_be_asked_and_the_field_be_named(converted: Converted, source: Callable[..., Path]) -> None:
    rows = [[([60, 30, 90, 70], "a cup")]]
    _, records = converted("rexverse", source(rows, field="name"), text="name", ask=("describe", "detect"))

    assert [values(record)[0] for record in records["train"]] == [
        "<image>\nCan you provide me with a brief description of <obj0>? Answer the question with brief description.",
        "<image>\nPlease detect a cup in this image. Answer the question with object indexes.",
    ]
    with pytest.raises(DpnError, match=r"a box has the fields bbox, name; wanted phrase or caption, .* by --text"):
        converted("rexverse", source(rows, field="name"), to="other")


def test_a_training_record_holds_so_many_turns(converted: Converted, source: Callable[..., Path]) -> None:
    rows = [[([60, 30, 90, 70 + number / 10], f"cup {number}") for number in range(5)]]
    _, records = converted("rexverse", source(rows), turns=2)

    assert [(record["id"], len(record["conversations"])) for record in records["train"]] == [
        ("0-detect-0", 4), ("0-detect-1", 4), ("0-detect-2", 2),
    ]  # fmt: skip
    assert len({record["image"] for record in records["train"]}) == 1


def test_more_boxes_than_can_be_named(converted: Converted, source: Callable[..., Path]) -> None:
    rows = [[([60, 30, 90, 40 + number / 10], f"cup {number}") for number in range(101)], BOXES[1]]
    summary, records = converted("rexverse", source(rows))
    assert (len(records["train"]), summary["left_out"]["training pictures with over 100 boxes"]) == (1, 1)
    _, records = converted("rexverse", source(rows), split="test", to="test")
    assert len(records["test"]) == 101
    assert "Please detect cup 0 " not in str(records["test"])


def test_one_damaged_row_or_picture_does_not_end_the_work(converted: Converted, source: Callable[..., Path]) -> None:
    folder = source()
    annotations = folder / "0_3_referring.annotations.tsv"
    first, second, third = annotations.read_bytes().splitlines(keepends=True)
    annotations.write_bytes(first + third.replace(b'"boxes"', b'"boxez"') + second)
    part = folder / "0_3_image_part_0.tsv"
    part.write_bytes(b"0\t?" + part.read_bytes()[3:])
    summary, records = converted("rexverse", folder, boxes="xyxy")

    assert [record["id"] for record in records["train"]] == ["2-detect-0"]
    assert {"rows of another form": 1, "pictures that cannot be read": 1}.items() <= summary["left_out"].items()


def test_pictures_may_lie_elsewhere(converted: Converted, source: Callable[..., Path], tmp_path: Path) -> None:
    folder = source()
    parts = []
    for number in range(2):
        parts.append(str((folder / f"0_3_image_part_{number}.tsv").rename(tmp_path / f"part{number}.tsv")))
    with pytest.raises(DpnError, match="no pictures beside it"):
        converted("rexverse", folder)
    assert len(converted("rexverse", folder, images=tuple(parts))[1]["train"]) == 3
    with pytest.raises(DpnError, match="--images /none.tsv: there is no such file"):
        converted("rexverse", folder, images=("/none.tsv",), to="other")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("image_part_0.tsv", None, "part 0 of 0_3's pictures is missing; there are 0_3_image_part_1.tsv"),
        ("image_part_1.tsv", None, "no row of a picture begins at byte"),
        ("image_part_0.tsv", b"x" * 5000, "it is in the middle of one; give all parts, in order, by --images"),
        ("image_part_0.tsv", b"x\n" * 5000, "there is no tab in it; give all parts"),
        ("referring.annotations.tsv", b"0\t{}", "has 4 bytes, and its last row begins at"),
        ("referring.annotations.tsv.lineidx", b"0\n1\n2\n3\n", "has 3 rows, its index 4; is it whole?"),
        ("referring.annotations.tsv", b"id\tx\n" * 999, "row 0 begins with 'id\\tx'; wanted an offset, a tab and JSON"),
        ("referring.annotations.tsv", b"0\t{\n" * 999, "row 0: not valid JSON"),
        ("referring.annotations.tsv", b"0\t[]\n" * 999, "row 0 holds an empty list; wanted 'boxes', a list of objects"),
        ("referring.annotations.tsv", b'0\t{"boxes": []}\n' * 999, "no row has a box"),
        ("referring.annotations.tsv", b'0\t{"boxes": [{"phrase": "x"}]}\n' * 99, "row 0: boxes without a bbox of four"),
        ("x.annotation.tsv", b"", "found 0_3_referring.annotations.tsv, 0_3_x.annotation.tsv; name one as SOURCE"),
        ("re.images.tsv", b"", "several pictures beside it"),
    ],
)
def test_files_that_do_not_fit_are_one_line(
    converted: Converted, source: Callable[..., Path], name: str, content: bytes | None, told: str
) -> None:
    folder = source()
    file = folder / f"0_3_{name}"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(DpnError) as refusal:
        converted("rexverse", folder)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unindexed_set_of_one_file_is_read_too(converted: Converted, source: Callable[..., Path]) -> None:
    """As the group's later sets are called: `toy_data.images.tsv`, `toy_data.annotations.tsv`."""
    folder = source()
    (folder / "0_3_referring.annotations.tsv.lineidx").unlink()
    whole = b"".join((folder / f"0_3_image_part_{number}.tsv").read_bytes() for number in range(2))
    for file in list(folder.glob("*part*")):
        file.unlink()
    (folder / "toy.images.tsv").write_bytes(whole)
    (folder / "0_3_referring.annotations.tsv").rename(folder / "toy.annotations.tsv")

    assert len(converted("rexverse", folder / "toy.annotations.tsv")[1]["train"]) == 3


def test_other_formats_keep_their_ending(converted: Converted, source: Callable[..., Path], tmp_path: Path) -> None:
    folder = source([[([60, 30, 90, 70], "a cup")]])
    Image.new("RGB", (100, 80)).save(tmp_path / "x.png")
    text = base64.b64encode((tmp_path / "x.png").read_bytes())
    (folder / "0_3_image_part_0.tsv").write_bytes(b"0\t" + text + b"\n")
    (record,) = converted("rexverse", folder)[1]["train"]

    assert re.fullmatch(r"images/000/0\.png", record["image"])
