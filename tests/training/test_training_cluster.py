"""Devices that never come: refused on this machine's own cluster, waited for on others."""

from __future__ import annotations

import pytest
import ray

from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.cluster import check_cluster

TWO_GPUS = TrainConfig(num_workers=2, micro_batch_size=16, use_gpu=True)


def cluster(monkeypatch: pytest.MonkeyPatch, address: str, **resources: float) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "NodeManagerAddress": address}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)


def test_the_local_cluster_has_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, "127.0.0.1", CPU=2, GPU=1)
    with pytest.raises(DpnError, match=r"num_workers = 2 needs 2 GPUs, the local Ray cluster has 1; set train.use_gpu"):
        check_cluster(TWO_GPUS)
    with pytest.raises(DpnError, match=r"needs 6 CPUs, the local Ray cluster has 2; lower train.num_workers"):
        check_cluster(TWO_GPUS.model_copy(update={"use_gpu": False, "cpus_per_worker": 3}))
    check_cluster(TWO_GPUS.model_copy(update={"use_gpu": False}))


def test_another_cluster_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, "10.0.0.7", CPU=2)
    check_cluster(TWO_GPUS)
