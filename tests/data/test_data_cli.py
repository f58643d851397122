"""`dpn data verify` on a data set on disk: table, JSON, exit codes. (What needs Ray: tests/integration.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from dpn_platform.cli import data as cli_data
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.shards import Slice
from dpn_platform.data.published.manifest import Manifest


def run(*arguments: str) -> int:
    """The exit code of `dpn data ...`."""
    app = typer.Typer()
    cli_data.register(app)
    app.callback()(lambda: None)
    return int(app(args=["data", *arguments], standalone_mode=False) or 0)


def test_verify_prints_one_json_document(
    part: Slice, publish: Callable[..., Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = publish(part)

    assert run("verify", part.target_uri, "--json") == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["sound"], document["fingerprint"], document["rows"]) == (True, manifest.fingerprint, 3)


def test_verify_fails_on_a_broken_set(
    part: Slice, publish: Callable[..., Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = publish(part)
    Path(manifest.shard_uri(manifest.splits["train"].shards[0]).removeprefix("file://")).unlink()

    assert run("verify", part.target_uri) == 1
    assert "nothing is there" in capsys.readouterr().err


def test_verify_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="no data set is published"):
        run("verify", str(tmp_path))
