"""The base64 of a picture in a table, in the forms that programs write."""

from __future__ import annotations

import base64
import re

_DATA_URI = re.compile(r"data:(?P<kind>[^,]*),", re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")


def decoded(text: str) -> bytes:
    """The bytes; line ends and blanks go, the end may lack its `=`, and the URL-safe letters count.

    Raises:
        ValueError: another form; the words go on a sentence that names the picture.
    """
    uri = _DATA_URI.match(text.lstrip())
    if uri and not uri["kind"].lower().endswith(";base64"):
        raise ValueError(f"is a data URI without base64 ('{uri[0][:40]}')")
    plain = "".join(text.lstrip()[uri.end() if uri else 0 :].split()).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ValueError(f"is not base64 (it begins with '{text[:20]}')") from None
