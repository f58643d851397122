"""A run of one worker, and its evaluation, in this process and in processes of Ray Train and Ray Data: the same."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpn_platform import storage
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.demo.prepare import DemoRecipe, ensure_demo
from dpn_platform.evaluation.run import evaluate
from dpn_platform.services.ray_client import init_ray
from dpn_platform.sweeps.stopping import Finished, Judge
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
            "sweep": {"num_trials": 0, "early_stopping": {"rungs": [0.5], "min_trials": 4}},
        },
        "test",
    )
    judge = judge_of_peers(config, ended_at=0.0)
    group = run_training(config, run_name="group", judge=judge)
    alone = run_training(config, run_name="alone", judge=judge, in_this_process=True)

    lines = [read_metrics(run.run_uri) for run in (group, alone)]
    assert len(lines[0]) == 6
    for of_group, of_alone in zip(*lines, strict=True):
        kept = [key for key in of_group if not any(word in key for word in TIMES)]
        assert {key: of_group[key] for key in kept} == {key: of_alone[key] for key in kept}
        assert ("eval/exact" in of_group) == (of_group["step"] in (3, 6))
    shards = [{file.rpartition("/")[2] for file in storage.list_files(run.export_uri)} for run in (group, alone)]
    assert shards[0] == shards[1]

    by_actor = evaluate(group.export_uri, config)
    here = evaluate(alone.export_uri, config, in_this_process=True)
    tables = [pq.read_table(io.BytesIO(storage.read_bytes(one.outcomes_uri))) for one in (by_actor, here)]
    # Each run has its own files, hence its own digest.
    first, second = (table.drop_columns(["latency_ms", "checkpoint"]) for table in tables)
    assert first.equals(second)
    assert run_training(config, run_name="alone", in_this_process=True) == alone, "a complete run is not repeated"
    beaten = judge_of_peers(config, ended_at=1.0)
    ended = [
        run_training(config, run_name=f"ended-{here}", judge=beaten, in_this_process=here) for here in (False, True)
    ]
    assert [(one.status, one.steps) for one in ended] == [("stopped", 3)] * 2
    assert ended[0].stop_reason == ended[1].stop_reason
    assert str(ended[0].stop_reason).startswith("at step 3 it can still become ")


def judge_of_peers(config: ExperimentConfig, *, ended_at: float) -> Judge:
    """Of a trial whose peers came to little, and far down in cost; the best one is cheaper than any can become."""
    assert config.sweep is not None
    rule = config.sweep.early_stopping
    rung = {"eval/loss_lm": 1.0, "eval/flops_ratio": 5.0}
    peers = [Finished(f"dpn-{number:02d}", "dpn", {3: rung}, 0.1, 1.0) for number in range(5)]
    best = Finished("best", "dpn", {}, ended_at, 0.0)
    return Judge(rule, "dpn", rule.steps_of_rungs(config.train), None, (*peers, best))
