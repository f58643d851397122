"""The studies in storage: which there are, how each stands, which one is meant."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.reports.study.source import points_of_trials
from dpn_platform.storage import read_json, write_bytes, write_json
from dpn_platform.sweeps.catalogue import find_study, list_studies, read_study
from dpn_platform.sweeps.lease import Holder
from dpn_platform.sweeps.ledger import Ledger, latest_unfinished
from tests.sweeps.written_studies import OPEN, small_trials, write_study


@pytest.fixture
def runs(tmp_path):
    return f"file://{tmp_path}/runs"


def made_at(ledger: Ledger, created: str) -> Ledger:
    write_json(ledger.header_uri, {**read_json(ledger.header_uri), "created": created})
    return ledger


def held(ledger: Ledger, **changes: object) -> None:
    holder = replace(Holder.this_process(), host="elsewhere", **changes)
    write_json(f"{ledger.uri}/lease/000000.json", asdict(holder))


def states(runs: str, **options: object) -> dict[str, str]:
    return {one.name: one.state for one in list_studies(runs, **options)}


def test_states_and_order(runs):
    made_at(write_study(runs, "done"), "2026-01-01T00:00:00+00:00")
    made_at(write_study(runs, "cut", unfinished=OPEN), "2026-01-02T00:00:00+00:00")
    running = made_at(write_study(runs, "runs", unfinished=OPEN), "2026-01-03T00:00:00+00:00")
    silent = made_at(write_study(runs, "silent", unfinished=OPEN), "2026-01-04T00:00:00+00:00")
    made_at(write_study(runs, "away"), "2026-01-05T00:00:00+00:00").archive()
    but_for = made_at(write_study(runs, "but-for", unfinished=OPEN[:1]), "2026-01-06T00:00:00+00:00")
    but_for.finish_but_for(1)
    held(running)
    held(silent, beat=time.time() - 3600)
    expected = {
        "but-for": "finished",
        "away": "archived",
        "silent": "interrupted",
        "runs": "running",
        "cut": "interrupted",
        "done": "finished",
    }
    assert list(states(runs).items()) == list(expected.items()), "the newest first"
    assert list(states(runs, states={"running", "finished"})) == ["but-for", "runs", "done"]
    assert list(states(runs, pattern="*n*")) == ["silent", "runs", "done"]
    assert latest_unfinished(runs, "try") == "but-for", "a resume tries what has failed again"
    but_for.reopen(but_for.config())
    assert states(runs, pattern="but*") == {"but-for": "interrupted"}, "until that comes to its end"


def test_trials_are_read_as_far_as_it_is_asked(runs):
    ledger = write_study(runs, "one", small_trials())
    write_bytes(f"{ledger.uri}/trials/broken.json", b"{")
    (short,), (records,), (long,) = (
        list_studies(runs, **more) for more in ({}, {"with_records": True}, {"long": True})
    )
    assert (short.num_trials, short.is_read, short.faults) == (6, False, ())
    assert (records.num_trials, records.is_read, len(records.trials), len(records.points)) == (6, True, 5, 0)
    assert (long.num_trials, long.is_read, len(long.trials), len(long.points)) == (6, True, 5, 5)
    for found in (records, long):
        assert list(found.damaged) == ["broken"]
        assert found.told == "finished, 1 damaged"
        assert [fault.partition(":")[0] for fault in found.faults] == ["file"]
        assert f"{ledger.uri}/trials/broken.json: not valid JSON" in found.faults[0]


@pytest.mark.parametrize(
    "header",
    [b"{", b"[]", b"{}", b'{"schema_version": 1, "name": "x"}', b'{"schema_version": 99}', b"\xff\xfe"],
)
def test_a_damaged_header_is_named_and_hides_nothing(runs, header):
    write_study(runs, "good")
    write_bytes(f"{runs}/studies/bad.json", header)
    found = {one.name: one for one in list_studies(runs, long=True)}
    assert {name: one.state for name, one in found.items()} == {"good": "finished", "bad": "damaged"}
    assert f"{runs}/studies/bad.json" in found["bad"].faults[0]
    with pytest.raises(DpnError, match=r"studies/bad\.json"):
        read_study(Ledger(runs, "bad"))


@pytest.mark.parametrize(
    ("document", "told"),
    [({"key": "x", "params": {}, "wings": 2}, "not a trial"), ([], "not a trial"), ({"key": "x"}, "not a trial"),
     ({"key": "x", "params": {"method.name": "dpn"}, "state": "finished", "point": {"name": "x"}}, "cannot be read"),
     ({"key": "x", "params": {"method.name": "dpn"}, "state": "finished", "evaluation_uri": "file:///none"}, "missing"),
     ({"key": "x", "params": None}, "not a trial"), ({"key": "x", "params": {}, "state": "flying"}, "not a trial")],
)  # fmt: skip
def test_a_damaged_trial_is_named_and_hides_nothing(runs, document, told):
    ledger = write_study(runs, "one", small_trials())
    write_json(f"{ledger.uri}/trials/x.json", document)
    study = read_study(ledger)
    assert len(study.points) == study.count("finished") == 5
    assert list(study.damaged) == ["x"]
    (fault,) = study.faults
    assert fault.startswith(f"{ledger.uri}/trials/x.json: ")
    assert told in fault


def test_a_damaged_lease_is_a_fault_of_the_study(runs):
    ledger = write_study(runs, "one", unfinished=OPEN)
    write_bytes(f"{ledger.uri}/lease/000000.json", b"[]")
    (found,) = list_studies(runs)
    assert found.state == "interrupted"
    assert "lease/000000.json: not a lease" in found.faults[0]
    assert found.told == "interrupted !"


def test_points_are_those_of_the_ledger_or_else_of_the_evaluations(runs):
    with_points = read_study(write_study(runs, "new", small_trials()))
    without = read_study(write_study(runs, "old", small_trials(), with_points=False))
    assert [point.name for point in with_points.points] == ["dense", "static_2x2", "dpn-00", "dpn-01", "dpn-02"]
    shown = [point.model_dump(exclude={"outcomes_uri", "checkpoint_uri"}) for point in with_points.points]
    assert shown == [point.model_dump(exclude={"outcomes_uri", "checkpoint_uri"}) for point in without.points]
    assert points_of_trials(with_points.ledger.uri) == with_points.points


def test_what_is_meant(runs):
    for name, created in (("demo", "2026-01-01"), ("demo-rivals", "2026-01-02"), ("other", "2026-01-03")):
        made_at(write_study(runs, name), created)
    Ledger(runs, "other").archive()
    for what, name in {
        "demo": "demo",  # whole, although another one begins so
        "demo-r": "demo-rivals",
        "latest": "demo-rivals",
        "oth": "other",
        f"{runs}/studies/demo": "demo",
        f"{runs}/studies/demo.json": "demo",
        f"{runs.removeprefix('file://')}/studies/demo/": "demo",
    }.items():
        assert find_study(runs, what).header_uri == f"{runs}/studies/{name}.json"


def test_what_cannot_be_meant(runs):
    with pytest.raises(DpnError, match="there are no studies in file"):
        find_study(runs, "latest")
    for name in ("demo-a", "demo-b"):
        write_study(runs, name)
    with pytest.raises(DpnError, match="'demo' is the beginning of 2 studies: demo-a, demo-b"):
        find_study(runs, "demo")
    with pytest.raises(DpnError, match=r"no study 'damo-b' in .* \(did you mean 'demo-b'\?\)"):
        find_study(runs, "damo-b")
    with pytest.raises(DpnError, match="no study 'zzz' in .*; `dpn study list` shows"):
        find_study(runs, "zzz")
    with pytest.raises(DpnError, match="there is no study at file"):
        find_study(runs, f"{runs}/studies/none")
    with pytest.raises(DpnError, match="not the address of a study"):
        find_study(runs, "some/folder")
    for name in ("demo-a", "demo-b"):
        Ledger(runs, name).archive()
    with pytest.raises(DpnError, match="all studies in .* are archived"):
        find_study(runs, "latest")
