"""What is asked of a split before work starts: that its shards are there, and its rows of the form a run reads."""

from __future__ import annotations

import pyarrow.compute as pc

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_split_columns
from dpn_platform.storage import list_sizes


def require_shards(manifest: Manifest, split: str) -> None:
    """Raise where a run would otherwise stop in the middle. One listing; `verify` reads what is in the shards.

    Raises:
        DpnError: no such split, or shards of it are missing or of another size.
    """
    shards = {manifest.shard_uri(shard): shard.bytes for shard in manifest.split(split).shards}
    found: dict[str, int] = {}
    for folder in {uri.rpartition("/")[0] for uri in shards}:
        found |= list_sizes(folder, recursive=False)
    wrong = [uri for uri, size in shards.items() if found.get(uri) != size]
    if not wrong:
        return
    first, size = wrong[0], found.get(wrong[0])
    what = "is missing" if size is None else f"has {size} bytes, published were {shards[first]}"
    count = f"{len(wrong)} of {len(shards)} shards of the split '{split}' are not as published"
    raise DpnError(f"{first}: the manifest names this shard, but it {what} ({count}); see `dpn data verify`")


def require_captions(manifest: Manifest, split: str) -> None:
    """Stage 1 reads pictures with one turn each, its caption. Reads two small columns.

    Raises:
        DpnError: rows without a picture, or with several turns.
    """
    is_other = ~pc.field("has_image") | (pc.field("num_turns") != 1)
    tables = read_split_columns(manifest, split, ("row_id", "has_image", "num_turns"))
    other = [row for table in tables for row in table.filter(is_other).to_pylist()]
    if other:
        rows, first = manifest.split(split).rows, other[0]
        has = f"{first['num_turns']} turns" if first["has_image"] else "no picture"
        raise DpnError(
            f"model.template plain reads pictures with one caption each, but {len(other)} of {rows} rows of the split "
            f"'{split}' of {manifest.root} are of another form (row {first['row_id']}: {has}); leave the template out, "
            "or set data.uri to a set of captions"
        )
