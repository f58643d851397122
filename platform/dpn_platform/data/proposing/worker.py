"""The stateful worker: one source of proposals, asked for shard after shard; each is written as it is done."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from dpn_model.proposals.opening import SourceKind, SourceSpec, open_source
from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.places import fetched
from dpn_platform.data.proposing.rows import Asked
from dpn_platform.data.proposing.shards import Portion, propose_shard

#: these run a network over pixels; the others go by what is known of a picture
NETWORKS: frozenset[SourceKind] = frozenset({"detector", "grounding", "upn"})


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker is told.

    Attributes:
        spec: of the source; its place is a URI.
        images: reference of a mapping from record ids to paths of pictures, for files that name pictures.
    """

    spec: SourceSpec
    images: ray.ObjectRef | None = None


class ShardProposer:
    """Callable for `map_batches`: portions to their results, both pickled.

    What we refuse travels as a value: of an exception, Ray Data passes on nothing but a traceback.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._stack = ExitStack()  # a fetched source stays for as long as the worker lives
        self.refusal: str | None = None
        try:
            self.asked = self._open(settings)
        except (DpnError, ValueError, FileNotFoundError) as error:
            self.refusal = str(error)

    def __call__(self, batch: pa.Table) -> dict[str, list[bytes]]:
        """Proposes for each portion."""
        return {"result": [pickle.dumps(self._of_one(pickle.loads(part.as_py()))) for part in batch.column("portion")]}

    def _of_one(self, portion: Portion) -> Mapping[str, Any]:
        if self.refusal is not None:
            return {"error": self.refusal}
        try:
            return propose_shard(portion, self.asked)
        except DpnError as error:
            return {"error": str(error)}

    def _open(self, settings: WorkerSettings) -> Asked:
        spec = settings.spec
        if spec.place:
            spec = replace(spec, place=self._stack.enter_context(fetched(spec.place)))
        images = {} if settings.images is None else ray.get(settings.images)
        return Asked(open_source(spec), spec.kind in NETWORKS, images)
