"""Trying again: whole operations, with growing pauses, when the store is busy or the network breaks.

The S3 clients repeat single requests (`uri.MAX_ATTEMPTS`); this repeats what they give up on, and what they do not
notice. Only operations that can be repeated without harm are given to it.

A command that a person waits for gives up soon: the address may be mistyped. A process that has worked with the store
before (a training worker, its readers) has patience: `DPN_STORAGE_PATIENCE_S` seconds, also with a store that is away.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from dpn_platform.storage.errors import explained, is_transient, is_unreachable
from dpn_platform.storage.uri import Location

ATTEMPTS = 4
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
PATIENCE_VARIABLE = "DPN_STORAGE_PATIENCE_S"

Result = TypeVar("Result")


def with_retries(action: str, location: Location, operation: Callable[[], Result]) -> Result:
    """Runs an operation on a place in storage.

    Args:
        action: what it does, for the message: "read", "write".
        location: where.
        operation: may be run several times.

    Raises:
        MissingObjectError: nothing is there.
        DpnError: refused, or not reached after all attempts and the patience; one line with the URI.
    """
    patience_s = float(os.environ.get(PATIENCE_VARIABLE) or 0)
    began = time.monotonic()
    with explained(action, location):
        attempt = 0
        while True:
            try:
                return operation()
            except (OSError, BotoCoreError, ClientError) as error:
                attempt += 1
                may_pass = is_transient(error) or (patience_s > 0 and is_unreachable(error))
                is_over = attempt >= ATTEMPTS and time.monotonic() - began >= patience_s
                if location.is_local or not may_pass or is_over:
                    raise
            # Jitter: workers that met the same trouble do not come back at the same moment.
            time.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5))
