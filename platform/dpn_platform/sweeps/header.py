"""What a study is, as one object says it; and what its config may differ in and still be the same study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dpn_platform.storage import DamagedObjectError, read_json
from dpn_platform.training.run_folder import NOT_THE_RUN

SCHEMA_VERSION = 1
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
#: what changes nothing of what comes out
HOW_IT_IS_RUN = (*(key for key in NOT_THE_RUN if key not in ("eval", "sweep")), "eval.batch_size", "eval.num_actors")
#: what may change when a study is continued: how it is run, and how far it goes
NOT_THE_STUDY = (
    *HOW_IT_IS_RUN,
    "sweep.limits",
    "sweep.max_concurrent_trials",
    "sweep.num_trials",
    "sweep.reuse",
)
#: what an extension may change beside these: what is tried, and what is asked; its trials stay comparable
EXTENDABLE = (*NOT_THE_STUDY, "sweep", "method", "eval")
#: where a study is kept and what its recipe is called change nothing of it
NOT_TOLD = ("name", "storage", "tracking")


@dataclass(frozen=True)
class Header:
    """What a study is.

    Attributes:
        config: the resolved YAML it goes on with.
        created: ISO time in UTC.
        data_fingerprint: of the data set; empty in studies of earlier versions.
        extensions: what was added to it since, the first first: `{number, created, changes, config_fingerprint,
            planned_hours, hours_before}` and once it has ended `{duration_s, device_hours}`.
        archived: since when it is put away, ISO time in UTC; None: it is not.
        num_failed: trials that had failed when its driver came to its end: all else is done, a resume tries them again.
    """

    name: str
    config_name: str
    config: str
    fingerprint: str
    created: str
    state: Literal["running", "finished"] = "running"
    duration_s: float = 0.0
    extensions: tuple[dict[str, Any], ...] = ()
    data_fingerprint: str = ""
    archived: str | None = None
    num_failed: int = 0
    schema_version: int = SCHEMA_VERSION


def header_at(uri: str) -> Header:
    """The header in an object.

    Raises:
        MissingObjectError: nothing is there.
        DamagedObjectError: not a header of this version.
    """
    return parse_header(read_json(uri), uri)


def parse_header(document: Any, source: str) -> Header:
    """The header in a document; `source` is named in messages.

    Raises:
        DamagedObjectError: not a header of this version.
    """
    if not isinstance(document, Mapping):
        raise DamagedObjectError(f"{source}: not the header of a study, expected an object")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise DamagedObjectError(
            f"{source}: schema_version {document.get('schema_version')}, this version reads {SCHEMA_VERSION}"
        )
    try:
        return Header(**{**document, "extensions": tuple(document.get("extensions", ()))})
    except TypeError as error:
        raise DamagedObjectError(f"{source}: not the header of a study of this version: {error}") from None


def is_among(change: str, keys: Sequence[str]) -> bool:
    """Whether a line of `difference` is about one of these keys or sections."""
    key = change.partition(":")[0]
    return any(key == name or key.startswith(f"{name}.") for name in keys)
