"""Why is this picture not there? Looks for the same name with another ending, as scripts that re-encode leave it."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, join_uri

#: as the file systems of the sets' authors wrote them, the frequent ones first
_ENDINGS = ("jpg", "png", "jpeg", "JPG", "gif", "webp", "PNG", "JPEG", "GIF", "bmp", "tif", "tiff")


def near_name(path: str, image_roots: Sequence[str]) -> str | None:
    """A path that exists under an image root and differs from the one given in its ending alone; None without one."""
    stem, dot, ending = path.rpartition(".")
    if not dot or "/" in ending:
        stem, ending = path, ""
    others = [f"{stem}.{other}" for other in _ENDINGS if other != ending]
    return next((other for other in others for root in image_roots if _is_there(join_uri(root, other))), None)


def _is_there(uri: str) -> bool:
    try:
        return exists(uri)
    except DpnError:
        return False  # a hint is not worth an ingest
