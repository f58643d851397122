"""Is this image file fit for training? Decoded whole, by content; repaired where the policy says so."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dpn_platform.data.policy import Findings, RejectedError

#: decoded by content, whatever the file is called (GIFs named .jpg are common in LLaVA's set)
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
MIN_IMAGE_SIDE = 8
MAX_IMAGE_PIXELS = 64_000_000
#: LLaVA pads to a square before it resizes: 40,000 x 9 pixels would take 4.8 GB in the training process
MAX_IMAGE_SIDE = 8000
JPEG_QUALITY = 95
_EXIF_ORIENTATION = 0x0112
_FORMAT_OF_SUFFIX = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP"}
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError)


@dataclass(frozen=True)
class CheckedImage:
    """An encoded image that decodes: the file as it was unless something was repaired; size in pixels."""

    data: bytes
    width: int
    height: int


def check_image(data: bytes, name: str, findings: Findings) -> CheckedImage:
    """Decodes the whole image (a truncated file opens, but does not load).

    Args:
        data: the file.
        name: what it is called; its ending says which format one would expect.
        findings: carries the policy, and notes what was repaired or kept.

    Raises:
        RejectedError: with the first kind found that the policy quarantines.
    """
    if not data:
        raise RejectedError("image_empty", f"{name}: 0 bytes")
    image = _open(data)
    expected = _FORMAT_OF_SUFFIX.get(name.rpartition(".")[2].lower())
    reencode = False
    if image.format not in IMAGE_FORMATS:
        allowed = ", ".join(IMAGE_FORMATS)
        reencode = findings.meet("image_format", f"{image.format}; allowed: {allowed}")
    elif expected is not None and image.format != expected:
        findings.meet("image_extension", f"{name} holds {image.format}")
    _check_size(image, findings)
    _load(image)
    repaired = _repair(image, findings)
    if repaired is None and not reencode:
        return CheckedImage(data, *image.size)
    repaired = repaired or image
    return CheckedImage(_encode(repaired, "JPEG" if image.format == "JPEG" else "PNG"), *repaired.size)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise RejectedError("image_huge", str(error)) from error
    except UnidentifiedImageError as error:
        # PIL writes the buffer's address into the message; the table must not differ between runs.
        raise RejectedError("image_undecodable", "not an image") from error
    except _DECODER_ERRORS as error:
        raise _undecodable(error) from error


def _check_size(image: Image.Image, findings: Findings) -> None:
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise RejectedError("image_huge", f"{width}x{height} pixels")
    if min(width, height) < MIN_IMAGE_SIDE:
        findings.meet("image_small", f"{width}x{height} pixels")
    if max(width, height) > MAX_IMAGE_SIDE:
        findings.meet("image_elongated", f"{width}x{height} pixels")


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except _DECODER_ERRORS as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> RejectedError:
    ends_early = isinstance(error, EOFError) or "truncated" in str(error).lower()
    return RejectedError("image_truncated" if ends_early else "image_undecodable", str(error))


def _repair(image: Image.Image, findings: Findings) -> Image.Image | None:
    """The image with its defects mended; None when it stays as it is."""
    mended: Image.Image | None = None
    if _orientation(image) != 1 and findings.meet("image_rotated", f"EXIF orientation {_orientation(image)}"):
        mended = ImageOps.exif_transpose(image)
    current = mended or image
    if image.mode == "CMYK" and findings.meet("image_cmyk", "CMYK"):
        mended = current.convert("RGB")
    elif image.mode.startswith(("I", "F")) and findings.meet("image_16bit", f"mode {image.mode}"):
        mended = _to_8_bits(current)
    elif image.mode == "P" and image.format != "GIF" and findings.meet("image_palette", "palette"):
        mended = current.convert("RGB")
    return mended


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 (upright) where there is none, or none that can be read."""
    if "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (*_DECODER_ERRORS, KeyError, TypeError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_8_bits(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits: PIL's own conversion would clip everything above 255 to white."""
    values = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
    return Image.fromarray((values / 256).astype(np.uint8))


def _encode(image: Image.Image, format_: str) -> bytes:
    """Without the source's metadata: a copied orientation would rotate it a second time."""
    buffer = io.BytesIO()
    if format_ == "JPEG":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, exif=b"")
    else:
        rgb = image if image.mode in ("L", "RGB") else image.convert("RGB")
        rgb.save(buffer, "PNG", exif=b"")
    return buffer.getvalue()
