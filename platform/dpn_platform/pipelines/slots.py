"""The record of a pipeline's slots in storage: what each has done, so that it is done once.

<runs>/pipelines/<name>/slots/<slot>.json    its stages, each written when it has ended
<runs>/pipelines/<name>/lease/               who runs one now
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import MissingObjectError, join_uri, list_files, read_json, write_json

_SLOT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:+-]*")
#: missed slots that are named one by one
_MOST_NAMED = 5


@dataclass(frozen=True)
class Slot:
    """One slot of a schedule.

    Attributes:
        name: as it was given; a date or a time tells when it was due.
        started, ended: ISO times in UTC; `ended` is empty until every stage is done.
        stages: name -> what it came to, and when it ended; in that order.
        remarks: late, missed slots before it.
    """

    name: str
    started: str
    ended: str = ""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


class Slots:
    """A pipeline's slots."""

    def __init__(self, runs_uri: str, pipeline: str) -> None:
        self.uri = join_uri(runs_uri, "pipelines", pipeline)

    def open(self, name: str, every: timedelta, now: datetime | None = None) -> Slot:
        """The slot as it stands; a new one says whether it is late and what was missed before it.

        Raises:
            DpnError: not a slot's name.
        """
        if not _SLOT.fullmatch(name):
            raise DpnError(f"slot '{name}': letters, digits and ._:+- are allowed, such as 2026-11-25")
        now = now or datetime.now(UTC)
        try:
            return self._read(self._uri(name))
        except MissingObjectError:
            slot = Slot(name, now.isoformat(timespec="seconds"), remarks=tuple(self._remarks(name, every, now)))
            self.put(slot)
            return slot

    def put(self, slot: Slot) -> None:
        """Write a slot as it stands."""
        write_json(self._uri(slot.name), asdict(slot))

    def all(self) -> list[Slot]:
        """By name, which for dates is their order."""
        return [self._read(uri) for uri in list_files(f"{self.uri}/slots", ".json")]

    def done_once(self, slot: Slot, stage: str, work: Callable[[], dict[str, Any]]) -> Slot:
        """The slot with the stage done: now, or by an earlier attempt."""
        if stage in slot.stages:
            return slot
        came_to = work()
        slot = replace(slot, stages={**slot.stages, stage: {**came_to, "ended": datetime.now(UTC).isoformat()}})
        self.put(slot)
        return slot

    def _remarks(self, name: str, every: timedelta, now: datetime) -> list[str]:
        due = due_of(name)
        if due is None:
            return []
        remarks = [f"late: due {due:%Y-%m-%d %H:%M}, started {now:%Y-%m-%d %H:%M}"] if now - due > every else []
        earlier = [one for one in (due_of(slot.name) for slot in self.all()) if one is not None and one < due]
        missed = []
        if earlier:
            expected = max(earlier) + every
            while expected < due - every / 2:
                missed.append(f"{expected:%Y-%m-%d}" if every >= timedelta(days=1) else f"{expected:%Y-%m-%d %H:%M}")
                expected += every
        if missed:
            more = f" and {len(missed) - _MOST_NAMED} more" if len(missed) > _MOST_NAMED else ""
            remarks.append(f"missed: {', '.join(missed[:_MOST_NAMED])}{more}")
        return remarks

    def _uri(self, name: str) -> str:
        return f"{self.uri}/slots/{name.replace(':', '-')}.json"

    @staticmethod
    def _read(uri: str) -> Slot:
        document = read_json(uri)
        try:
            stages = dict(sorted(document["stages"].items(), key=lambda item: item[1]["ended"]))
            return Slot(**{**document, "stages": stages, "remarks": tuple(document["remarks"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise DpnError(f"{uri}: not a slot of this version: {error}") from None


def due_of(name: str) -> datetime | None:
    """When a slot named by a date or an ISO time was due, in UTC; None for another name."""
    try:
        due = datetime.fromisoformat(name)
    except ValueError:
        return None
    return due if due.tzinfo else due.replace(tzinfo=UTC)
