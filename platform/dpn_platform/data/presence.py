"""Are a split's shards there, in the size its manifest says? One listing, before work starts; `verify` reads them."""

from __future__ import annotations

from dpn_platform.config.errors import DpnError
from dpn_platform.data.manifest import Manifest
from dpn_platform.storage import list_sizes


def require_shards(manifest: Manifest, split: str) -> None:
    """Raise where a run would otherwise stop in the middle.

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
