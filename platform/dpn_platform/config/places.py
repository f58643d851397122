"""Where this user's things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "DPN_HOME"
DEFAULT_HOME = "~/.dpn"


def state_folder(given: Path | str | None = None) -> Path:
    """The state folder asked for, else `DPN_HOME`, else `~/.dpn`: one per user, whatever the working folder."""
    return Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute()
