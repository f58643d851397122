"""Defects as they are found in the wild, planted on purpose: what each does, and which kind it must count as."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dpn_platform.demo.mix.pictures import encode

_ORIENTATION_TAG = 0x0112
_HUGE_SIDE = 8100
_BOMB_SIDE = 60_000
_BOXES = [[0, 0, 8, 8]]


@dataclass(frozen=True)
class TextDirt:
    """A defect of the record: `spoil` turns a sound record into the bytes to write."""

    kind: str
    spoil: Callable[[dict[str, Any]], bytes]


@dataclass(frozen=True)
class ImageDirt:
    """A defect of the file: `spoil` turns a sound image into the bytes to write, under a name with this ending."""

    kind: str
    spoil: Callable[[Image.Image], bytes]
    suffix: str = ".jpg"


Dirt = TextDirt | ImageDirt


def to_bytes(record: Any) -> bytes:
    """A record on one line, as LLaVA's files spell it."""
    return json.dumps(record).encode()


def _changed(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: to_bytes({**record, **fields})


def _turns(change: Callable[[list[Any]], list[Any]]) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: to_bytes({**record, "conversations": change(record["conversations"])})


def _valued(number: int, value: str) -> Callable[[list[Any]], list[Any]]:
    return lambda turns: [{**turn, "value": value} if at == number else turn for at, turn in enumerate(turns)]


def _without_placeholder(turns: list[Any]) -> list[Any]:
    return [{**turn, "value": turn["value"].replace("<image>", "")} for turn in turns]


def _boxes_alone(record: dict[str, Any]) -> bytes:
    turns = _without_placeholder(record["conversations"])
    return to_bytes({**record, "image": None, "conversations": turns, "boxes": _BOXES})


def _answered(value: str, **fields: Any) -> Callable[[dict[str, Any]], bytes]:
    """The record with this as its first answer, and with these fields."""
    return lambda record: to_bytes({**record, **fields, "conversations": _valued(1, value)(record["conversations"])})


def _not_utf8(record: dict[str, Any]) -> bytes:
    return to_bytes(record).replace(b'"value": "', b'"value": "\xff\xfe', 1)


def _as_format(format_: str, mode: str = "RGB") -> Callable[[Image.Image], bytes]:
    return lambda image: encode(image.convert(mode), format_)


def _truncated(image: Image.Image) -> bytes:
    data = encode(image)
    return data[: len(data) * 2 // 3]


def _rotated(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = 6
    return encode(image, exif=exif)


def _odd_metadata(image: Image.Image) -> bytes:
    """With a colour profile that ends before its number: Pillow takes such a JPEG for no image."""
    body = b"ICC_PROFILE\0"
    data = encode(image)
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + data[2:]


def _16_bit(image: Image.Image) -> bytes:
    grey = np.asarray(image.convert("L"), dtype=np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def _bomb(_: Image.Image) -> bytes:
    """A PNG of a few hundred bytes that claims 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", _BOMB_SIDE, _BOMB_SIDE, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


#: planted in turn; "duplicate" is a repetition of an earlier record and "not_json" half a line (JSON lines only)
DIRT: dict[str, Dirt] = {
    "duplicate": TextDirt("duplicate", to_bytes),
    "not_json": TextDirt("not_json", lambda record: to_bytes(record)[:-20]),
    "not_an_object": TextDirt("not_an_object", lambda record: to_bytes([record["id"]])),
    "not_utf8": TextDirt("not_utf8", _not_utf8),
    "bad_id": TextDirt("bad_id", _changed(id=None)),
    "leading_answer": TextDirt("leading_answer", _turns(lambda turns: [{"from": "gpt", "value": "hi"}, *turns])),
    "trailing_question": TextDirt("trailing_question", _turns(lambda turns: [*turns, {"from": "human", "value": "?"}])),
    "turns_do_not_alternate": TextDirt("bad_turns", _turns(lambda turns: [turns[0], turns[0], *turns[1:], turns[1]])),
    "turns_are_missing": TextDirt("bad_turns", _changed(conversations=None)),
    "empty_question": TextDirt("empty_question", _turns(_valued(0, "<image>\n"))),
    "empty_answer": TextDirt("empty_answer", _turns(_valued(1, " "))),
    "no_placeholder": TextDirt("placeholder_mismatch", _turns(_without_placeholder)),
    "two_placeholders": TextDirt("placeholder_mismatch", _turns(_valued(0, "<image><image> what?"))),
    "end_in_an_answer": TextDirt("control_text", _turns(_valued(1, "so</s>it goes on"))),
    "box_without_area": TextDirt("bad_boxes", _changed(boxes=[[5, 5, 5, 9]])),
    "box_outside": TextDirt("bad_boxes", _changed(boxes=[[0, 0, 1e6, 1e6]])),
    "boxes_and_no_picture": TextDirt("boxes_picture", _boxes_alone),
    "index_of_no_box": TextDirt("bad_object_index", _answered("It is <obj1>.", boxes=_BOXES)),
    "index_without_boxes": TextDirt("stray_object_tag", _answered("It is <obj0>.")),
    "path_traversal": TextDirt("bad_image_path", _changed(image="../../etc/passwd")),
    "absolute_path": TextDirt("bad_image_path", _changed(image="/etc/passwd")),
    "missing_file": TextDirt("image_missing", _changed(image="ocr_vqa/images/no_longer_there.jpg")),
    "zero_bytes": ImageDirt("image_empty", lambda _: b""),
    "html_page": ImageDirt("image_undecodable", lambda _: b"<html><body>404 Not Found</body></html>"),
    "truncated": ImageDirt("image_truncated", _truncated),
    "tiff": ImageDirt("image_format", _as_format("TIFF"), ".tif"),
    "gif_named_jpg": ImageDirt("image_extension", _as_format("GIF", "L")),
    "png_named_jpg": ImageDirt("image_extension", _as_format("PNG")),
    "webp_named_jpg": ImageDirt("image_extension", _as_format("WEBP")),
    "one_pixel": ImageDirt("image_small", lambda image: encode(image.resize((1, 1)))),
    "huge": ImageDirt("image_huge", lambda _: encode(Image.new("1", (_HUGE_SIDE, _HUGE_SIDE)), "PNG"), ".png"),
    "bomb": ImageDirt("image_huge", _bomb, ".png"),
    "elongated": ImageDirt("image_elongated", lambda _: encode(Image.new("1", (_HUGE_SIDE, 16)), "PNG"), ".png"),
    "odd_metadata": ImageDirt("image_metadata", _odd_metadata),
    "rotated": ImageDirt("image_rotated", _rotated),
    "cmyk": ImageDirt("image_cmyk", _as_format("JPEG", "CMYK")),
    "16_bit": ImageDirt("image_16bit", _16_bit, ".png"),
    "palette": ImageDirt("image_palette", _as_format("PNG", "P"), ".png"),
}
