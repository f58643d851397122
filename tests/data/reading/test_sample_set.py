"""Consumed samples as bitmaps: exact, small, and the same after a round through files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpn_platform.data.reading.sample_set import SampleSet


@pytest.mark.parametrize("count", [0, 3, 4096, 4097, 200_000])
def test_round_trip(tmp_path: Path, count: int) -> None:
    keys = np.random.default_rng(count).choice(2_000_000, count, replace=False)
    samples = SampleSet(keys)

    samples.save(tmp_path, "consumed-rank0")

    [file] = tmp_path.iterdir()
    assert file.suffix == (".npy" if count <= 4096 else ".npz")
    loaded = SampleSet.load([file])
    assert len(loaded) == count
    assert (loaded.keys() == np.sort(keys)).all()


def test_union_over_ranks_and_repeats(tmp_path: Path) -> None:
    one, two = SampleSet(np.arange(0, 9000)), SampleSet([8999, 5, 10_000_000_000])
    one.add([1, 2])
    one.save(tmp_path, "a")
    two.save(tmp_path, "b")

    union = SampleSet.load(sorted(tmp_path.iterdir()))

    assert union.keys().tolist() == [*range(9000), 10_000_000_000]


def test_one_bit_per_sample() -> None:
    samples = SampleSet(np.arange(665_298))
    assert samples.num_bytes <= 665_298 / 8 + 8192
