"""The services that one command needs, for as long as it runs."""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpn_platform.services.connection import connect, external_services
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home
from dpn_platform.services.servers import with_dependencies
from dpn_platform.services.supervisor import Progress, down, up

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def session(
    needs: Collection[str], *, home: Path | str | None = None, on_progress: Progress | None = None
) -> Iterator[Endpoints]:
    """Connects to what is needed: the user's own where the environment names it, else embedded services.

    Those that do not run are started, and end with the last command that uses them, unless `dpn up` has kept them.

    Args:
        needs: names of services ("s3", "mlflow", "ray"); what else runs is connected too.
        home: the state folder of the embedded services.
        on_progress: told of every step of starts and stops.

    Raises:
        DpnError: as `connect` and `up`.
    """
    wanted = with_dependencies(set(needs) - external_services())
    if not wanted:
        yield connect(home, needs=needs)
        return
    place = Home.resolve(home)
    place.prepare()
    with open(place.path / "users", "a") as users:  # the kernel forgets who held it, however that process ends
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            up(place.path, on_progress, names=wanted, is_temporary=True)
            yield connect(place.path, needs=needs)
        finally:
            with _undisturbed():
                if "ray" in sys.modules:
                    sys.modules["ray"].shutdown()
                if _is_last(users.fileno()):
                    down(place.path, on_progress, only_temporary=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """People press Ctrl-C again when the end takes seconds; what is half stopped then would stay for good."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _is_last(users: int) -> bool:
    """Whether no other command holds the file; if so nobody can until this process lets go of it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
