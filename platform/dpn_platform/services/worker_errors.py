"""What Ray's workers raise, as one line: Ray wraps it in pages of tracebacks; the first exception is the cause."""

from __future__ import annotations

import os
import re
import time
import traceback
from contextlib import suppress
from pathlib import Path

from dpn_platform.config.errors import FAULTS_OF_CODE, DpnError
from dpn_platform.services.home import Home, write_private

_RAISED = re.compile(r"^(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Timeout)): ?(.*)$", re.MULTILINE)
_LONGEST_LINE = 600


def is_from_ray(error: BaseException) -> bool:
    """Whether Ray raised it: for a worker, or for itself."""
    return any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)


def essence(error: BaseException) -> str:
    """One line: a message of ours as it is, anything else with the name of its class."""
    name, message = type(error).__name__, str(error)
    if is_from_ray(error) and (found := _RAISED.search(message)):
        name, message = found.groups()
    line = " ".join(message.split())[:_LONGEST_LINE]
    return line if isinstance(error, DpnError) or name == DpnError.__name__ else f"{name}: {line}"


def is_fault_of_code(error: BaseException) -> bool:
    """Whether it is no run's own: another attempt, or another trial, would meet it again."""
    if isinstance(error, FAULTS_OF_CODE):
        return True
    names = {kind.__name__ for fault in FAULTS_OF_CODE for kind in (fault, *fault.__subclasses__())}
    return re.search(rf"\b({'|'.join(sorted(names))}): ", essence(error)) is not None


def keep_trace(error: BaseException) -> Path | None:
    """Write the whole trace beside the services' logs; None where that is not possible."""
    file = Home.resolve().logs / f"trace-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    with suppress(OSError):
        write_private(file, "".join(traceback.format_exception(error)))
        return file
    return None
