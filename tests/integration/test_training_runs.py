"""Runs on real Ray, DeepSpeed and S3: two workers, killed and resumed; the same losses everywhere.

The toy set of 160 samples (pictures and texts) is passed more than once: a run of 12 steps ends in its second epoch.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch

from dpn_model import DpnForConditionalGeneration
from dpn_model.processing import DpnProcessor
from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.data.reading.order import plan_reads, planned_keys
from dpn_platform.demo.prepare import DemoRecipe, ensure_demo
from dpn_platform.services.ray_client import init_ray
from dpn_platform.training.about import ABOUT, CONTENTS
from dpn_platform.training.base import build_model
from dpn_platform.training.checkpoints import checkpoint_name
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run import run_training
from dpn_platform.training.run_folder import TrainingOutcome

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

FOLDER = f"s3://dpn/test-training-{uuid.uuid4().hex[:8]}"
STEPS, GLOBAL_BATCH, CHECKPOINT_EVERY = 12, 16, 4

# The workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class KillAt:
    """Callback that kills its worker, once, when the checkpoint before is published."""

    def __init__(self, rank: int, step: int, folder: str, run_uri: str) -> None:
        self.rank, self.step = rank, step
        self.marker, self.run_uri = Path(folder) / "killed", run_uri

    def after_step(self, engine: Any, result: Any) -> str | None:
        if result.step == self.step and torch.distributed.get_rank() == self.rank and not self.marker.exists():
            self.marker.touch()
            self._wait_for_checkpoint(result.step - result.step % CHECKPOINT_EVERY)
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    def _wait_for_checkpoint(self, step: int) -> None:
        snapshot = f"{self.run_uri}/checkpoint_manager_snapshot.json"
        while not storage.exists(snapshot) or checkpoint_name(step) not in storage.read_bytes(snapshot).decode():
            time.sleep(0.1)


class NanAt:
    """Callback that notes each step it sees and spoils the weights after the second."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def after_step(self, engine: Any, result: Any) -> str | None:
        (Path(self.folder) / f"step-{result.step}").touch()
        if result.step == 2:
            with torch.no_grad():
                engine.module.lm_head.weight.fill_(float("nan"))
        return None


@pytest.fixture(scope="module")
def data_uri(services) -> str:
    init_ray()
    uri = f"{FOLDER}/data"
    ensure_demo(DemoRecipe(160, 20), uri=uri, raw_uri=f"{FOLDER}/raw")
    return uri


@pytest.fixture(scope="module")
def config(data_uri: str) -> Callable[..., ExperimentConfig]:
    def build(*, method: str = "dpn", settings: dict[str, Any] | None = None, **train: Any) -> ExperimentConfig:
        values = {
            "name": "test",
            "data": {"uri": data_uri},
            "model": {"base": "tiny"},
            "method": {"name": method, **(settings or {})},
            "storage": {"runs_uri": f"{FOLDER}/runs"},
            "train": {
                "steps": STEPS,
                "global_batch_size": GLOBAL_BATCH,
                "checkpoint_every_steps": CHECKPOINT_EVERY,
                "log_every_steps": 1,
                "threads_per_worker": 1,
                "peak_tflops": 0.1,
                "micro_batch_size": GLOBAL_BATCH,
                **train,
            },
        }
        return parse_config(values, "test")

    return build


@pytest.fixture(scope="module")
def two_workers(config: Callable[..., ExperimentConfig]) -> Callable[..., ExperimentConfig]:
    return lambda **values: config(num_workers=2, micro_batch_size=4, zero_stage=2, router_lr=5e-4, **values)


@pytest.fixture(scope="module")
def undisturbed(two_workers: Callable[..., ExperimentConfig]) -> TrainingOutcome:
    return run_training(two_workers(eval_every_steps=6, eval_samples=9), run_name="undisturbed")


def losses(outcome: TrainingOutcome) -> list[float]:
    return [line["train/loss"] for line in read_metrics(outcome.run_uri)]


