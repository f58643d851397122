"""How close our stream comes to the pure decode limit, beside other loaders, in one interleaved run.

Command: python tests/benchmarks/ingestion.py [--rows 2000] [--rounds 3]   (PYTHONPATH=platform:.; starts a local Ray)

Every candidate gives uint8 pictures of 336 x 336 in batches of 32, decoded by LLaVA's order (PIL, pad, bicubic) in two
threads or processes; texts are not tokenised. CPU is that of the whole process tree, Ray's processes included.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from PIL import Image

from dpn_model.processing.images import fit_square
from dpn_platform.data.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.batch_settings import BatchSettings
from dpn_platform.data.collate import decode_fitting, decode_image
from dpn_platform.data.feed import local_batches
from dpn_platform.data.manifest import Manifest, Quarantine, Shard, Split
from dpn_platform.data.schema import SCHEMA_VERSION, shard_bytes, shard_table

SIZE, BATCH, THREADS, ROWS_PER_SHARD = 336, 32, 2, 250
STEP_S = 0.25  # of the fake step: about 128 rows a second


def picture(draw: np.random.Generator) -> bytes:
    """A 640 x 480 JPEG of about 125 KB: smooth shapes and some grain, as photographs have."""
    coarse = Image.fromarray(draw.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480), Image.BICUBIC)
    pixels = np.asarray(coarse, np.int16) + draw.normal(0, 14, (480, 640, 1)).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_sets(folder: Path, num_rows: int) -> Manifest:
    """The same pictures as files, as a tar and as shards."""
    pictures = [picture(np.random.default_rng(number)) for number in range(min(num_rows, 200))]
    (folder / "files").mkdir()
    shards = []
    with tarfile.open(folder / "set.tar", "w") as tar:
        for first in range(0, num_rows, ROWS_PER_SHARD):
            numbers = range(first, min(first + ROWS_PER_SHARD, num_rows))
            data = [pictures[number % len(pictures)] for number in numbers]
            for number, content in zip(numbers, data, strict=True):
                (folder / "files" / f"{number:06d}.jpg").write_bytes(content)
                entry = tarfile.TarInfo(f"{number:06d}.jpg")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            path = f"shards/{first}.parquet"
            (folder / "shards").mkdir(exist_ok=True)
            (folder / path).write_bytes(shard_bytes(shard_table([row(n, c) for n, c in zip(numbers, data)])))  # noqa: B905
            shards.append(Shard(path=path, rows=len(data), first_row_id=first, bytes=1, sha256="", content_sha256=path))
    split = Split(rows=num_rows, images=num_rows, text_only=0, sources={"x": num_rows}, shards=tuple(shards))
    return Manifest(
        schema_version=SCHEMA_VERSION, name="b", source="", splits={"train": split}, quarantine=Quarantine(),
        fingerprint="",
    ).at(str(folder))  # fmt: skip


def row(number: int, image: bytes) -> dict[str, Any]:
    return {
        "row_id": number, "source_row": number, "id": str(number), "split": "train", "source": "x", "difficulty": None,
        "conversations": "[]", "num_turns": 1, "text_length": 100, "has_image": True, "width": 640, "height": 480,
        "image": image,
    }  # fmt: skip


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
    """WebDataset's way, by the standard library: one pass through the tar."""

    def rows() -> Iterator[bytes]:
        with tarfile.open(folder / "set.tar", "r|") as tar:
            for entry in tar:
                yield tar.extractfile(entry).read()  # type: ignore[union-attr]

    yield from batches_of(rows())


class Files(torch.utils.data.Dataset):
    def __init__(self, folder: Path) -> None:
        self.paths = sorted((folder / "files").iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> np.ndarray:
        return decoded(self.paths[place].read_bytes())


def torch_loader(folder: Path) -> Iterator[np.ndarray]:
    yield from torch.utils.data.DataLoader(Files(folder), batch_size=BATCH, num_workers=THREADS)


def plan_for(manifest: Manifest) -> BatchPlan:
    return plan_batches(manifest.split("train"), BatchSettings(BATCH, 1), seed=0)


def ours(manifest: Manifest, decode: Callable[[bytes], np.ndarray] = decoded) -> Iterator[np.ndarray]:
    tables: Iterator[pa.Table] = local_batches(manifest, plan_for(manifest), num_readers=2)
    with ThreadPoolExecutor(THREADS) as pool:
        for table in tables:
            yield np.stack(list(pool.map(decode, table["image"].to_pylist())))


class Tree:
    """CPU and memory of this process, its children and Ray's."""

    def __init__(self) -> None:
        self.root = psutil.Process()

    def members(self) -> list[psutil.Process]:
        return [self.root, *self.root.children(recursive=True)]

    def cpu_s(self) -> dict[int, float]:
        return {p.pid: sum(p.cpu_times()[:2]) for p in self.members() if p.is_running()}

    def pss_mb(self) -> float:
        total = 0.0
        for process in self.members():
            try:
                total += process.memory_full_info().pss / 1e6
            except (psutil.Error, FileNotFoundError):
                continue
        return total


def run(batches: Iterator[np.ndarray], step_s: float = 0.0) -> dict[str, float]:
    tree = Tree()
    before = tree.cpu_s()
    began = time.monotonic()
    rows, waited, first, peak, last = 0, 0.0, 0.0, 0.0, before
    asked = began
    for number, batch in enumerate(batches):
        now = time.monotonic()
        waited += now - asked if number else 0.0
        first = first or now - began
        rows += len(batch)
        if number % 4 == 2:
            last = {**last, **tree.cpu_s()}
        if number % 16 == 10:
            peak = max(peak, tree.pss_mb())
        time.sleep(step_s)
        asked = time.monotonic()
    elapsed = time.monotonic() - began
    last = {**last, **tree.cpu_s()}
    cpu = sum(value - before.get(pid, 0.0) for pid, value in last.items())
    return {"rows/cpu-s": rows / cpu, "rows/s": rows / elapsed, "first s": first, "peak MB": peak,
            "wait": waited / elapsed}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", object_store_memory=512 * 2**20)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_sets(folder, given.rows)
        candidates: dict[str, Callable[[], Iterator[np.ndarray]]] = {
            "decode limit": lambda: limit(folder),
            "our stream": lambda: ours(manifest),
            "our stream, fast": lambda: ours(manifest, decoded_fast),
            "pyarrow + threads": lambda: plain_arrow(folder),
            "torch DataLoader": lambda: torch_loader(folder),
            "tar stream": lambda: tar_stream(folder),
        }
        results: dict[str, list[dict[str, float]]] = {key: [] for key in candidates}
        for _ in range(given.rounds):
            for key, candidate in candidates.items():
                results[key].append(run(candidate()))
                print(key, {name: round(value, 2) for name, value in results[key][-1].items()}, flush=True)
        bound = statistics.median(result["rows/cpu-s"] for result in results["decode limit"])
        for key, runs in results.items():
            medians = {field: statistics.median(result[field] for result in runs) for field in runs[0]}
            text = "  ".join(f"{field} {value:8.2f}" for field, value in medians.items() if field != "wait")
            print(f"{key:<20} of limit {medians['rows/cpu-s'] / bound:.2f}  {text}", flush=True)
        stepped = run(ours(manifest), STEP_S)
        print(f"fake step of {STEP_S} s per {BATCH} rows: data wait {stepped['wait']:.1%}")
    ray.shutdown()


if __name__ == "__main__":
    main()
