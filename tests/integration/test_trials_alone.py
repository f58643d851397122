"""A run of one worker, and its evaluation, in this process and in processes of Ray Train and Ray Data: the same."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpn_platform import storage
from dpn_platform.config.load import parse_config
from dpn_platform.demo.prepare import DemoRecipe, ensure_demo
from dpn_platform.evaluation.run import evaluate
from dpn_platform.services.ray_client import init_ray
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run import run_training

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("process_group")]

#: what is measured in seconds, or per second
TIMES = ("per_second", "_ms", "fraction", "hours", "mfu", "seconds", "tflops", "time")


def test_a_trial_alone_is_the_trial_of_a_worker_group(services: Any) -> None:
    init_ray()
    folder = f"s3://dpn/test-alone-{uuid.uuid4().hex[:8]}"
    ensure_demo(DemoRecipe(96, 24), uri=f"{folder}/data", raw_uri=f"{folder}/raw")
    config = parse_config(
        {
            "name": "alone",
            "data": {"uri": f"{folder}/data"},
            "model": {"base": "tiny"},
            "method": {"name": "dpn"},
            "storage": {"runs_uri": f"{folder}/runs"},
            "train": {
                "steps": 6,
                "global_batch_size": 16,
                "micro_batch_size": 8,
                "checkpoint_every_steps": 3,
                "log_every_steps": 1,
                "threads_per_worker": 1,
            },
            "eval": {"batch_size": 4},
        },
        "test",
    )
    group = run_training(config, run_name="group")
    alone = run_training(config, run_name="alone", in_this_process=True)

    lines = [read_metrics(run.run_uri) for run in (group, alone)]
    assert len(lines[0]) == 6
    for of_group, of_alone in zip(*lines, strict=True):
        kept = [key for key in of_group if not any(word in key for word in TIMES)]
        assert {key: of_group[key] for key in kept} == {key: of_alone[key] for key in kept}
    shards = [{file.rpartition("/")[2] for file in storage.list_files(run.export_uri)} for run in (group, alone)]
    assert shards[0] == shards[1]

    by_actor = evaluate(group.export_uri, config)
    here = evaluate(alone.export_uri, config, in_this_process=True)
    tables = [pq.read_table(io.BytesIO(storage.read_bytes(one.outcomes_uri))) for one in (by_actor, here)]
    # Each run has its own files, hence its own digest.
    first, second = (table.drop_columns(["latency_ms", "checkpoint"]) for table in tables)
    assert first.equals(second)
    assert run_training(config, run_name="alone", in_this_process=True) == alone, "a complete run is not repeated"
