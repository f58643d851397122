"""The state folder of the embedded services: where their data, logs, secrets and records lie."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.config.places import state_folder

# Unix sockets allow 107 characters; Ray takes "/ray/session_<date>_<time>_<us>_<pid>/sockets/dash_MetricsHead".
_LONGEST_RUNTIME_FOLDER = 34
_LOCK_POLL_S = 0.2


@dataclass(frozen=True)
class Home:
    """One state folder. Two of them never share a port, a process or a file."""

    path: Path

    @staticmethod
    def resolve(home: Path | str | None = None) -> Home:
        """The folder asked for, else `DPN_HOME`, else `~/.dpn`; nothing is made yet."""
        return Home(state_folder(home))

    @property
    def logs(self) -> Path:
        """Folder of the services' logs; they survive `down`."""
        return self.path / "logs"

    @property
    def runtime(self) -> Path:
        """Folder for unix sockets and Ray's session: inside the home where its path is short enough."""
        inside = self.path / "run"
        if len(os.fsencode(inside)) <= _LONGEST_RUNTIME_FOLDER:
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:10]
        root = tempfile.gettempdir()
        return Path(root if len(root) <= 16 else "/tmp") / f"dpn-{digest}"

    @property
    def ray_sessions(self) -> Path:
        """Ray's own folder: Ray opens it to everybody, so it must lie inside one that is closed."""
        return self.runtime / "ray"

    @property
    def s3_config(self) -> Path:
        """SeaweedFS's own file of identities: with `env_file` the one place where the S3 credentials lie."""
        return self.path / "s3.json"

    @property
    def ray_token(self) -> Path:
        """Ray's token file."""
        return self.path / "ray.token"

    @property
    def secrets(self) -> tuple[Path, ...]:
        """The files nobody else may read: S3's identities, Ray's token, the clients' environment."""
        return self.s3_config, self.ray_token, self.env_file

    @property
    def env_file(self) -> Path:
        """The clients' environment, for `source`; there while the services are up."""
        return self.path / "env.sh"

    def log(self, service: str) -> Path:
        """The log file of one service."""
        return self.logs / f"{service}.log"

    def prepare(self) -> None:
        """Makes the folders, readable by nobody else.

        Raises:
            DpnError: a folder cannot be made, or the short one in the temporary folder belongs to someone else.
        """
        for folder in (self.path, self.logs, self.runtime):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if folder.lstat().st_uid != os.getuid():
                    raise DpnError(f"{folder}: belongs to another user; choose another state folder with DPN_HOME")
                folder.chmod(0o700)
            except OSError as error:
                raise DpnError(f"{folder}: cannot make the services' state folder ({error.strerror})") from error
        ignore = self.path / ".gitignore"
        if not ignore.exists():  # secrets live here: no repository may ever pick them up
            ignore.write_text("*\n")

    @contextmanager
    def locked(self, on_wait: Callable[[], None] | None = None, timeout_s: float = 600.0) -> Iterator[None]:
        """Holds the home's lock: of two concurrent `up`/`down` one waits for the other.

        Raises:
            DpnError: the other one holds it longer than `timeout_s`.
        """
        with open(self.path / "lock", "a") as handle:
            deadline = time.monotonic() + timeout_s
            waiting = False
            while not _try_lock(handle.fileno()):
                if not waiting and on_wait is not None:
                    on_wait()
                waiting = True
                if time.monotonic() > deadline:
                    raise DpnError(
                        f"{self.path}: another `dpn up` or `dpn down` has held the lock for {timeout_s:.0f} s"
                    )
                time.sleep(_LOCK_POLL_S)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read (0600), in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    os.replace(temporary, path)


def record_path(home: Home, service: str) -> Path:
    """The file that remembers a service's process."""
    return home.path / f"{service}.process.json"


def read_json_file(path: Path) -> Any | None:
    """The parsed file, or None when it is absent or was cut short."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
