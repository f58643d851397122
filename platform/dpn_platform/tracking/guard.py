"""Keeps credentials out of what is tracked: values of secret environment variables, secret-looking keys, URLs' users.

Text is masked, because losing a run's log over it would help nobody; a file that holds a credential is refused,
because it cannot be masked without being changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dpn_platform.config.errors import DpnError

MASK = "***"
_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_.\-/])(?:secret|token|password|passwd|credentials?|api_?key|private_?key|access_?key(?:_?id)?)(?:$|[_.\-/])"
)
_NOT_A_VALUE = re.compile(r"(?i)[_.\-/](?:path|file|mode|uri|url|dir)$")
_URL_USER = re.compile(r"(?<=://)[^/\s@'\"<>]+@")
# Shorter values ("1", "root") are no secrets worth the name and occur in innocent text.
_SHORTEST_SECRET = 6
_CHUNK_BYTES = 1 << 20


def is_secret_name(name: str) -> bool:
    """Whether a variable or parameter of this name holds a credential (`AWS_SECRET_ACCESS_KEY`, `s3.api_key`)."""
    return bool(_SECRET_NAME.search(name)) and not _NOT_A_VALUE.search(name)


class Guard:
    """Masks the credentials that are known when it is made."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Args: environment: default `os.environ`, read now."""
        environment = os.environ if environment is None else environment
        secrets = {value for name, value in environment.items() if is_secret_name(name)}
        # Longest first: a secret may contain another one.
        self._secrets = sorted((value for value in secrets if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` with every credential replaced by `***`."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
            # Inside JSON the same value may be written with escapes.
            text = text.replace(json.dumps(secret)[1:-1], MASK)
        return _URL_USER.sub(MASK + "@", text)

    def values(self, values: Mapping[str, object], limit: int) -> dict[str, str]:
        """Parameters or tags as safe text: masked, secret-looking keys without their value, clipped to `limit`."""
        return {
            key: MASK if is_secret_name(key) else clip(self.text(plain_text(value)), limit)
            for key, value in values.items()
        }

    def check_file(self, path: Path) -> None:
        """Refuse a file, or any file of a folder, that holds a credential.

        Raises:
            DpnError: it does; the message names the file, not the credential.
        """
        for file in sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]:
            if self._holds_secret(file):
                raise DpnError(f"{file}: not logged, it holds a credential from the environment")

    def _holds_secret(self, file: Path) -> bool:
        needles = [secret.encode() for secret in self._secrets]
        if not needles:
            return False
        overlap = max(len(needle) for needle in needles) - 1
        kept = b""
        with file.open("rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                window = kept + chunk
                if any(needle in window for needle in needles):
                    return True
                kept = window[-overlap:] if overlap else b""
        return False


def plain_text(value: object) -> str:
    """A parameter as text: strings as they are, everything else as JSON (tuples as lists)."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, the cut marked with `…`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
