"""Where a worker runs: in a worker group of Ray Train, or alone in the process that asked for the run.

A study's trials that need one worker run alone, in a process that stays warm between them: a worker group costs three
processes and their imports (a run of 12 toy steps took 23 s of CPU, of which the steps were three). Both kinds publish
checkpoints of one form, and a run may go on in the other kind.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import ray.train
import ray.train.torch
import torch
from ray.train import CheckpointUploadMode

from dpn_platform.storage import (
    MissingObjectError,
    delete_folder,
    download_folder,
    exists,
    join_uri,
    list_folders,
    read_json,
    write_json,
)

#: in the folder of a checkpoint that a run without a worker group has published; a file of its own, never replaced
PUBLISHED = "published.json"
#: where Ray Train keeps its own list
RAYS_SNAPSHOT = "checkpoint_manager_snapshot.json"


class Place(Protocol):
    """What a worker knows of where it runs, and how its checkpoints get published."""

    local_rank: int
    local_world_size: int
    node_rank: int

    def device(self) -> torch.device:
        """The GPU of this worker."""

    def latest(self) -> str | None:
        """Folder name of the run's latest published checkpoint, None before the first."""

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """A published checkpoint as a local folder while inside."""

    def publish(self, folder: Path, name: str, metrics: dict[str, float], upload: Callable[[], None]) -> None:
        """Let `upload` run beside the training, and publish the checkpoint when every rank's has returned.

        Args:
            folder: this rank's part.
            name: of the checkpoint's folder in storage.
            metrics: kept with it where the place can.
            upload: brings the part to storage.
        """

    def wait(self) -> None:
        """Returns when what was published last is in storage; raises what its upload failed with."""


class WorkerGroup:
    """A worker of Ray Train, which publishes a checkpoint once all its workers have uploaded their parts."""

    def __init__(self, run_uri: str) -> None:
        context = ray.train.get_context()
        self.run_uri = run_uri
        self.local_rank = context.get_local_rank()
        self.local_world_size = context.get_local_world_size()
        self.node_rank = context.get_node_rank()
        self._uploaded = threading.Event()
        self._uploaded.set()

    def device(self) -> torch.device:
        """The one Ray Train has given."""
        return ray.train.torch.get_device()

    def latest(self) -> str | None:
        """Ray Train's, or a later one of the time when the run went on without a worker group."""
        return _newest(self._rays(), *published_alone(self.run_uri))

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """Fetched once per node where it is Ray Train's."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None and self._rays() == name:
            with checkpoint.as_directory() as local:
                yield Path(local)
        else:
            with _downloaded(join_uri(self.run_uri, name)) as folder:
                yield folder

    def publish(self, folder: Path, name: str, metrics: dict[str, float], upload: Callable[[], None]) -> None:
        """Ray Train may call the upload again after some failures, and ends the worker after others."""

        def upload_part(checkpoint: ray.train.Checkpoint, folder_name: str) -> ray.train.Checkpoint:
            upload()
            self._uploaded.set()
            place = ray.train.get_context().get_storage()
            return ray.train.Checkpoint(place.build_checkpoint_path_from_name(folder_name), place.storage_filesystem)

        self._uploaded.clear()
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=False,  # `upload` does; Ray would leave it after a failure
            checkpoint_upload_fn=upload_part,
        )

    def wait(self) -> None:
        """Ray Train ends the worker if the upload fails."""
        self._uploaded.wait()

    def _rays(self) -> str | None:
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else Path(checkpoint.path).name


class OwnProcess:
    """This process alone; a file in a checkpoint says that it is published.

    Args:
        run_uri: the run's folder.
        num_to_keep: published checkpoints that are kept; None: all.
    """

    local_rank, local_world_size, node_rank = 0, 1, 0

    def __init__(self, run_uri: str, num_to_keep: int | None) -> None:
        self.run_uri = run_uri
        self.num_to_keep = num_to_keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def device(self) -> torch.device:
        """The only one that Ray lets this process see."""
        return torch.device("cuda", 0)

    def latest(self) -> str | None:
        """Ours, or a later one that a worker group has published."""
        return _newest(_published_by_ray(self.run_uri), *published_alone(self.run_uri))

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """A copy that is removed afterwards."""
        return _downloaded(join_uri(self.run_uri, name))

    def publish(self, folder: Path, name: str, metrics: dict[str, float], upload: Callable[[], None]) -> None:
        """The metrics are in the run's metric lines anyway."""

        def work() -> None:
            try:
                upload()
                write_json(join_uri(self.run_uri, name, PUBLISHED), {"published": name})
                if self.num_to_keep is not None:
                    for old in published_alone(self.run_uri)[: -self.num_to_keep]:
                        delete_folder(join_uri(self.run_uri, old))
            except BaseException as error:  # told to whoever waits
                self._error = error

        self._thread = threading.Thread(target=work, name=f"upload-{name}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Joins the uploading thread."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def published_alone(run_uri: str) -> list[str]:
    """Names of the checkpoints that a run without a worker group has published, oldest first."""
    names = sorted(folder.rpartition("/")[2] for folder in list_folders(run_uri))
    return [name for name in names if name.startswith("step_") and exists(join_uri(run_uri, name, PUBLISHED))]


def _published_by_ray(run_uri: str) -> str | None:
    """Latest name in Ray Train's snapshot."""
    try:
        latest = read_json(join_uri(run_uri, RAYS_SNAPSHOT))["latest_checkpoint_result"]
    except MissingObjectError:
        return None
    return None if latest is None else str(latest["checkpoint_dir_name"])


def _newest(*names: str | None) -> str | None:
    """Names sort like steps."""
    return max((name for name in names if name is not None), default=None)


@contextmanager
def _downloaded(uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dpn-fetched-") as folder:
        download_folder(uri, folder)
        yield Path(folder)
