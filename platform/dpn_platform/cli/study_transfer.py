"""`dpn study export` and `dpn study import`: a study as one file, and out of it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_text, progress
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study, locate, open_store

_MOST_NAMED = 8


def export(
    study: Study,
    file: Annotated[Path, typer.Argument(help="To write: FILE.zip or FILE.tar.gz.")],
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With the weights.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Write a study into one file: ledger, report, metric lines, results and outcome tables of its trials."""
    with clean_stdout(), progress("packing the study"):
        ledger = locate(study, runs_uri)
        from dpn_platform.sweeps.export import export_study

        done = export_study(ledger, file, checkpoints=checkpoints, force=force)
    files = done.manifest["files"]
    if as_json:
        about = {key: value for key, value in done.manifest.items() if key != "files"}
        print_json({"file": str(file), "bytes": file.stat().st_size, "num_files": len(files), **about})
        return
    print_text(f"{file}: study {ledger.study}, {len(files)} files, {file.stat().st_size / 2**20:.1f} MiB")
    if done.left_out:
        note(f"without {len(done.left_out)} folders of checkpoints; --checkpoints takes them along")


def import_(
    file: Annotated[Path, typer.Argument(help="What `dpn study export` wrote.")],
    name: Annotated[str | None, typer.Option(help="Of the study here; default: its own.")] = None,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Put the study of an exported file into the store; its digests are verified first."""
    with clean_stdout(), progress("unpacking the study"):
        open_store(runs_uri)
        from dpn_platform.sweeps.importing import ORIGIN, import_study

        done = import_study(file, runs_uri, name)
    if as_json:
        about = {"study": done.ledger.study, "uri": done.ledger.uri, "from": done.manifest["runs_uri"]}
        print_json({**about, "num_files": len(done.manifest["files"]), "checkpoints_absent": done.absent})
        return
    print_text(f"study {done.ledger.study}: {done.ledger.uri} ({len(done.manifest['files'])} files, digests verified)")
    for uri in done.absent[:_MOST_NAMED]:
        note(f"not here: checkpoint {uri}")
    if len(done.absent) > _MOST_NAMED:
        note(f"not here: {len(done.absent) - _MOST_NAMED} checkpoints more; {ORIGIN} in the study's folder names all")
