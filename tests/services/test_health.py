"""A server is well only when it answers 200."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dpn_platform.services.health import answer_problem


class Handler(BaseHTTPRequestHandler):
    """200 for a request with the right word, 401 without."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Authorization"] == "Bearer word" else 401)
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body == b'{"max_results": 1}' else 400)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_answer_decides(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked
    assert answer_problem(url, headers={"Authorization": "Bearer word"}) is None
    assert answer_problem(url) == f"{url} answered 401"
    assert answer_problem(url, body={"max_results": 1}) is None


def test_nobody_there_is_a_problem() -> None:
    assert "does not answer" in str(answer_problem("http://127.0.0.1:9"))
