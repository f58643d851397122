"""Takes credentials out of text that is about to be kept: dumps, manifests, notes."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
# Whole words only: `max_new_tokens=4` is no secret.
_SECRET_ARGUMENT = re.compile(
    r"(?i)([\w.-]*(?<![a-z])(?:secret|token|password|passwd|api[_-]?key|access[_-]?key)(?![a-z])[\w.-]*=)\S+"
)


def without_credentials(text: str) -> str:
    """`text` with `user:password@` of URLs and the values of `...secret=`, `...token=` and the like masked."""
    return _SECRET_ARGUMENT.sub(r"\1***", _USERINFO.sub("***@", text))
