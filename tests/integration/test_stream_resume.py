"""Workers killed at random points: what they saw and what a resumed run sees is the epoch, each row once."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_row_index
from dpn_platform.data.reading.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.feed import fed_batches, local_batches, start_feed
from dpn_platform.data.reading.sample_set import SampleSet
from dpn_platform.services.ray_client import init_ray

pytestmark = [pytest.mark.services, pytest.mark.ray]

# The workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@ray.remote(num_cpus=0, max_restarts=0)
class Worker:
    """Notes the samples of every micro-batch on disk; is killed before it would note one too many."""

    def consume(self, feed: Any, rank: int, notes: str, killed_after: int) -> int:
        file = Path(notes)
        for number, table in enumerate(fed_batches(feed, rank)):
            if number == killed_after:
                os.kill(os.getpid(), signal.SIGKILL)
            with file.open("a") as out:
                out.writelines(f"{key}\n" for key in table["sample_key"].to_pylist())
        return number + 1


@pytest.fixture(scope="module")
def planned(small_set: Manifest) -> Callable[..., BatchPlan]:
    """Plans the epoch of the small set, or what is left of it."""
    init_ray()
    index = read_row_index(small_set, "train")
    settings = BatchSettings(4, 4, tokens_per_batch=3000, by_modality=True, source_weights={"text": 1.5})
    split = small_set.split("train")
    return lambda consumed=None: plan_batches(split, settings, seed=9, index=index, consumed=consumed)


def noted(folder: Path) -> list[int]:
    return [int(line) for file in sorted(folder.iterdir()) for line in file.read_text().split()]


def test_killed_workers_and_resumed_ones_see_the_epoch_once(
    small_set: Manifest, planned: Callable[..., BatchPlan], tmp_path: Path
) -> None:
    epoch, chance = planned(), random.Random(4)
    for attempt, workers in enumerate((2, 2, 1)):
        plan = planned(SampleSet(noted(tmp_path)).keys())
        feed = start_feed(small_set, plan, world_size=workers, num_readers=2)
        # Ranks run in step: what the feed keeps ready lets one be so far ahead of the other and no further.
        first = chance.randrange(1, 6)
        ends = [first + chance.randrange(3) if attempt < 2 else -1 for _ in range(workers)]
        started = [
            Worker.remote().consume.remote(feed, rank, str(tmp_path / f"{attempt}-{rank}"), ends[rank])
            for rank in range(workers)
        ]
        for worker, end in zip(started, ends, strict=True):
            if end >= 0:
                with pytest.raises(ray.exceptions.RayActorError):
                    ray.get(worker)
            else:
                assert ray.get(worker) == plan.num_steps * plan.micro_batches_per_step // workers
        ray.kill(feed)

    seen = noted(tmp_path)
    assert len(seen) == len(set(seen)) == len(epoch.sample_keys()) - plan.left_out
    assert set(seen) <= set(epoch.sample_keys().tolist())
    assert plan.left_out < 4


def test_one_process_reads_what_the_feed_deals_out(small_set: Manifest, planned: Callable[..., BatchPlan]) -> None:
    plan = planned()
    whole = [table["sample_key"].to_pylist() for table in local_batches(small_set, plan, num_readers=2)]

    ordered = plan.sample_keys()[np.argsort(plan.micro_batch, kind="stable")].tolist()
    assert [key for keys in whole for key in keys] == ordered
    assert len(whole) == plan.num_steps * plan.micro_batches_per_step


def test_every_rank_hears_of_a_failure(small_set: Manifest, planned: Callable[..., BatchPlan]) -> None:
    """A rank that waited for a micro-batch that never comes would hang its neighbours in their next collective."""
    broken = small_set.at(f"{small_set.root}/nowhere")
    feed = start_feed(broken, planned(), world_size=2, num_readers=1)

    for rank in range(2):
        with pytest.raises(DpnError, match="the manifest names this shard, but it is missing"):
            next(fed_batches(feed, rank))
    ray.kill(feed)
