"""Whether the Ray cluster can ever hold a run's workers: Ray Train would wait for what never comes."""

from __future__ import annotations

import ipaddress

import ray

from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import TrainConfig


def check_cluster(train: TrainConfig) -> None:
    """Refuse a run that this machine's own cluster has too few devices for.

    A cluster of more than one machine may grow; there Ray Train waits, and says for what.

    Raises:
        DpnError: fewer GPUs or CPUs than the workers need.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not all(ipaddress.ip_address(node["NodeManagerAddress"]).is_loopback for node in nodes):
        return
    workers = train.num_workers
    needed = {"GPU": workers if train.use_gpu else 0, "CPU": workers * train.cpus_per_worker}
    found = ray.cluster_resources()
    for device, count in needed.items():
        if count > found.get(device, 0):
            advice = (
                "set train.use_gpu=false" if device == "GPU" else "lower train.num_workers or train.cpus_per_worker"
            )
            raise DpnError(
                f"train.num_workers = {workers} needs {count:g} {device}s, the local Ray cluster has "
                f"{found.get(device, 0):g}; {advice}, or submit the run to a larger cluster"
            )
