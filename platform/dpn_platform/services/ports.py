"""Free loopback ports, kept from start to start so that addresses (a bookmarked MLflow UI) stay valid."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes a port between our
# choice and the server's bind; above the ports Ray and well-known servers use by default.
_FIRST, _LAST = 20000, 32700


def is_free(port: int) -> bool:
    """Whether a server could bind the port on loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT does not stop a server either
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_ports(names: Iterable[str], preferred: Mapping[str, int], taken: Iterable[int] = ()) -> dict[str, int]:
    """Gives every name a port of its own.

    Args:
        names: what needs a port.
        preferred: earlier choices, kept where they are still free.
        taken: ports that must not be given although they may look free (running services of this home).
    """
    used = set(taken)
    chosen: dict[str, int] = {}
    candidate = _FIRST + secrets.randbelow(_LAST - _FIRST)
    for name in names:
        port = preferred.get(name)
        while port is None or port in used or not is_free(port):
            candidate = candidate + 1 if candidate < _LAST else _FIRST
            port = candidate
        used.add(port)
        chosen[name] = port
    return chosen
