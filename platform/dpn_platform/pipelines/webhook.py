"""Tells a slot's result to a web address, in the form that chat services take; a failure is a remark, never an end."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable

_ATTEMPTS = 4
_FIRST_PAUSE_S = 1.0
_TIMEOUT_S = 10.0
_SERVER_ERRORS = 500


def tell(variable: str | None, text: str, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """POST `{"text": ...}` to the address in an environment variable; retried while the other side is at fault.

    The address is a secret: no message names it.

    Returns:
        Why it was not told; None when it was, or nobody is to be told.
    """
    if variable is None:
        return None
    address = os.environ.get(variable)
    if not address:
        return f"the webhook was not told: {variable} is not set"
    if not address.startswith(("http://", "https://")):
        return f"the webhook was not told: {variable} is no http address"
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    reason = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                return None
        except urllib.error.HTTPError as error:
            reason = f"status {error.code}"
            if error.code < _SERVER_ERRORS:
                break
        except (urllib.error.URLError, OSError) as error:
            reason = str(getattr(error, "reason", error))
    return f"the webhook was not told: {reason}"
