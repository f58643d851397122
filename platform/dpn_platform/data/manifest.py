"""The manifest: what a published data set is. It is written last and in one step; readers trust nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from dpn_platform.config.errors import DpnError
from dpn_platform.data.schema import SCHEMA_VERSION
from dpn_platform.storage import MissingObjectError, create_bytes, join_uri, open_uri, read_json, write_bytes

FILE_NAME = "manifest.json"
VERSIONS_FOLDER = "manifests"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Record):
    """One Parquet file. Its rows have the ids `first_row_id` ... `first_row_id + rows - 1`, in file order."""

    path: str
    rows: int
    first_row_id: int
    bytes: int
    sha256: str
    content_sha256: str


class Split(_Record):
    """One split: its shards and what is in them."""

    rows: int
    images: int
    text_only: int
    sources: dict[str, int]
    shards: tuple[Shard, ...]

    @property
    def row_id_span(self) -> int:
        """All row ids are below this (ids of quarantined rows are left unused, so it may exceed `rows`)."""
        return max((shard.first_row_id + shard.rows for shard in self.shards), default=0)

    @property
    def bytes(self) -> int:
        """Size of the shards."""
        return sum(shard.bytes for shard in self.shards)


class Quarantine(_Record):
    """Rows that were refused: how many, why, and the JSON-lines table that holds each of them."""

    rows: int = 0
    reasons: dict[str, int] = {}
    path: str | None = None


class Manifest(_Record):
    """A published data set.

    `fingerprint` covers the schema version and the content of all shards, nothing else: the same rows give
    the same fingerprint wherever they are stored. `recipe` says how the source was made, if that is known.
    """

    schema_version: int
    name: str
    source: str
    recipe: dict[str, Any] | None = None
    splits: dict[str, Split]
    quarantine: Quarantine
    fingerprint: str
    _root: str = PrivateAttr(default="")

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            DpnError: there is none; the message lists those there are.
        """
        if name not in self.splits:
            raise DpnError(f"data set {self.name} has no split '{name}'; it has: {', '.join(sorted(self.splits))}")
        return self.splits[name]

    @property
    def root(self) -> str:
        """URI of the folder that shard paths are relative to; known once published or loaded."""
        return self._root

    def shard_uri(self, shard: Shard) -> str:
        """Where that shard lies."""
        return join_uri(self._root, shard.path)

    def at(self, root: str) -> Manifest:
        """The same manifest, for the copy of the data set in `root`."""
        copy = self.model_copy()
        copy._root = open_uri(root).uri
        return copy

    def to_bytes(self) -> bytes:
        """Indented JSON with sorted keys: equal manifests give equal bytes."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def fingerprint_of(splits: dict[str, Split]) -> str:
    """16 hex characters over the schema version and every split's shard contents, in order."""
    contents = {name: [shard.content_sha256 for shard in split.shards] for name, split in sorted(splits.items())}
    canonical = json.dumps({"schema_version": SCHEMA_VERSION, "splits": contents}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def sum_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Adds up counters, keys sorted."""
    total: dict[str, int] = {}
    for count in counts:
        for key, value in count.items():
            total[key] = total.get(key, 0) + value
    return dict(sorted(total.items()))


def load_manifest(uri: str) -> Manifest:
    """Reads the manifest of a published data set.

    Args:
        uri: the data set's folder, its `manifest.json`, or one version `manifests/<fingerprint>.json`.

    Raises:
        DpnError: nothing is published there, or it cannot be read by this version.
    """
    address = uri if uri.endswith(".json") else join_uri(uri, FILE_NAME)
    try:
        content = read_json(address)
    except MissingObjectError as error:
        raise DpnError(f"no data set is published at {uri} (no {FILE_NAME}); `dpn data ingest` makes one") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise DpnError(f"{address}: schema_version {version}; this version reads {SCHEMA_VERSION}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise DpnError(f"{address}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    folder = open_uri(address).uri.rpartition("/")[0]
    return manifest.at(folder.removesuffix(f"/{VERSIONS_FOLDER}"))


def publish_manifest(uri: str, manifest: Manifest, *, force: bool = False) -> Manifest:
    """Makes a data set visible. Its shards must be in place.

    Shards are named by content and every version keeps `manifests/<fingerprint>.json`, so replacing the
    current one (`force`) leaves older versions readable.

    Raises:
        DpnError: another data set is published there and `force` is not given.
    """
    data = manifest.to_bytes()
    create_bytes(join_uri(uri, VERSIONS_FOLDER, f"{manifest.fingerprint}.json"), data)
    if not create_bytes(join_uri(uri, FILE_NAME), data):
        current = load_manifest(uri)
        if current.fingerprint != manifest.fingerprint and not force:
            raise DpnError(
                f"{uri} holds another data set (fingerprint {current.fingerprint}, new {manifest.fingerprint}); "
                "choose another destination or use --force"
            )
        if current.fingerprint != manifest.fingerprint:
            write_bytes(join_uri(uri, FILE_NAME), data)
    return manifest.at(uri)
