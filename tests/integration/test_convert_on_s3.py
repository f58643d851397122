"""A detection data set in a bucket becomes a raw set in a bucket, which ingest reads there."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest

from dpn_platform import services as embedded
from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.options import ConvertOptions
from dpn_platform.data.convert.run import convert
from dpn_platform.data.ingest.finished import finish_slice
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import folder_source
from tests.data.convert.conftest import instances, jpeg

pytestmark = [pytest.mark.services, pytest.mark.slow]

BASE = f"s3://dpn/test-convert-{uuid.uuid4().hex[:8]}"


def ingested(raw_uri: str, images: str) -> int:
    """Rows that ingest builds of the raw set; asserts that it refuses none."""
    raw = folder_source(raw_uri, images=[images])
    results = [finish_slice(part) for part in read_slices(raw, f"{raw_uri}-set", BuildOptions(raw.image_roots), 10, {})]
    assert [line["detail"] for result in results for line in result["rejected"]] == []
    return sum(result["counts"]["objects"] for result in results)


def test_both_ways_of_reading_work_in_a_bucket(services: embedded.Endpoints) -> None:
    for name, size in (("a.jpg", (100, 80)), ("b.jpg", (200, 100))):
        storage.write_bytes(f"{BASE}/pictures/{name}", jpeg(size))
    storage.write_json(f"{BASE}/coco/annotations/instances_train2017.json", instances())
    box = {"bbox": [60, 30, 90, 70], "phrase": "a cup"}
    row = b"0\t%s\n" % base64.b64encode(jpeg((100, 80)))
    storage.write_bytes(f"{BASE}/tsv/x_image_part_0.tsv", row)
    storage.write_bytes(f"{BASE}/tsv/x_image_part_1.tsv", row)
    rows = [f"{offset}\t{json.dumps({'boxes': [box]})}\n" for offset in (0, len(row))]
    storage.write_bytes(f"{BASE}/tsv/x_referring.annotations.tsv", "".join(rows).encode())

    for kind, source, images in (("coco", "coco", "pictures"), ("rexverse", "tsv", "raw-rexverse")):
        convert(kind, f"{BASE}/{source}", f"{BASE}/raw-{kind}", ConvertOptions(), lambda *_: None)
        assert ingested(f"{BASE}/raw-{kind}", f"{BASE}/{images}") == 2
    with pytest.raises(DpnError, match="there is no bucket 'no-such-bucket'"):
        convert("coco", f"{BASE}/coco", "s3://no-such-bucket/x", ConvertOptions(), lambda *_: None)


def test_a_file_goes_up_in_parts(services: embedded.Endpoints, tmp_path: Path) -> None:
    local = tmp_path / "x"
    local.write_bytes(bytes(range(256)) * 80_000)  # 20 MB: three parts

    storage.write_file(f"{BASE}/x", local)

    assert storage.read_bytes(f"{BASE}/x") == local.read_bytes()