def files_of(uri: str) -> list[str]:
    """Paths below a folder."""
    root = storage.open_uri(uri).uri
    return [storage.open_uri(file).uri.removeprefix(root).lstrip("/") for file in storage.list_files(uri)]


def documented() -> set[str]:
    """What `about.md` may name, checkpoints by their names."""
    steps = {checkpoint_name(step) for step in range(STEPS + 1)}
    return {name.rstrip("/") for name in CONTENTS} | steps | {ABOUT}


def consumed(outcome: TrainingOutcome) -> list[int]:
    files = storage.list_files(outcome.checkpoint_uri, suffix=".npy")
    parts = []
    for uri in files:
        location = storage.open_uri(uri)
        with location.filesystem.open_input_file(location.path) as file:
            parts.append(np.load(file))
    return sorted(np.concatenate(parts).tolist())


def expected_keys(data_uri: str) -> list[int]:
    split = load_manifest(data_uri).split("train")
    return sorted(planned_keys(plan_reads(split, seed=0, num_rows=STEPS * GLOBAL_BATCH), split).tolist())


def test_two_workers_train_and_leave_a_folder_that_explains_itself(
    undisturbed: TrainingOutcome, data_uri: str, tmp_path: Path
) -> None:
    assert (undisturbed.status, undisturbed.steps, undisturbed.resumed_from) == ("finished", STEPS, 0)
    assert consumed(undisturbed) == expected_keys(data_uri)
    lines = read_metrics(undisturbed.run_uri)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[-1]["train/loss_lm"] < 0.7 * lines[0]["train/loss_lm"]
    assert 0 < lines[-1]["router/keep_ratio_layer_02"] <= 1
    assert {path.partition("/")[0] for path in files_of(undisturbed.run_uri)} <= documented()
    for name in ("about.md", "config.yaml", "provenance.json", "routing.json", "outcome.json"):
        assert storage.exists(f"{undisturbed.run_uri}/{name}")

    storage.download_folder(undisturbed.export_uri, tmp_path)
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert sorted(model.reducers) == ["2", "4", "6"]
    assert DpnProcessor.from_pretrained(tmp_path).tokens_per_image == model.num_visual_tokens()


def test_lines_tell_speed_cost_and_routers(undisturbed: TrainingOutcome) -> None:
    lines = read_metrics(undisturbed.run_uri)
    for line in lines:
        assert line["train/samples_per_second"] * line["train/step_ms"] / 1e3 == pytest.approx(GLOBAL_BATCH)
        assert 0 <= line["train/data_wait_fraction"] <= 1
        assert 0 < line["train/mfu"] < 1
        assert 0 < line["train/flops_ratio_swiglu"] <= 1
        assert 0 < line["router/entropy_layer_02"] <= 1 + 1e-6
        shares = [share for key, share in line.items() if key.startswith("routes/layer_02/")]
        assert sum(shares) == pytest.approx(1)
        assert line["train/lr_router"] == 0.5 * line["train/lr"]
    assert [line["step"] for line in lines if "eval/loss_lm" in line] == [6, 12]
    assert lines[11]["eval/loss_lm"] < lines[5]["eval/loss_lm"]
    hours = [line["train/device_hours"] for line in lines]
    assert sorted(hours) == hours
    history = storage.read_json(f"{undisturbed.run_uri}/routing.json")
    assert history["steps"] == list(range(1, STEPS + 1))
    assert [site["after_layer"] for site in history["sites"]] == [2, 4, 6]


def test_no_credential_is_written_into_the_run(undisturbed: TrainingOutcome, services) -> None:
    for uri in storage.list_files(undisturbed.run_uri):
        content = storage.read_bytes(uri)
        assert services.s3_secret_key.encode() not in content, uri


def test_a_complete_run_returns_its_outcome_at_once(undisturbed: TrainingOutcome, two_workers) -> None:
    reported: list[float] = []
    again = run_training(two_workers(), run_name="undisturbed", on_report=lambda line: reported.append(line["step"]))
    assert again == undisturbed
    assert reported == list(range(1, STEPS + 1))


