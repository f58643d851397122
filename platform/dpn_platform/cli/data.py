"""`dpn data`: make the demo set, ingest a raw set, verify a published one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table, progress

if TYPE_CHECKING:
    from dpn_platform.data.manifest import Manifest

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace another data set; its version stays readable.")]


def register(app: typer.Typer) -> None:
    """Adds `dpn data`."""
    group = typer.Typer(help="Build a data set, raw to shards, and check it.", no_args_is_help=True)
    group.command("make-demo")(make_demo)
    group.command("ingest")(ingest)
    group.command("verify")(verify)
    app.add_typer(group, name="data")


def make_demo(
    uri: Annotated[str, typer.Argument(help="Where to publish.")] = "s3://dpn/datasets/demo",
    raw: Annotated[str, typer.Option(help="Folder for the raw set (LLaVA's layout).")] = "s3://dpn/raw/demo",
    num_train: Annotated[int, typer.Option(min=1, help="Training records.")] = 6000,
    num_test: Annotated[int, typer.Option(min=1, help="Held-out records.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    image_size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 96,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw a visual question-answering set, store it raw, ingest it. Does nothing when it is there."""
    with clean_stdout():
        _connect_ray()
        from dpn_platform.data.prepare import DemoRecipe, ensure_demo

        recipe = DemoRecipe(num_train=num_train, num_test=num_test, seed=seed, image_size=image_size)
        with progress("preparing the demo set") as advance:
            manifest = ensure_demo(
                recipe,
                uri=uri,
                raw_uri=raw,
                force=force,
                on_progress=lambda stage, done, total: advance(done, f"{stage} the demo set", total),
            )
    _show(manifest, as_json)


def ingest(
    source: Annotated[str, typer.Argument(help="Raw set: {split}.json and pictures, as LLaVA ships it.")],
    uri: Annotated[str, typer.Argument(help="Where to publish.")],
    name: Annotated[str | None, typer.Option(help="Of the data set; default: the last part of URI.")] = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Source rows per shard.")] = 1000,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Turn a raw set into validated Parquet shards with a manifest; refused rows are quarantined."""
    with clean_stdout():
        _connect_ray()
        from dpn_platform.data.ingest import ingest as run_ingest

        with progress(f"ingesting {source}") as advance:
            manifest = run_ingest(
                source,
                uri,
                name=name,
                rows_per_shard=rows_per_shard,
                force=force,
                on_progress=lambda done, total: advance(done, total=total),
            )
    _show(manifest, as_json)
    if manifest.quarantine.rows:
        note(f"{manifest.quarantine.rows} rows quarantined: see {uri.rstrip('/')}/{manifest.quarantine.path}")


def verify(
    uri: Annotated[str, typer.Argument(help="A published data set.")] = "s3://dpn/datasets/demo",
    as_json: Json = False,
) -> None:
    """Read every shard and compare it with the manifest; exit code 1 when something differs."""
    with clean_stdout():
        _connect_storage(uri)
        from dpn_platform.data.manifest import load_manifest
        from dpn_platform.data.verify import verify as run_verify

        manifest = load_manifest(uri)
        with progress(f"verifying {uri}") as advance:
            report = run_verify(manifest, on_progress=lambda done, total: advance(done, total=total))
    facts: dict[str, Any] = {
        "uri": uri,
        "sound": report.is_sound,
        "fingerprint": manifest.fingerprint,
        "shards": report.shards,
        "rows": report.rows,
        "bytes": report.bytes,
        "quarantined": manifest.quarantine.rows,
        "problems": report.problems,
    }
    if as_json:
        print_json(facts)
    else:
        print_facts("data set", {**facts, "problems": len(report.problems)})
        for problem in report.problems:
            note(problem)
    if not report.is_sound:
        raise typer.Exit(1)


def _connect_ray() -> None:
    from dpn_platform.services import connect
    from dpn_platform.services.ray_client import init_ray

    connect(start=True)
    init_ray()


def _connect_storage(uri: str) -> None:
    """Services are needed only for an S3 that the user did not name."""
    from dpn_platform.services import connect, external_services

    if uri.startswith("s3://") and "s3" not in external_services():
        connect()


def _show(manifest: Manifest, as_json: bool) -> None:
    if as_json:
        print_json(_summary(manifest))
        return
    rows = [
        (name, split.rows, split.images, split.text_only, len(split.shards), f"{split.bytes / 2**20:.1f}")
        for name, split in manifest.splits.items()
    ]
    title = f"{manifest.root}  fingerprint {manifest.fingerprint}"
    print_table(title, ("split", "rows", "images", "text only", "shards", "MiB"), rows)


def _summary(manifest: Manifest) -> dict[str, Any]:
    splits = {
        name: {**split.model_dump(exclude={"shards"}), "shards": len(split.shards), "bytes": split.bytes}
        for name, split in manifest.splits.items()
    }
    return {
        "uri": manifest.root,
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "splits": splits,
        "quarantine": manifest.quarantine.model_dump(),
    }
