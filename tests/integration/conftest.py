"""A small published set, and a store that misbehaves: a proxy on loopback in front of the real S3 server."""

from __future__ import annotations

import http.client
import io
import json
import random
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from dpn_platform import storage
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, build_shard
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of, publish_manifest
from dpn_platform.data.published.schema import SCHEMA_VERSION

DELAY_S = 0.2
FAULTS = ("busy", "reset", "truncated", "late")
_BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
_OF_THE_CONNECTION = {"connection", "transfer-encoding", "keep-alive"}


class FaultyStore(ThreadingHTTPServer):
    """Passes requests on unchanged, except for a share of them.

    Attributes:
        rate: share of requests that meet a fault.
        met: how many met which.
        hangs_up: asked (method, path) before every request; True ends the connection without an answer.
    """

    daemon_threads = True

    def __init__(self, target: str, rate: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.rate = rate
        self.met: Counter[str] = Counter()
        self.hangs_up: Callable[[str, str], bool] = lambda command, path: False
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self) -> str | None:
        with self._lock:
            fault = self._draw.choice(FAULTS) if self._draw.random() < self.rate else None
            self.met[fault or "none"] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyStore

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.server.next_fault()
        if fault == "late":
            time.sleep(DELAY_S)
        if fault == "reset" or self.server.hangs_up(self.command, self.path):
            self._hang_up()
            return
        if fault == "busy":
            self._answer(503, [("Content-Type", "application/xml")], _BUSY, len(_BUSY))
            return
        upstream = http.client.HTTPConnection(self.server.target.hostname, self.server.target.port, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OF_THE_CONNECTION | {"expect", "content-length"}:
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            response = upstream.getresponse()
            content = response.read()
        finally:
            upstream.close()
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _OF_THE_CONNECTION]
        length = response.headers.get("Content-Length", str(len(content)))
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        cut = fault == "truncated" and len(content) > 1
        self._answer(response.status, headers, content[: len(content) // 2] if cut else content, int(length))
        if cut:
            self._hang_up()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


@pytest.fixture(scope="session")
def faulty_store() -> Callable[..., Any]:
    """Context manager: a faulty proxy of the S3 server at `url`."""

    @contextmanager
    def start(url: str, rate: float = 0.05, seed: int = 0) -> Iterator[FaultyStore]:
        with FaultyStore(url, rate, seed) as store:
            threading.Thread(target=store.serve_forever, daemon=True).start()
            yield store
            store.shutdown()

    return start


@pytest.fixture(scope="session")
def small_set(services: Any) -> Manifest:
    """See `build_small_set`."""
    return _build_small_set()


@pytest.fixture(scope="session")
def build_small_set(services: Any) -> Callable[[], Manifest]:
    """Writes a raw set and builds it: four shards of 40 rows, every fifth without a picture, by this process."""
    return _build_small_set


def _build_small_set() -> Manifest:
    base = f"s3://dpn/test-stream-{uuid.uuid4().hex[:8]}"
    storage.ensure_bucket(base)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(buffer, "JPEG")
    storage.write_bytes(f"{base}/raw/img/x.jpg", buffer.getvalue())
    shards = []
    for number in range(4):
        places = range(number * 40, number * 40 + 40)
        rows = tuple(SourceRow(place, json.dumps(_record(place)).encode()) for place in places)
        options = BuildOptions((f"{base}/raw",))
        part = Slice(f"{base}/set", "train", index=number, first_row_id=number * 40, rows=rows, options=options)
        shards.append(Shard(**build_shard(part)["shard"]))
    split = Split(rows=160, images=128, text_only=32, sources={"img": 128, "text": 32}, shards=tuple(shards))
    splits = {"train": split}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="small",
        source="memory",
        splits=splits,
        quarantine=Quarantine(),
        fingerprint=fingerprint_of(splits),
    )
    return publish_manifest(f"{base}/set", manifest)


def _record(number: int) -> dict[str, Any]:
    """A record; every fifth without a picture."""
    with_image = number % 5 != 0
    ask = f"{'<image>' if with_image else ''}what is {number}?"
    turns = [{"from": "human", "value": ask}, {"from": "gpt", "value": "that"}]
    return {"id": f"r{number}", "conversations": turns} | ({"image": "img/x.jpg"} if with_image else {})
