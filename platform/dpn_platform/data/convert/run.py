"""One conversion from beginning to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dpn_platform.data.convert import coco, lvis, refcoco, rexverse
from dpn_platform.data.convert.kinds import used_options
from dpn_platform.data.convert.options import ConvertOptions, Progress
from dpn_platform.data.convert.raw_folder import RawFolder
from dpn_platform.storage import open_uri

#: for each of `kinds.KINDS`: adds the records of a source to a folder
CONVERTERS: dict[str, Callable[[str, RawFolder, ConvertOptions, Progress], None]] = {
    "coco": coco.convert,
    "lvis": lvis.convert,
    "refcoco": refcoco.convert,
    "rexverse": rexverse.convert,
}


def convert(
    kind: str, source: str, dest: str, options: ConvertOptions, on_progress: Progress, *, force: bool = False
) -> dict[str, Any]:
    """Makes a raw set of a source.

    Args:
        kind: of `kinds.KINDS`.
        source, dest: where to read and to write.
        options: how.
        on_progress: see `Progress`.
        force: replace splits that are there.

    Returns:
        What `RawFolder.publish` says.

    Raises:
        DpnError: no such kind, an option that it does not use, a source that is not of it, or the storage refused.
    """
    given = used_options(kind, options)
    with RawFolder(dest, force=force) as folder:
        CONVERTERS[kind](open_uri(source).uri, folder, options, on_progress)
        return folder.publish({"kind": kind, "source": source, "options": given})
