"""Images: told by content, decoded whole, repaired without harm, refused with the right kind."""

from __future__ import annotations

import io
import random
import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from dpn_platform.data.ingest.images import check_image
from dpn_platform.data.ingest.policy import KINDS, Findings, Policy, RejectedError
from dpn_platform.demo.mix.dirt import DIRT, ImageDirt


def photo(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """Left half dark, right half light: an orientation shows."""
    pixels = np.full((size[1], size[0], 3), 40, np.uint8)
    pixels[:, size[0] // 2 :] = 210
    return Image.fromarray(pixels)


def encoded(format_: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (40, 24), **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo(size).convert(mode).save(buffer, format_, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP"])
def test_formats_are_told_by_content_and_bytes_stay(format_: str) -> None:
    findings, data = Findings(), encoded(format_)
    checked = check_image(data, "x.jpg", findings)

    assert (checked.width, checked.height, checked.data) == (40, 24, data)
    assert (findings.kept, findings.repaired) == ([] if format_ == "JPEG" else ["image_extension"], [])


@pytest.mark.parametrize("name", [name for name, dirt in DIRT.items() if isinstance(dirt, ImageDirt)])
def test_every_defect_of_a_file_meets_its_policy(name: str) -> None:
    dirt = DIRT[name]
    assert isinstance(dirt, ImageDirt)
    data, findings = dirt.spoil(photo((64, 48))), Findings()

    if KINDS[dirt.kind].default == "quarantine":
        with pytest.raises(RejectedError) as refusal:
            check_image(data, f"x{dirt.suffix}", findings)
        assert refusal.value.reason == dirt.kind
        return
    checked = check_image(data, f"x{dirt.suffix}", findings)
    assert findings.repaired + findings.kept == [dirt.kind]
    assert (checked.data == data) == bool(findings.kept)
    assert decoded(checked.data).shape == (checked.height, checked.width, 3)
    with pytest.raises(RejectedError, match=dirt.kind):
        check_image(data, f"x{dirt.suffix}", Findings(Policy.parse([f"{dirt.kind}=quarantine"])))


def test_rotation_turns_the_pixels_and_is_not_asked_for_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rightly after a quarter turn clockwise: dark half on top
    checked = check_image(encoded(exif=exif), "x.jpg", Findings())
    pixels = decoded(checked.data)

    assert (checked.width, checked.height) == (24, 40)
    assert pixels[:16].mean() < 60 < 190 < pixels[24:].mean()
    again = Findings()
    assert check_image(checked.data, "x.jpg", again).data == checked.data
    assert (again.repaired, again.kept) == ([], [])


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment in front."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def exif_of(*entries: tuple[int, int, int, bytes], tail: bytes = b"") -> bytes:
    """An Exif segment of (tag, type, count, value or offset), a quarter turn (0x0112) among them."""
    ordered = sorted([(0x0112, 3, 1, b"\x06\0\0\0"), *entries])
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in ordered)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(ordered)) + body + b"\0\0\0\0" + tail


@pytest.mark.parametrize(
    ("tag", "type_", "count", "value"),
    [
        (0x0128, 4, 1, struct.pack("<I", 70000)),  # a unit that does not fit when it is written back
        (0x011A, 2, 4, b"72\0\0"),  # a resolution in words
        (0x011A, 10, 1, struct.pack("<I", 38)),  # -1 / 0
        (0x010F, 4, 1, struct.pack("<I", 7)),  # a maker that is a number
        (0x8769, 4, 1, struct.pack("<I", 0x7FFFFFF0)),  # a folder of tags beyond the file's end
        (0x8825, 3, 1, struct.pack("<HH", 9, 0)),  # a position that is no folder
    ],
)
def test_a_photo_is_turned_whatever_its_other_tags_hold(tag: int, type_: int, count: int, value: bytes) -> None:
    exif = exif_of((tag, type_, count, value), tail=struct.pack("<ii", -1, 0))
    findings = Findings()
    checked = check_image(with_segment(encoded(), 0xE1, exif), "x.jpg", findings)

    assert (checked.width, checked.height, findings.repaired) == (24, 40, ["image_rotated"])
    assert decoded(checked.data)[:16].mean() < 60 < 190 < decoded(checked.data)[24:].mean()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), dtype=int)

    # one more pass of JPEG at quality 95: at most 2 levels off here
    assert np.abs(decoded(check_image(data, "x.jpg", Findings()).data) - shown).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Image appears to be a malformed MPO", "ignore:Metadata")
