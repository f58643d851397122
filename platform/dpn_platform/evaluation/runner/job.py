"""The Ray Data job: pictures are fetched on any CPU while the actors, one per device, answer."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from dpn_platform.config.errors import DpnError
from dpn_platform.data.reading.ray_context import quiet_data_context
from dpn_platform.data.reading.stream import READ_CPUS
from dpn_platform.evaluation.runner.actor import AnswererSettings, ShardAnswerer, with_pictures
from dpn_platform.evaluation.runner.shards import Shard

OnProgress = Callable[[int], None]


def answer_shards(
    shards: Sequence[Shard],
    settings: AnswererSettings,
    *,
    num_actors: int = 1,
    cpus_per_actor: float = 1,
    in_this_process: bool = False,
    on_progress: OnProgress | None = None,
) -> None:
    """Answer shards; each is written as soon as it is done. Ray must be initialised, unless it is done here.

    Args:
        shards: those that are not answered yet.
        settings: of the actors.
        num_actors: at most; no more than there are shards.
        cpus_per_actor: reserved for each.
        in_this_process: without Ray, where the model's imports are done already.
        on_progress: called with the questions answered so far.

    Raises:
        DpnError: a picture cannot be read, or the checkpoint not be loaded; finished shards stay.
    """
    answered = 0
    for table in (
        _here(shards, settings) if in_this_process else _by_actors(shards, settings, num_actors, cpus_per_actor)
    ):
        for refusal in table.column("refusal").drop_null().to_pylist():
            raise DpnError(refusal)
        answered += sum(table.column("questions").to_pylist())
        if on_progress:
            on_progress(answered)


def _here(shards: Sequence[Shard], settings: AnswererSettings) -> Iterator[pa.Table]:
    answerer = ShardAnswerer(settings)
    for shard in shards:
        yield from map(answerer, with_pictures(pa.table({"shard": [pickle.dumps(shard)]})))


def _by_actors(
    shards: Sequence[Shard], settings: AnswererSettings, num_actors: int, cpus_per_actor: float
) -> Iterator[pa.Table]:
    items = [{"shard": pickle.dumps(shard)} for shard in shards]
    actors = min(num_actors, len(shards))
    with quiet_data_context(preserve_order=False):
        dataset = (
            ray.data.from_items(items, override_num_blocks=len(items))
            .map_batches(
                with_pictures,
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=READ_CPUS,
                compute=ray.data.TaskPoolStrategy(size=min(2 * actors, len(items))),
            )
            .map_batches(
                ShardAnswerer,
                fn_constructor_args=(settings,),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=actors),
                num_cpus=cpus_per_actor,
                num_gpus=1 if settings.use_gpu else 0,
            )
        )
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
