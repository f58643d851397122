"""Each kind of bad record gets its own reason; odd but sound ones pass."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from dpn_platform.data.validation import RejectedError, check_image, check_record, find_duplicates

ASK = {"from": "human", "value": "<image>\nWhat is it?"}
REPLY = {"from": "gpt", "value": "a cat"}
GOOD = {"id": "1", "image": "coco/x.jpg", "conversations": [ASK, REPLY]}


def encoded(format_: str = "JPEG", size: tuple[int, int] = (16, 12), mode: str = "RGB") -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.new(mode, size, 7).save(buffer, format_)
    return buffer.getvalue()


def turns(*values: str) -> list[dict[str, str]]:
    """A conversation whose speakers alternate."""
    return [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]


def test_good_record_is_described() -> None:
    checked = check_record({**GOOD, "family": "counting", "difficulty": 3})

    assert (checked.id, checked.image, checked.source, checked.difficulty) == ("1", "coco/x.jpg", "counting", "3")
    assert (checked.num_turns, checked.text_length) == (1, len(ASK["value"]) + len(REPLY["value"]))


def test_source_falls_back_to_the_top_folder() -> None:
    assert check_record(GOOD).source == "coco"
    assert check_record({"id": 5, "conversations": turns("q", "a")}).source == "text"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "bad_id"),
        ({"id": None}, "bad_id"),
        ({"id": True}, "bad_id"),
        ({"conversations": []}, "bad_turns"),
        ({"conversations": "q"}, "bad_turns"),
        ({"conversations": [ASK]}, "bad_turns"),
        ({"conversations": [REPLY, ASK]}, "bad_turns"),
        ({"conversations": [ASK, {"from": "gpt", "value": 4}]}, "bad_turns"),
        ({"conversations": turns("<image>", "a")}, "empty_question"),
        ({"conversations": turns("<image> q", " \n")}, "empty_answer"),
        ({"conversations": turns("q", "a")}, "placeholder_mismatch"),
        ({"conversations": turns("<image> q", "a", "<image> q", "a")}, "placeholder_mismatch"),
        ({"conversations": turns("q", "<image>")}, "placeholder_mismatch"),
        ({"image": None}, "placeholder_mismatch"),
        ({"image": ["a.jpg", "b.jpg"]}, "bad_image_path"),
        ({"image": ""}, "bad_image_path"),
        ({"image": "/etc/passwd"}, "bad_image_path"),
        ({"image": "coco/../../secret.jpg"}, "bad_image_path"),
        ({"image": "..\\secret.jpg"}, "bad_image_path"),
        ({"image": "s3://other/x.jpg"}, "bad_image_path"),
        ({"image": "a//b.jpg"}, "bad_image_path"),
    ],
)
def test_bad_record_is_refused_with_its_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        check_record({**GOOD, **change})
    assert refusal.value.reason == reason


def test_record_must_be_an_object() -> None:
    with pytest.raises(RejectedError, match="not_an_object"):
        check_record(["no"])


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP"])
def test_formats_are_told_by_content(format_: str) -> None:
    assert check_image(encoded(format_)) == (16, 12)


def test_cmyk_jpeg_passes() -> None:
    assert check_image(encoded(mode="CMYK")) == (16, 12)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image_undecodable"),
        (b"<html>not found</html>", "image_undecodable"),
        (encoded(size=(64, 64))[:-100], "image_undecodable"),
        (encoded("TIFF"), "image_format"),
        (encoded(size=(1, 1)), "image_size"),
        (encoded("PNG", (8200, 8200), "1"), "image_size"),
    ],
)
def test_bad_picture_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        check_image(data)
    assert refusal.value.reason == reason


def test_duplicates_are_equal_in_id_and_content() -> None:
    other_talk = {**GOOD, "conversations": turns("<image> other?", "b")}

    assert find_duplicates([GOOD, other_talk, "junk", dict(GOOD), {**GOOD, "id": "2"}, GOOD]) == {3, 5}