def test_metadata_of_any_kind_end_no_ingest() -> None:
    rng, met = random.Random(0), Counter[str]()
    kinds = [(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x03\0"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xE0, b"JFIF\0")]
    kinds += [
        (0xE2, b"MPF\0II*\0\x08\0\0\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xED, b"Photoshop 3.0\x008BIM"),
        (0xEE, b"Adobe"),
    ]
    for number in range(600):
        marker, head = kinds[number % len(kinds)]
        data = with_segment(encoded(), marker, head + rng.randbytes(rng.randrange(rng.choice((4, 40)))))
        findings = Findings()
        pixels = decoded(check_image(data, "x.jpg", findings).data)
        assert pixels.shape in ((24, 40, 3), (40, 24, 3))
        met.update(findings.repaired)
    assert met["image_metadata"] > 20  # 98 here: Pillow opens these without their segments alone


def test_a_photo_with_a_second_picture_behind_it_is_the_jpeg_it_is() -> None:
    buffer, findings = io.BytesIO(), Findings()
    photo((120, 80)).save(buffer, "MPO", save_all=True, append_images=[photo((60, 40))])
    data = buffer.getvalue()
    checked = check_image(data, "phone.jpg", findings)

    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert (checked.width, checked.height, checked.data) == (120, 80, data)
    assert (findings.repaired, findings.kept) == ([], [])


def test_what_a_decoder_raises_refuses_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise AttributeError("no such thing\nin two lines")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(RejectedError) as refusal:
        check_image(encoded(), "x.jpg", Findings())
    assert str(refusal.value) == "image_undecodable: AttributeError: no such thing"


def test_cmyk_keeps_its_colours() -> None:
    checked = check_image(encoded(mode="CMYK", quality=95), "x.jpg", Findings())

    assert Image.open(io.BytesIO(checked.data)).mode == "RGB"
    # two passes of JPEG at quality 95: mean 0.1, at most 6 levels off here
    assert np.abs(decoded(checked.data) - np.asarray(photo(), dtype=int)).mean() < 1


def test_16_bit_is_scaled_not_clipped() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 64 * 16, dtype=np.uint16).reshape(16, 64)).save(buffer, "PNG")
    pixels = decoded(check_image(buffer.getvalue(), "x.png", Findings()).data)

    assert (pixels[0, 0, 0], pixels[-1, -1, 0]) == (0, 255)
    assert len(np.unique(pixels)) == 256


def test_a_palette_can_be_repaired_without_loss() -> None:
    data = encoded("PNG", "P")
    checked = check_image(data, "x.png", Findings(Policy.parse(["image_palette=repair"])))

    assert Image.open(io.BytesIO(checked.data)).mode == "RGB"
    assert (decoded(checked.data) == decoded(data)).all()


def test_another_format_can_be_repaired_without_loss() -> None:
    checked = check_image(encoded("TIFF"), "x.tif", Findings(Policy.parse(["image_format=repair"])))

    assert Image.open(io.BytesIO(checked.data)).format == "PNG"
    assert (decoded(checked.data) == np.asarray(photo(), dtype=int)).all()


def test_truncation_is_seen_in_every_format() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for format_ in ("JPEG", "PNG", "GIF", "WEBP"):
        buffer = io.BytesIO()
        noise.save(buffer, format_)
        with pytest.raises(RejectedError, match="image_truncated|image_undecodable"):
            check_image(buffer.getvalue()[: len(buffer.getvalue()) // 2], "x", Findings())
