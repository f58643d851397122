"""The server is away: work goes on, requests wait on disk, everything arrives once and in order."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from requests.exceptions import ConnectionError as RequestsConnectionError

from dpn_platform.tracking import DataInput, Version, View, mlflow_delivery
from dpn_platform.tracking.guard import Guard
from dpn_platform.tracking.mlflow_delivery import is_unreachable
from dpn_platform.tracking.mlflow_tracker import MlflowTracker
from dpn_platform.tracking.spool import Spool

SERVER = "http://127.0.0.1:9"


class FlakyRuns:
    """Takes the place of MlflowModels: records what arrives, or refuses while `is_away`."""

    experiment_id = "7"

    def __init__(self) -> None:
        self.is_away = False
        self.arrived: list[tuple[str, dict[str, Any]]] = []
        self.attempts = 0
        self.refuses: set[str] = set()

    def expect_repeats(self, run_id: str) -> None:
        pass

    def find_run(self, key: str) -> str | None:
        return None

    def find_model(self, run_id: str, name: str) -> str | None:
        logged = [kwargs for verb, kwargs in self.arrived if verb == "log_model"]
        return next((f"m-{name}" for one in logged if (one["run_id"], one["name"]) == (run_id, name)), None)

    def __getattr__(self, verb: str) -> Any:
        def receive(*args: Any, **kwargs: Any) -> str | None:
            self.attempts += 1
            if self.is_away:
                raise RequestsConnectionError("connection refused")
            if verb in self.refuses:
                raise MlflowException("no such run", error_code=5)
            self.arrived.append((verb, kwargs))
            return f"id-{kwargs['key']}" if verb == "start_run" else None

        return receive


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> FlakyRuns:
    flaky = FlakyRuns()
    monkeypatch.setattr(mlflow_delivery, "MlflowModels", lambda experiment, uri: flaky)
    monkeypatch.setattr(mlflow_delivery, "_FIRST_PAUSE_S", 0.0)
    return flaky


@pytest.fixture
def tracker(runs: FlakyRuns, tmp_path: Path) -> MlflowTracker:
    return MlflowTracker("exp", SERVER, spool_folder=tmp_path, guard=Guard({"MY_SECRET": "hush-hush"}))


def test_a_short_hiccup_is_retried_without_a_spool(tracker: MlflowTracker, runs: FlakyRuns, tmp_path: Path) -> None:
    run = tracker.start_run("a", key="a")
    original = runs.__getattr__("log_lines")
    failures = iter([True, True, False])

    def hiccup(**kwargs: Any) -> None:
        if next(failures):
            raise MlflowException("try again", error_code=6) if False else RequestsConnectionError("hiccup")
        original(**kwargs)

    runs.log_lines = hiccup  # type: ignore[attr-defined]
    tracker.log_metrics(run, {"loss": 1.0}, 1)
    assert [verb for verb, _ in runs.arrived] == ["start_run", "log_lines"]
    assert list(tmp_path.iterdir()) == []


def test_an_outage_is_spooled_and_replayed_in_order(
    tracker: MlflowTracker, runs: FlakyRuns, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracker.start_run("a", key="a")
    runs.is_away = True
    with caplog.at_level(logging.WARNING):
        for step in range(50):
            tracker.log_metrics(run, {"loss": float(step)}, step)
        tracker.log_artifact(run, "text hush-hush", "note.txt")
    assert runs.attempts == 1 + mlflow_delivery.ATTEMPTS  # after that, the work is not slowed down
    assert len([record for record in caplog.records if "cannot be reached" in record.message]) == 1
    assert "hush-hush" not in next(tmp_path.iterdir()).read_text()
    runs.is_away = False
    tracker.end_run(run)
    requests = [kwargs["lines"] for verb, kwargs in runs.arrived if verb == "log_lines"]
    assert [[line["step"] for line in lines] for lines in requests] == [list(range(50))]  # in one request
    assert [verb for verb, _ in runs.arrived[-2:]] == ["log_text", "end_run"]
    assert list(tmp_path.iterdir()) == []


def test_replayed_metrics_keep_their_time(tracker: MlflowTracker, runs: FlakyRuns, tmp_path: Path) -> None:
    run = tracker.start_run("a", key="a")
    runs.is_away = True
    tracker.log_metrics(run, {"loss": 1.0}, 1)
    spooled = json.loads(next(tmp_path.iterdir()).read_text())
    runs.is_away = False
    tracker.end_run(run)
    assert runs.arrived[1][1]["lines"] == spooled["lines"]
    assert spooled["lines"][0]["timestamp"] > 1.6e12


def test_a_run_started_during_an_outage_gets_its_id_later(tracker: MlflowTracker, runs: FlakyRuns) -> None:
    runs.is_away = True
    parent = tracker.start_run("study", key="study")
    child = tracker.start_run("trial", key="study/1", parent_id=parent)
    tracker.log_metrics(child, {"loss": 1.0}, 1)
    model = tracker.log_model(child, "step-1", "s3://x", {}, {})
    assert model.startswith("pending:")
    assert tracker.run_url(child) == f"{SERVER}/#/experiments/7"
    runs.is_away = False
    tracker.end_run(child)
    arrived = dict(runs.arrived)
    assert [verb for verb, _ in runs.arrived] == ["start_run", "start_run", "log_lines", "log_model", "end_run"]
    assert arrived["start_run"]["parent_id"] == "id-study"
    assert arrived["log_lines"]["run_id"] == "id-study/1"
    assert tracker.run_url(child).endswith("/runs/id-study/1")


def test_a_waiting_request_that_is_refused_does_not_block_the_rest(
    tracker: MlflowTracker, runs: FlakyRuns, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracker.start_run("a", key="a")
    runs.is_away = True
    tracker.log_artifact(run, "text", "note.txt")
    tracker.log_metrics(run, {"loss": 1.0}, 1)
    runs.is_away, runs.refuses = False, {"log_text"}
    with caplog.at_level(logging.WARNING):
        tracker.end_run(run)
    assert [verb for verb, _ in runs.arrived] == ["start_run", "log_lines", "end_run"]
    assert "log_text was refused and is dropped" in caplog.text


def test_a_wrong_request_fails_at_once(tracker: MlflowTracker, runs: FlakyRuns) -> None:
    runs.refuses = {"log_lines"}
    with pytest.raises(MlflowException, match="no such run"):
        tracker.log_metrics("x", {"loss": 1.0})


def test_what_a_dead_process_left_is_sent_by_the_next(runs: FlakyRuns, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dpn_platform.tracking.spool import Spool; "
        f"spool = Spool('exp', '{SERVER}', Path(sys.argv[1])); "
        "spool.append({'verb': 'log_text', 'timestamp': 5, 'run_id': 'r', 'text': 'x', 'name': 'note.txt'})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    left = next(tmp_path.iterdir())
    left.write_text(left.read_text() + '{"verb": "log_met')  # killed in the middle of a line
    Spool("other", SERVER, tmp_path).adopt_orphans()
    assert left.exists()
    tracker = MlflowTracker("exp", SERVER, spool_folder=tmp_path)
    tracker.start_run("next", key="next")
    assert [verb for verb, _ in runs.arrived] == ["log_text", "start_run"]
    assert runs.arrived[0][1] == {"run_id": "r", "text": "x", "name": "note.txt"}
    assert list(tmp_path.iterdir()) == []


def test_spools_of_living_processes_are_left_alone(tmp_path: Path) -> None:
    mine, other = Spool("exp", SERVER, tmp_path), Spool("exp", SERVER, tmp_path)
    mine.append({"verb": "end_run"})
    assert other.adopt_orphans() == 0
    assert mine.path.exists()


def test_is_unreachable_tells_absence_from_error() -> None:
    assert is_unreachable(RequestsConnectionError("refused"))
    assert is_unreachable(MlflowException("API request to http://x failed with exception: refused"))
    assert not is_unreachable(MlflowException("bad", error_code=1000))
    assert not is_unreachable(ValueError("bug"))


def test_what_a_study_says_in_the_end_waits_as_well(tracker: MlflowTracker, runs: FlakyRuns, tmp_path: Path) -> None:
    runs.is_away = True
    study = tracker.start_run("study", key="study")
    trial = tracker.start_run("trial", key="study/1", parent_id=study)
    tracker.log_data(study, [DataInput("set/train", "0123", "s3://key:hush-hush@set", 40, "training")])
    model = tracker.log_model(trial, "study-1", "s3://x", {}, {})
    tracker.register_models(study, "study", [Version("1", model, "says hush-hush", {"a": "b"})], aliases={"best": "1"})
    tracker.set_alias("study", "champion", "1")
    tracker.describe(study, note="result hush-hush", tags={"dpn.rank": "1"})
    shown = tracker.show(View("study", "study", ("dpn.study", "study"), ("x",), across="x", up="y"))
    assert shown == SERVER
    assert "hush-hush" not in next(tmp_path.iterdir()).read_text()
    runs.is_away = False
    tracker.end_run(study)
    arrived = dict(runs.arrived)
    wanted = ["start_run", "start_run", "log_data", "log_model", "register_models", "set_alias", "describe", "show"]
    assert [verb for verb, _ in runs.arrived] == [*wanted, "end_run"]
    assert arrived["register_models"]["run_id"] == arrived["describe"]["run_id"] == "id-study"
    assert arrived["register_models"]["versions"][0]["model_id"] == "m-study-1"  # that of the server
    assert list(tmp_path.iterdir()) == []
