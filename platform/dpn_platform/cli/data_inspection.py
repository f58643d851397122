"""`dpn data verify | stats | quarantine`: what a published data set is, and whether it is sound."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table, progress
from dpn_platform.demo.recipe import DEMO_URI

if TYPE_CHECKING:
    from dpn_platform.data.published.manifest import Manifest

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def register(group: typer.Typer) -> None:
    """Adds the verbs to `dpn data`."""
    group.command("verify")(verify)
    group.command("stats")(stats)
    group.command("quarantine")(quarantine)


def verify(
    uri: Annotated[str, typer.Argument(help="A published data set.")] = DEMO_URI,
    decode: Annotated[bool, typer.Option(help="Decode every image, too (about 2 ms each).")] = True,
    as_json: Json = False,
) -> None:
    """Read every shard and compare it with the manifest; exit code 1 when something differs."""
    with clean_stdout():
        connect_storage(uri)
        from dpn_platform.data.published.manifest import load_manifest
        from dpn_platform.data.published.verify import verify as run_verify

        manifest = load_manifest(uri)
        with progress(f"verifying {uri}") as advance:
            report = run_verify(manifest, on_progress=lambda done, total: advance(done, total=total), decode=decode)
    facts: dict[str, Any] = {
        "uri": uri,
        "sound": report.is_sound,
        "fingerprint": manifest.fingerprint,
        "shards": report.shards,
        "rows": report.rows,
        "bytes": report.bytes,
        "images_decoded": report.images_decoded,
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


def stats(
    uri: Annotated[str, typer.Argument(help="A published data set.")] = DEMO_URI,
    out: Annotated[str | None, typer.Option(help="Folder for histograms of lengths and sizes (PNG).")] = None,
    as_json: Json = False,
) -> None:
    """What is in a data set: rows, images and tokens by source; histograms as PNG with --out."""
    with clean_stdout():
        connect_storage(uri)
        from dpn_platform.data.published.manifest import load_manifest
        from dpn_platform.data.published.stats import collect_stats

        manifest = load_manifest(uri)
        with progress(f"reading {uri}") as advance:
            found = collect_stats(manifest, on_progress=lambda done, total: advance(done, total=total))
        pictures: list[str] = []
        if out is not None:
            from dpn_platform.data.published.histograms import write_histograms

            pictures = write_histograms(found, out)
    if as_json:
        print_json({**summary(manifest), **found.to_json(), "pictures": pictures})
        return
    print_table(f"{manifest.root}  fingerprint {manifest.fingerprint}", found.columns(), found.table())
    defects = [
        (what, kind, count)
        for split in manifest.splits.values()
        for what, counts in (("repaired", split.repairs), ("kept", split.kept))
        for kind, count in counts.items()
    ]
    defects += [("quarantined", kind, count) for kind, count in manifest.quarantine.reasons.items()]
    if defects:
        print_table("defects", ("what was done", "kind", "rows"), defects)
    note(f"tokens: {manifest.tokens.rule}; {manifest.tokens.visual_tokens_per_image} visual tokens per image")
    note_unknown_words(manifest)
    for picture in pictures:
        note(f"wrote {picture}")


def quarantine(
    uri: Annotated[str, typer.Argument(help="A published data set, or a quarantine table (.jsonl).")] = DEMO_URI,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    kind: Annotated[str | None, typer.Option(help="Only rows quarantined for this.")] = None,
    as_json: Json = False,
) -> None:
    """Show the rows that were refused, each with its reason."""
    with clean_stdout():
        from dpn_platform.data.ingest.policy import require_kind
        from dpn_platform.data.published.manifest import load_manifest
        from dpn_platform.storage import join_uri, read_bytes

        if kind is not None:
            require_kind(kind, f"--kind {kind}")
        connect_storage(uri)

        table: str | None = uri
        if not uri.endswith(".jsonl"):
            manifest = load_manifest(uri)
            table = manifest.quarantine.path and join_uri(manifest.root, manifest.quarantine.path)
        rows = [json.loads(line) for line in read_bytes(table).splitlines()] if table else []
    chosen = [row for row in rows if kind in (None, row["reason"])]
    if as_json:
        print_json({"uri": uri, "table": table, "quarantined": len(chosen), "rows": chosen[:limit]})
        return
    shown = [(row["split"], row["source_row"], row["reason"], row["detail"][:80]) for row in chosen[:limit]]
    if not shown:
        note(f"{uri}: no row is quarantined" + (f" for '{kind}'" if kind else ""))
        return
    shows = f", {len(shown)} shown (--limit)" if len(shown) < len(chosen) else ""
    print_table(f"{len(chosen)} rows quarantined{shows}: {table}", ("split", "source row", "kind", "detail"), shown)


def connect_storage(uri: str) -> None:
    """Services are needed only for an S3 that the user did not name."""
    from dpn_platform.services import connect, external_services

    if uri.startswith("s3://") and "s3" not in external_services():
        connect(needs=["s3"])


def show_manifest(manifest: Manifest, as_json: bool) -> None:
    """What was published: one line per split."""
    if as_json:
        print_json(summary(manifest))
        return
    has_boxes = any(split.objects for split in manifest.splits.values())
    rows = [
        (
            name,
            split.rows,
            split.images,
            split.text_only,
            *([split.objects] if has_boxes else []),
            sum(split.repairs.values()),
            len(split.shards),
            f"{split.bytes / 2**20:.1f}",
        )
        for name, split in manifest.splits.items()
    ]
    title = f"{manifest.root}  fingerprint {manifest.fingerprint}"
    boxes = ["with boxes"] if has_boxes else []
    print_table(title, ("split", "rows", "images", "text only", *boxes, "repairs", "shards", "MiB"), rows)
    note_unknown_words(manifest)


def note_unknown_words(manifest: Manifest) -> None:
    """A line for every split with words that the tokenizer which counted does not know."""
    from dpn_platform.data.ingest.unknown_words import in_words

    for name, split in manifest.splits.items():
        if split.unknown.get("unknown_question_tokens") or split.unknown.get("unknown_answers"):
            note(f"{name}: {in_words(split.unknown)} ({manifest.tokens.rule})")


def summary(manifest: Manifest) -> dict[str, Any]:
    """The manifest without its list of shards."""
    splits = {
        name: {**split.model_dump(exclude={"shards"}), "shards": len(split.shards), "bytes": split.bytes}
        for name, split in manifest.splits.items()
    }
    return {
        "uri": manifest.root,
        "name": manifest.name,
        "schema_version": manifest.schema_version,
        "fingerprint": manifest.fingerprint,
        "splits": splits,
        "quarantine": manifest.quarantine.model_dump(),
        "tokens": manifest.tokens.model_dump(),
    }
