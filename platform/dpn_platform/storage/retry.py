"""Trying again: whole operations, with growing pauses, when the store is busy or the network breaks.

The S3 clients repeat single requests (`uri.MAX_ATTEMPTS`); this repeats what they give up on, and what they do not
notice. Only operations that can be repeated without harm are given to it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from dpn_platform.storage.errors import explained, is_transient
from dpn_platform.storage.uri import Location

ATTEMPTS = 4
FIRST_PAUSE_S = 0.2

Result = TypeVar("Result")


def with_retries(action: str, location: Location, operation: Callable[[], Result]) -> Result:
    """Runs an operation on a place in storage.

    Args:
        action: what it does, for the message: "read", "write".
        location: where.
        operation: may be run several times.

    Raises:
        MissingObjectError: nothing is there.
        DpnError: refused, or not reached after all attempts; one line with the URI.
    """
    with explained(action, location):
        for attempt in range(1, ATTEMPTS):
            try:
                return operation()
            except (OSError, BotoCoreError, ClientError) as error:
                if location.is_local or not is_transient(error):
                    raise
            # Jitter: workers that met the same trouble do not come back at the same moment.
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        return operation()