def test_another_configuration_is_refused(undisturbed: TrainingOutcome, two_workers) -> None:
    with pytest.raises(DpnError, match=r"train\.lr: 0\.001 -> 0\.01"):
        run_training(two_workers(lr=0.01), run_name="undisturbed")


def test_a_killed_worker_restarts_to_the_same_losses(
    undisturbed: TrainingOutcome, two_workers, data_uri: str, tmp_path: Path
) -> None:
    kill = KillAt(1, 6, str(tmp_path), f"{FOLDER}/runs/killed")
    done = run_training(two_workers(max_failures=1), run_name="killed", callbacks=[kill])

    assert kill.marker.exists()
    assert (done.status, done.steps, done.resumed_from) == ("finished", STEPS, 4)
    assert losses(done) == losses(undisturbed)
    assert consumed(done) == expected_keys(data_uri)


def test_routers_are_learned_behind_the_training_from_the_samples_of_all_workers(config, data_uri, tmp_path) -> None:
    settings = {"scaling": "off", "routing_token": "first", "sandwich": {"drawn": 1}}
    settings["route_fit"] = {"samples": 50, "passes": 3}
    outcome = run_training(
        config(settings=settings, steps=2, num_workers=2, micro_batch_size=4, zero_stage=2), run_name="learned"
    )
    rows = np.unique(np.linspace(0, 159, 50).round().astype(int))
    shards = [pq.read_table(io.BytesIO(storage.read_bytes(uri))) for uri in _train_shards(data_uri)]
    pictured = np.concatenate([shard.column("has_image").to_numpy(zero_copy_only=False) for shard in shards])
    assert outcome.metrics["lesson/samples"] == pictured[rows].sum() < 50
    assert outcome.metrics["lesson/loss_best_route"] <= outcome.metrics["lesson/loss"]
    storage.download_folder(outcome.export_uri, tmp_path)
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    low, high = (f(model.config.dial["ratios"]) for f in (min, max))
    assert low < outcome.metrics["lesson/flops_ratio"] <= high
    model.set_budget(flops_ratio=(low + high) / 2)


def _train_shards(data_uri: str) -> list[str]:
    manifest = load_manifest(data_uri)
    return [manifest.shard_uri(shard) for shard in manifest.split("train").shards]


def test_stopped_by_a_budget_it_goes_on_until_its_loss_is_not_a_number(config, tmp_path: Path) -> None:
    """Its language model is trained by adapters, and what it exports has them merged."""
    lora = {"lr": 5e-4, "vision_lr": 0.0, "lora": {"rank": 4, "alpha": 8}}
    stopped = run_training(config(guards={"max_device_hours": 1e-9}, **lora), run_name="spent")
    assert (stopped.status, stopped.steps) == ("stopped", 1)
    storage.download_folder(stopped.export_uri, tmp_path)
    before, after = build_model(config())[0].state_dict(), DpnForConditionalGeneration.from_pretrained(tmp_path)
    changed = {name for name, weight in after.state_dict().items() if not torch.equal(weight, before[name])}
    assert sum(name.startswith("model.language_model.layers") for name in changed) == 7 * 8
    assert not any("vision_tower" in name or "norm" in name for name in changed)
    assert "train.guards.max_device_hours is 1e-09" in str(stopped.stop_reason)

    told = "run spent: train/loss is nan at step 3, which did not change the weights; lower train.lr"
    with pytest.raises(DpnError, match=told) as refusal:
        run_training(config(guards={"max_device_hours": 1}, **lora), run_name="spent", callbacks=[NanAt(str(tmp_path))])
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "step-2").exists()
    assert not (tmp_path / "step-1").exists(), "it began again"


@pytest.mark.parametrize(("train", "needed"), [({"use_gpu": True}, "1 GPUs"), ({"cpus_per_worker": 999}, "999 CPUs")])
def test_devices_that_never_come_are_named(config, train: dict[str, Any], needed: str) -> None:
    with pytest.raises(DpnError, match=f"train.num_workers = 1 needs {needed}, the local Ray cluster has"):
        run_training(config(**train), run_name="no-devices")
