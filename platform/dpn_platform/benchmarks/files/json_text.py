"""JSON from any program: what Python's parser would let through or choke on is settled here."""

from __future__ import annotations

import json
import re
from typing import Any

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """The document. Half of a surrogate pair is no character: it becomes U+FFFD, as wherever such a text is decoded.

    Raises:
        ValueError: no JSON, or nested too deeply.
    """
    try:
        document = json.loads(text)
        if _ESCAPED_SURROGATE.search(text) is None:
            return document
        units = json.dumps(document, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        return json.loads(units.decode("utf-16-le", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
