"""The manifest: what a published data set is. It is written last and in one step; readers trust nothing else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import (
    MissingObjectError,
    create_bytes,
    exists,
    join_uri,
    open_uri,
    read_json,
    require_bucket,
    write_bytes,
)

FILE_NAME = "manifest.json"
VERSIONS_FOLDER, SHARDS_FOLDER = "manifests", "shards"


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


class Annotations(_Record):
    """One annotation file, and how many records the split has of it: `source_row` counts these, file after file."""

    uri: str
    rows: int


class Split(_Record):
    """One split: its shards and what is in them.

    `images` counts rows with pictures, `objects` those with boxes, `repairs` and `kept` rows by kind of defect
    (`policy.KINDS`), the token counts are sums of the columns of those names, `unknown` those of `UnknownWords`.
    """

    rows: int
    images: int
    text_only: int
    objects: int = 0
    sources: dict[str, int]
    repairs: dict[str, int] = {}
    kept: dict[str, int] = {}
    prompt_tokens: int = 0
    answer_tokens: int = 0
    expected_cost: int = 0
    unknown: dict[str, int] = {}
    annotations: tuple[Annotations, ...] = ()
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


class Tokens(_Record):
    """How tokens were counted: the rule in words, the tokenizer's file in this data set if there is one."""

    rule: str = ""
    tokenizer: str | None = None
    visual_tokens_per_image: int = 0


class Manifest(_Record):
    """A published data set.

    `fingerprint` covers the schema version and the content of all shards, nothing else: the same rows give
    the same fingerprint wherever they are stored. `recipe` says how the source was made, if that is known;
    `policy` what was done about defects where that differs from the default; `proposals` which detector boxes were
    added with, and to which version, where some were.
    """

    schema_version: int
    name: str
    source: str
    recipe: dict[str, Any] | None = None
    splits: dict[str, Split]
    quarantine: Quarantine
    policy: dict[str, str] = {}
    tokens: Tokens = Tokens()
    proposals: dict[str, Any] | None = None
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
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)  # keeps zeros, which a sum of counters drops
    return dict(sorted(total.items()))


def load_manifest(uri: str) -> Manifest:
    """Reads the manifest of a published data set.

    Args:
        uri: the data set's folder, its `manifest.json`, or one version `manifests/<fingerprint>.json`.

    Raises:
        DpnError: nothing is published there, only half of a data set is, or it cannot be read by this version.
    """
    address = uri if uri.endswith(".json") else join_uri(uri, FILE_NAME)
    try:
        content = read_json(address)
    except MissingObjectError as error:
        raise DpnError(_why_missing(uri)) from error
    version = _field(content, "schema_version")
    if version != SCHEMA_VERSION:
        raise DpnError(
            f"{address}: schema_version {version}; this version reads {SCHEMA_VERSION}. "
            f"Make it again from its raw files: {_how_again(content, uri)}"
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise DpnError(f"{address}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return manifest.at(open_uri(address).uri.rpartition("/")[0].removesuffix(f"/{VERSIONS_FOLDER}"))


def published_recipe(uri: str) -> tuple[int | None, Any] | None:
    """(schema version, recipe) of what is published in a folder, of any schema version; None when nothing is."""
    try:
        content = read_json(join_uri(uri, FILE_NAME))
    except MissingObjectError:
        return None
    return _field(content, "schema_version"), _field(content, "recipe")


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
        current = _current_fingerprint(uri, force)
        if current != manifest.fingerprint and not force:
            raise DpnError(
                f"{uri} holds another data set (fingerprint {current}, new {manifest.fingerprint}); "
                "choose another destination or use --force; what is built is kept"
            )
        if current != manifest.fingerprint:
            write_bytes(join_uri(uri, FILE_NAME), data)
    return manifest.at(uri)


def _current_fingerprint(uri: str, force: bool) -> Any:
    """Of the set that is published there; None where it cannot be told and is to be replaced anyhow."""
    try:
        return _field(read_json(join_uri(uri, FILE_NAME)), "fingerprint")
    except DpnError:
        if not force:
            raise
    return None


def _field(content: Any, name: str) -> Any:
    return content.get(name) if isinstance(content, dict) else None


def _how_again(content: Any, uri: str) -> str:
    if _field(_field(content, "recipe"), "kind") == "demo":
        return f"`dpn data make-demo {uri}`"
    return f"`dpn data ingest {_field(content, 'source') or 'SOURCE'} {uri} --force`"


def _why_missing(uri: str) -> str:
    require_bucket(uri)
    if not uri.endswith(".json") and exists(join_uri(uri, SHARDS_FOLDER)):
        return (
            f"{uri} holds shards but no {FILE_NAME}: an ingest was interrupted, or refused to publish. "
            "Run the same `dpn data ingest` (or `propose`) again: it continues where it stopped"
        )
    return f"no data set is published at {uri} (no {FILE_NAME}); `dpn data ingest` makes one"
