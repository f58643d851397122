"""The webhook is told what a slot came to; where it is away, that is said, and its address is not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dpn_platform.pipelines.webhook import tell

NAME = "DPN_TEST_WEBHOOK"


@pytest.fixture
def receiver(monkeypatch):
    """A real server that answers with the statuses it is given, the last one again and again."""
    heard, statuses = [], [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(NAME, f"http://127.0.0.1:{server.server_port}/secret-path")
    yield heard, statuses
    server.shutdown()
    server.server_close()


def test_it_is_told(receiver):
    heard, _ = receiver
    assert tell(NAME, "front moved") is None
    assert heard == [{"text": "front moved"}]


def test_it_is_tried_again_while_the_other_side_fails(receiver):
    heard, statuses = receiver
    statuses[:] = [503, 500, 200]
    pauses = []
    assert tell(NAME, "x", pauses.append) is None
    assert (len(heard), pauses) == (3, [1.0, 2.0])


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (503, 4)])
def test_what_it_refuses_is_a_remark_without_the_address(receiver, status, attempts):
    heard, statuses = receiver
    statuses[:] = [status]
    told = tell(NAME, "x", lambda seconds: None)
    assert told == f"the webhook was not told: status {status}"
    assert len(heard) == attempts


def test_nobody_to_tell(monkeypatch):
    assert tell(None, "x") is None
    monkeypatch.delenv(NAME, raising=False)
    assert tell(NAME, "x") == f"the webhook was not told: {NAME} is not set"
    monkeypatch.setenv(NAME, "ftp://secret")
    assert tell(NAME, "x") == f"the webhook was not told: {NAME} is no http address"
