"""Images: told by content, decoded whole, repaired without harm, refused with the right kind."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpn_platform.data.images import check_image
from dpn_platform.data.mix.dirt import DIRT, ImageDirt
from dpn_platform.data.policy import KINDS, Findings, Policy, RejectedError


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
