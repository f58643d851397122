"""Logs an evaluation to the tracker. A tracker that is away, or not configured, never fails an evaluation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpn_platform.cli.console import clean_stdout, note
from dpn_platform.config.errors import DpnError
from dpn_platform.config.tracking import TrackingConfig


def log_evaluation(
    tracking: TrackingConfig,
    run: str | None,
    name: str,
    document: Mapping[str, Any],
    *,
    metrics: Mapping[str, float],
    files: Mapping[str, str],
) -> None:
    """Metrics, the result as JSON, and files.

    Args:
        tracking: which experiment.
        run: key of the run to log to, as `dpn train` and studies name theirs; None: one of the evaluation's own.
        name: of an own run: the same evaluation continues it.
        document: the result.
        metrics: of this evaluation.
        files: name -> URI.
    """
    from dpn_platform.storage import open_uri, read_bytes
    from dpn_platform.tracking import open_tracker

    folder = f"evaluation/{document['benchmark']}"
    try:
        with clean_stdout(), tempfile.TemporaryDirectory(prefix="dpn-evaluation-") as temporary:
            tracker = open_tracker(tracking)
            run_id = tracker.start_run(run or name, key=run or f"evaluate/{name}", tags={"dpn.evaluated": name})
            tracker.log_metrics(run_id, metrics)
            tracker.log_artifact(run_id, json.dumps(document, indent=2, ensure_ascii=False), f"{folder}/result.json")
            for file, uri in files.items():
                path = Path(open_uri(uri).path)
                if not open_uri(uri).is_local:
                    path = Path(temporary) / file
                    path.write_bytes(read_bytes(uri))
                tracker.log_artifact(run_id, path, f"{folder}/{file}")
            tracker.end_run(run_id)
            if url := tracker.run_url(run_id):
                note(f"run: {url}")
    except DpnError as error:
        note(f"not tracked: {error}")
