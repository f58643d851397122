"""Names of parameters and metrics as MLflow takes them."""

from pathlib import Path
from tempfile import TemporaryDirectory

from dpn_platform.tracking.mlflow_runs import valid_key
from dpn_platform.tracking.mlflow_tracker import MlflowTracker


def test_two_names_stay_two_in_any_script_and_length() -> None:
    names = [
        "weights.图像",
        "weights.图片",
        "a*b",
        "a?b",
        "x" * 260,
        "x" * 261,
        "a//b",
        "a/../b",
        "/a",
        ".a",
        "router/a_b",
    ]
    keys = [valid_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert max(map(len, keys)) <= 250
    assert keys[0] == names[0]
    assert keys[-1] == names[-1]
    with TemporaryDirectory() as folder:
        tracker = MlflowTracker("names", f"sqlite:///{folder}/m.db", spool_folder=Path(folder) / "spool")
        run = tracker.start_run("r", key="r", params={name: number for number, name in enumerate(names)})
        tracker.log_metrics(run, {name: float(number) for number, name in enumerate(names)})
        data = tracker._runs.client.get_run(run).data
    assert len(data.params) == len(data.metrics) == len(names)
