"""The loaders that `ingestion.py` compares: each gives uint8 pictures of 336 x 336 in batches of 32."""

from __future__ import annotations

import importlib.util
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from dpn_model.processing.images import fit_square
from dpn_platform.config.schema import DataConfig
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.reading.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.collate import decode_fitting, decode_image
from dpn_platform.data.reading.feed import local_batches
from dpn_platform.training.batches import BatchReader

SIZE, BATCH, THREADS = 336, 32, 2


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(fit_square(decode_image(data), SIZE))


def decoded_fast(data: bytes) -> np.ndarray:
    return np.asarray(fit_square(decode_fitting(data, SIZE), SIZE))


def batches_of(pictures: Iterator[bytes], decode: Callable[[bytes], np.ndarray] = decoded) -> Iterator[np.ndarray]:
    """Batches decoded by threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        while chunk := [data for _, data in zip(range(BATCH), pictures, strict=False)]:
            yield np.stack(list(pool.map(decode, chunk)))


def limit(folder: Path) -> Iterator[np.ndarray]:
    """Only decoding: the bytes are in memory."""
    yield from batches_of(iter([path.read_bytes() for path in sorted((folder / "files").iterdir())]))


def plain_arrow(folder: Path) -> Iterator[np.ndarray]:
    def rows() -> Iterator[bytes]:
        for path in sorted((folder / "shards").iterdir()):
            for group in pq.ParquetFile(path).iter_batches(BATCH, columns=["image"]):
                yield from group.column("image").to_pylist()

    yield from batches_of(rows())


def tar_stream(folder: Path) -> Iterator[np.ndarray]:
    """WebDataset's format read by the standard library, decoded by threads: the least that tars can cost."""

    def rows() -> Iterator[bytes]:
        for path in sorted((folder / "tars").iterdir()):
            with tarfile.open(path, "r|") as tar:
                for entry in tar:
                    yield tar.extractfile(entry).read()  # type: ignore[union-attr]

    yield from batches_of(rows())


def web_dataset(folder: Path) -> Iterator[np.ndarray]:
    """The package itself, with its worker processes."""
    import webdataset

    tars = sorted(str(path) for path in (folder / "tars").iterdir())
    pictures = webdataset.WebDataset(tars, shardshuffle=False).to_tuple("jpg").map(_decoded_first)
    yield from webdataset.WebLoader(pictures, batch_size=BATCH, num_workers=THREADS, collate_fn=np.stack)


def _decoded_first(row: tuple[bytes]) -> np.ndarray:
    return decoded(row[0])


class Files(torch.utils.data.Dataset):
    def __init__(self, folder: Path) -> None:
        self.paths = sorted((folder / "files").iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> np.ndarray:
        return decoded(self.paths[place].read_bytes())


def torch_loader(folder: Path) -> Iterator[np.ndarray]:
    loader = torch.utils.data.DataLoader(Files(folder), batch_size=BATCH, num_workers=THREADS, collate_fn=np.stack)
    yield from loader


def plan_for(manifest: Manifest) -> BatchPlan:
    return plan_batches(manifest.split("train"), BatchSettings(BATCH, 1), seed=0)


def ours(manifest: Manifest, decode: Callable[[bytes], np.ndarray] = decoded) -> Iterator[np.ndarray]:
    """The product's own reader, which decodes ahead of the step."""
    with ThreadPoolExecutor(THREADS) as pool:

        def collate(table: pa.Table) -> dict[str, Any]:
            return {"pixels": np.stack(list(pool.map(decode, table["image"].to_pylist())))}

        # The settings tell the shard of a damaged row only, and these have none.
        reader = BatchReader(local_batches(manifest, plan_for(manifest), num_readers=2), DataConfig())
        for batch in reader.collated(collate):
            yield batch["pixels"]


def candidates(folder: Path, manifest: Manifest) -> dict[str, Callable[[], Iterator[np.ndarray]]]:
    """By name; WebDataset where it is installed (`pip install -e ".[bench]"`)."""
    found: dict[str, Callable[[], Iterator[np.ndarray]]] = {
        "decode limit": lambda: limit(folder),
        "our stream": lambda: ours(manifest),
        "our stream, fast": lambda: ours(manifest, decoded_fast),
        "pyarrow + threads": lambda: plain_arrow(folder),
        "torch DataLoader": lambda: torch_loader(folder),
        "tar + threads": lambda: tar_stream(folder),
    }
    if importlib.util.find_spec("webdataset"):
        found["WebDataset"] = lambda: web_dataset(folder)
    return found
