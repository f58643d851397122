"""The published data set that a benchmark asks: the experiment's own, or another one that is named."""

from __future__ import annotations

from dataclasses import dataclass

from dpn_platform.benchmarks.contract import Benchmark
from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import BenchmarkSettings
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import VERSIONS_FOLDER, Manifest, load_manifest
from dpn_platform.data.published.presence import require_shards


@dataclass(frozen=True)
class AskedDataSet:
    """A split of a published data set."""

    manifest: Manifest
    split: str

    def wanted(self, given: Wanted) -> Wanted:
        """Its questions as they are now: a version that is published later is another data set."""
        version = f"{self.manifest.root}/{VERSIONS_FOLDER}/{self.manifest.fingerprint}.json"
        return Wanted(questions=version, split=self.split, layout=given.layout, for_server=given.for_server)


def asked_data_set(benchmark: Benchmark, wanted: Wanted, config: ExperimentConfig) -> AskedDataSet:
    """Where a benchmark's rows are.

    Args:
        benchmark: one that asks a published data set.
        wanted: `data` or `questions` names another than the experiment's, `split` another than `data.eval_split`.
        config: its `data`.

    Raises:
        DpnError: no such data set or split, shards of it are missing, it is empty, or gold or pictures are said to lie
            elsewhere.
    """
    for name in ("annotations", "images"):
        if getattr(wanted, name) is not None:
            raise DpnError(f"{benchmark.name}: gold and pictures are in the data set; leave out --{name}")
    uri, split = wanted.data or wanted.questions or config.data.uri, wanted.split or config.data.eval_split
    manifest = load_manifest(uri)
    if manifest.split(split).rows == 0:
        raise DpnError(f"{uri}: the split '{split}' is empty")
    require_shards(manifest, split)
    return AskedDataSet(manifest, split)


def asks_own_data(entry: BenchmarkSettings) -> bool:
    """Whether an entry of `eval.benchmarks` asks the experiment's own data set.

    Raises:
        DpnError: no such benchmark.
    """
    return find_benchmark(entry.name).asks_data_set and entry.root is None and entry.questions is None
