"""A slot does each of its stages once, and says what came late or not at all."""

from datetime import UTC, datetime, timedelta

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.pipelines.slots import Slots

DAY = timedelta(days=1)


@pytest.fixture
def slots(tmp_path):
    return Slots(str(tmp_path / "runs"), "nightly")


def at(day, hour=2):
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_a_stage_is_done_once_whatever_happens_in_the_next(slots):
    calls = []

    def work():
        calls.append(1)
        return {"found": len(calls)}

    slot = slots.done_once(slots.open("2026-11-25", DAY, at(25)), "refresh", work)
    with pytest.raises(RuntimeError):
        slots.done_once(slot, "extend", lambda: (_ for _ in ()).throw(RuntimeError("killed")))
    again = slots.done_once(slots.open("2026-11-25", DAY, at(26)), "refresh", work)
    assert again.stages["refresh"]["found"] == 1
    assert again.started.startswith("2026-11-25")
    assert calls == [1]


def test_late_and_missed_slots_are_said(slots):
    assert slots.open("2026-11-20", DAY, at(20)).remarks == ()
    assert slots.open("2026-11-21", DAY, at(21, 23)).remarks == ()
    late, missed = slots.open("2026-11-24", DAY, at(26)).remarks
    assert late == "late: due 2026-11-24 00:00, started 2026-11-26 02:00"
    assert missed == "missed: 2026-11-22, 2026-11-23"
    [many] = slots.open("2026-12-24", DAY, datetime(2026, 12, 24, 1, tzinfo=UTC)).remarks
    assert many.endswith("and 24 more")
    assert slots.open("run-7", DAY, at(26)).remarks == (), "a name says nothing of when it was due"
    hours = Slots(slots.uri, "hourly")
    hours.open("2026-11-25T01:00", timedelta(hours=1), at(25, 1))
    [missed] = hours.open("2026-11-25T03:00", timedelta(hours=1), at(25, 3)).remarks
    assert missed == "missed: 2026-11-25 02:00"


@pytest.mark.parametrize("name", ["", "../up", "a b", "/x"])
def test_a_name_that_is_none(slots, name):
    with pytest.raises(DpnError, match="such as 2026-11-25"):
        slots.open(name, DAY)
