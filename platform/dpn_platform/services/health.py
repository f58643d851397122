"""Asks a loopback server whether it is well."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

_TIMEOUT_S = 4.0
# Never through a proxy of the user's environment: the address is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answer_problem(
    url: str, *, headers: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
) -> str | None:
    """None when the server answers the request with 200, else why it does not, in a few words."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}))
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as response:
            response.read()
        return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"{url} answered {error.code}"
    except (urllib.error.URLError, TimeoutError, HTTPException, OSError) as error:
        return f"{url} does not answer ({getattr(error, 'reason', error)})"
