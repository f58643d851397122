"""Is this image file fit for training? Decoded whole, by content; repaired where the policy says so."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from dpn_platform.data.ingest.policy import Findings, RejectedError

#: decoded by content, whatever the file is called (GIFs named .jpg are common in LLaVA's set)
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
#: a JPEG with more pictures behind the first, as phones and drones write it: read as the JPEG it is
_JPEG_WITH_MORE = "MPO"
MIN_IMAGE_SIDE = 8
MAX_IMAGE_PIXELS = 64_000_000
#: LLaVA pads to a square before it resizes: 40,000 x 9 pixels would take 4.8 GB in the training process
MAX_IMAGE_SIDE = 8000
JPEG_QUALITY = 95
_EXIF_ORIENTATION = 0x0112
#: of a JPEG: its first bytes, and the segments for metadata; a whole one of Adobe's (14) tells how colours are coded
_START, _APP_SEGMENTS, _APP14, _WHOLE_APP14 = b"\xff\xd8", range(0xE0, 0xF0), 0xEE, 16
_FORMAT_OF_SUFFIX = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP"}
#: what undoes each EXIF orientation
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class CheckedImage:
    """An encoded image that decodes: the file as it was unless something was repaired; size in pixels."""

    data: bytes
    width: int
    height: int


def check_image(data: bytes, name: str, findings: Findings) -> CheckedImage:
    """Decodes the whole image (a truncated file opens, but does not load).

    What a decoder raises, of whatever kind, refuses this image and nothing else.

    Args:
        data: the file.
        name: what it is called; its ending says which format one would expect.
        findings: carries the policy, and notes what was repaired or kept.

    Raises:
        RejectedError: with the first kind found that the policy quarantines.
    """
    if not data:
        raise RejectedError("image_empty", f"{name}: 0 bytes")
    try:
        return _check(data, name, findings)
    except RejectedError:
        raise
    except Image.DecompressionBombError as error:
        raise RejectedError("image_huge", str(error)) from error
    except UnidentifiedImageError as error:
        # PIL writes the buffer's address into the message; the table must not differ between runs.
        raise RejectedError("image_undecodable", "not an image") from error
    except Exception as error:  # decoders raise whatever their reading of odd bytes leads to
        raise _undecodable(error) from error


def _check(data: bytes, name: str, findings: Findings) -> CheckedImage:
    image, data = _open(data, findings)
    format_ = "JPEG" if image.format == _JPEG_WITH_MORE else image.format
    expected = _FORMAT_OF_SUFFIX.get(name.rpartition(".")[2].lower())
    reencode = False
    if format_ not in IMAGE_FORMATS:
        allowed = ", ".join(IMAGE_FORMATS)
        reencode = findings.meet("image_format", f"{format_}; allowed: {allowed}")
    elif expected is not None and format_ != expected:
        findings.meet("image_extension", f"{name} holds {format_}")
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise RejectedError("image_huge", f"{width}x{height} pixels")
    if min(width, height) < MIN_IMAGE_SIDE:
        findings.meet("image_small", f"{width}x{height} pixels")
    if max(width, height) > MAX_IMAGE_SIDE:
        findings.meet("image_elongated", f"{width}x{height} pixels")
    image.load()
    repaired = _repair(image, findings)
    if repaired is None and not reencode:
        return CheckedImage(data, *image.size)
    repaired = repaired or image
    return CheckedImage(_encode(repaired, "JPEG" if format_ == "JPEG" else "PNG"), *repaired.size)


def _open(data: bytes, findings: Findings) -> tuple[Image.Image, bytes]:
    """The image, and its file: without metadata where they alone keep a JPEG from being opened."""
    try:
        return Image.open(io.BytesIO(data)), data
    except Image.DecompressionBombError:
        raise
    except Exception:
        bare = _without_metadata(data)
        if bare is None:
            raise
        image = Image.open(io.BytesIO(bare))
    findings.meet("image_metadata", "it opens without its metadata segments only")
    return image, bare


def _without_metadata(data: bytes) -> bytes | None:
    """A JPEG without the segments that say something about it; None for what is no JPEG, or has none of them."""
    if not data.startswith(_START):
        return None
    kept, place = [_START], len(_START)
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in (b"\xda", b"\xd9", b""):
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        is_colour = data[place + 1] == _APP14 and end - place >= _WHOLE_APP14
        if data[place + 1] not in _APP_SEGMENTS or is_colour:
            kept.append(data[place:end])
        place = end
    bare = b"".join([*kept, data[place:]])
    return bare if len(bare) < len(data) else None


def _undecodable(error: Exception) -> RejectedError:
    ends_early = isinstance(error, EOFError) or "truncated" in str(error).lower()
    # Pillow's own words for its own errors; for others the kind says more than the words.
    known = isinstance(error, OSError | SyntaxError | ValueError | EOFError)
    first_line = (str(error).splitlines() or [""])[0][:200]
    detail = first_line if known and first_line else f"{type(error).__name__}: {first_line}"
    return RejectedError("image_truncated" if ends_early else "image_undecodable", detail)


def _repair(image: Image.Image, findings: Findings) -> Image.Image | None:
    """The image with its defects mended; None when it stays as it is."""
    mended: Image.Image | None = None
    turned = _orientation(image)
    if turned != 1 and findings.meet("image_rotated", f"EXIF orientation {turned}"):
        # By ourselves: `ImageOps.exif_transpose` writes the other tags again, and fails where one of them is odd.
        mended = image.transpose(_UPRIGHT[turned])
    current = mended or image
    if image.mode == "CMYK" and findings.meet("image_cmyk", "CMYK"):
        mended = current.convert("RGB")
    elif image.mode.startswith(("I", "F")) and findings.meet("image_16bit", f"mode {image.mode}"):
        # The upper 8 of 16 bits: PIL's own conversion would clip everything above 255 to white.
        values = np.clip(np.asarray(current, dtype=np.float64), 0, 65535)
        mended = Image.fromarray((values / 256).astype(np.uint8))
    elif image.mode == "P" and image.format != "GIF" and findings.meet("image_palette", "palette"):
        mended = current.convert("RGB")
    return mended


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 (upright) where there is none, or none that can be read."""
    if "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a fault of the metadata is none of the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _encode(image: Image.Image, format_: str) -> bytes:
    """Without the source's metadata: a copied orientation would rotate it a second time."""
    buffer = io.BytesIO()
    if format_ == "JPEG":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, exif=b"")
    else:
        rgb = image if image.mode in ("L", "RGB") else image.convert("RGB")
        rgb.save(buffer, "PNG", exif=b"")
    return buffer.getvalue()
