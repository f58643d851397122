"""A recipe, what its losses are when nothing disturbs it, and a run of it.

Dense, because routes are drawn by rank: a routed method depends on the number of workers.
"""

from __future__ import annotations

import io
import sys
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray

from dpn_platform import storage
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.demo.prepare import DemoRecipe, ensure_demo
from dpn_platform.services.ray_client import init_ray
from dpn_platform.training.metric_lines import read_metrics
from tests.integration.local_run import run_here

FOLDER = f"s3://dpn/test-troubles-{uuid.uuid4().hex[:8]}"
STEPS, GLOBAL_BATCH, CHECKPOINT_EVERY = 12, 16, 3

# The workers cannot import the tests of this folder.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="package")
def training_set(services: Any) -> str:
    """URI of 160 samples: twelve steps end in the second epoch."""
    init_ray()
    uri = f"{FOLDER}/data"
    ensure_demo(DemoRecipe(160, 20), uri=uri, raw_uri=f"{FOLDER}/raw")
    return uri


@pytest.fixture(scope="package")
def recipe(training_set: str) -> Callable[..., ExperimentConfig]:
    """The run's configuration for so many workers; nothing else may differ between attempts."""

    def build(num_workers: int, micro_batch_size: int = 4) -> ExperimentConfig:
        values = {
            "name": "troubles",
            "data": {"uri": training_set},
            "model": {"base": "tiny"},
            "method": {"name": "dense"},
            "storage": {"runs_uri": f"{FOLDER}/runs"},
            "train": {
                "steps": STEPS,
                "global_batch_size": GLOBAL_BATCH,
                "micro_batch_size": micro_batch_size,
                "num_workers": num_workers,
                "zero_stage": 2,
                "checkpoint_every_steps": CHECKPOINT_EVERY,
                "log_every_steps": 1,
                "threads_per_worker": 1,
                "max_failures": 0,
            },
        }
        return parse_config(values, "test")

    return build


@pytest.fixture(scope="package")
def undisturbed(recipe: Callable[..., ExperimentConfig], process_group: None) -> tuple[list[float], list[int]]:
    """Losses and sample keys of the recipe, by our loop in this process."""
    return run_here(recipe(1, micro_batch_size=GLOBAL_BATCH))


def result_of(outcome: Any) -> tuple[list[float], list[int]]:
    """The losses of a finished run, step by step, and the sample keys it has consumed."""
    names = storage.list_files(outcome.checkpoint_uri, suffix=".npy")
    keys = [np.load(io.BytesIO(storage.read_bytes(uri))) for uri in names]
    return [line["train/loss_lm"] for line in read_metrics(outcome.run_uri)], sorted(np.concatenate(keys).tolist())


@pytest.fixture(scope="session")
def read_result() -> Callable[[Any], tuple[list[float], list[int]]]:
    """See `result_of`."""
    return result_of
