"""`dpn data`: make a raw set, ingest one; `data_conversion` makes one of another, `data_inspection` looks at one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli import data_conversion, data_inspection, data_proposals
from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table, progress
from dpn_platform.cli.data_inspection import show_manifest
from dpn_platform.cli.starting import prepare_demo, services_for
from dpn_platform.config.errors import DpnError
from dpn_platform.demo.recipe import DEMO_RAW_URI, DEMO_RECIPES, DEMO_URI, DETECTION_URI, DemoKind, DemoRecipe

if TYPE_CHECKING:
    pass

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace another data set; its version stays readable.")]


Places = Annotated[
    list[str],
    typer.Argument(
        metavar="[SOURCE] URI",
        help="SOURCE: folder of {split}.json, .jsonl or .csv and images, as LLaVA ships it. URI: where to publish.",
    ),
]
AnnotationFiles = Annotated[
    list[str] | None,
    typer.Option(
        help="Instead of SOURCE: FILE or SPLIT=FILE (default: train); repeatable. A JSON list or .jsonl of LLaVA's "
        "records, or one of these or a .csv of image, question, answer (and id, split, family, difficulty if need be)."
    ),
]
ImageRoots = Annotated[
    list[str] | None,
    typer.Option(help="Folder that image paths are relative to; repeatable, tried in order. Default: SOURCE."),
]
Actions = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND=ACTION", help="What to do about a kind of defect (table below); repeatable."),
]
HoldOut = Annotated[
    float,
    typer.Option(
        min=0, max=0.9, help="Share of train's pictures that become the split 'test', with all questions about them."
    ),
]
MaxQuarantined = Annotated[
    float, typer.Option(min=0, max=1, help="Publish nothing if more than this fraction of the rows is quarantined.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Build every shard again (for images changed under the same names).")
]


def register(app: typer.Typer) -> None:
    """Adds `dpn data`."""
    group = typer.Typer(help="Build a data set, raw to shards, and check it.", no_args_is_help=True)
    group.command("make-demo")(make_demo)
    group.command("make-mix")(make_mix)
    group.command("ingest", epilog=policy_table())(ingest)
    data_conversion.register(group)
    data_proposals.register(group)
    data_inspection.register(group)
    app.add_typer(group, name="data")


def make_demo(
    uri: Annotated[str | None, typer.Argument(help=f"Where to publish. Default: {DEMO_URI}, or -detection.")] = None,
    kind: Annotated[DemoKind, typer.Option(help="detection: boxes that answers name by their numbers.")] = "demo",
    raw: Annotated[str, typer.Option(help="Folder for the raw set (LLaVA's layout).")] = DEMO_RAW_URI,
    num_train: Annotated[int | None, typer.Option(min=1, help="Training records. Default: 6000.")] = None,
    num_test: Annotated[int | None, typer.Option(min=1, help="Held-out records. Default: 1000, or 2000.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = DemoRecipe.seed,
    image_size: Annotated[
        int | None, typer.Option(help=f"Side of the pictures in pixels. Default: {DemoRecipe.image_size}; kind demo.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw a visual question-answering set, store it raw, ingest it. Does nothing when it is there."""
    if kind == "detection" and image_size is not None:
        raise DpnError(f"--image-size {image_size} with --kind detection; its pictures have one size, leave it out")
    base = DEMO_RECIPES[DETECTION_URI if kind == "detection" else DEMO_URI]
    recipe = replace(
        base,
        num_train=num_train or base.num_train,
        num_test=num_test or base.num_test,
        seed=seed,
        image_size=image_size or base.image_size,
    )
    uri = uri or (DETECTION_URI if kind == "detection" else DEMO_URI)
    with clean_stdout(), services_for(uri, raw):
        manifest = prepare_demo(recipe, uri=uri, raw_uri=raw, force=force)
    show_manifest(manifest, as_json)


def make_mix(
    uri: Annotated[str, typer.Argument(help="Folder for the raw set; must not hold one yet.")],
    rows: Annotated[int, typer.Option(min=1, help="Records.")] = 2000,
    dirty: Annotated[float, typer.Option(min=0, max=0.5, help="Fraction of records with a planted defect.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1, help="Of the images' sides: 1 is photo-like.")] = 1.0,
    lines: Annotated[bool, typer.Option("--lines", help="Write train.jsonl instead of train.json.")] = False,
    as_json: Json = False,
) -> None:
    """Make a raw set with the shape of LLaVA's 665K mix; truth/planted.json counts its planted defects."""
    with clean_stdout(), services_for(uri, ray=False):
        from dpn_platform.demo.mix.build import MixRecipe
        from dpn_platform.demo.mix.build import make_mix as run_make_mix
        from dpn_platform.demo.mix.dirt import DIRT

        recipe = MixRecipe(rows=rows, dirty=dirty, seed=seed, scale=scale, lines=lines)
        with progress(f"drawing {rows} records") as advance:
            summary = run_make_mix(uri, recipe, on_progress=lambda done, total: advance(done, total=total))
    if as_json:
        print_json({"uri": uri, **summary})
        return
    planted = summary["by_dirt"]
    print_facts("raw set", {"uri": uri, **{name: summary[name] for name in ("rows", "text_only")}})
    if planted:
        table = [(name, dirt.kind, planted[name]) for name, dirt in DIRT.items() if name in planted]
        print_table(f"planted: {sum(planted.values())} rows", ("defect", "ingest calls it", "rows"), table)
    note(f"next: dpn data ingest {uri} URI" + (f" --max-quarantined {dirty:g}" if dirty else ""))


def ingest(
    places: Places,
    annotations: AnnotationFiles = None,
    images: ImageRoots = None,
    hold_out: HoldOut = 0.0,
    name: Annotated[str | None, typer.Option(help="Of the data set; default: the last part of URI.")] = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Source rows per shard.")] = 1000,
    on: Actions = None,
    max_quarantined: MaxQuarantined = 0.05,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder with tokenizer.json or .model; default: an estimate.")
    ] = None,
    visual_tokens: Annotated[int, typer.Option(min=0, help="Of one image, for expected_cost.")] = 576,
    fresh: Fresh = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Turn a raw set into validated shards with a manifest, quarantining bad rows; run again, it continues."""
    from dpn_platform.data.ingest.policy import Policy

    policy = Policy.parse(on or ())
    source, uri = _source_and_target(places, annotations or [])
    addresses = (source, *(annotations or []), *(images or []), uri)
    with clean_stdout(), ExitStack() as stack:
        stack.enter_context(services_for(*addresses, ray=False))
        from dpn_platform.data.ingest.splitting import open_raw

        # What is not there is refused before Ray starts.
        raw = open_raw(source, annotations or [], images or [], hold_out)
        stack.enter_context(services_for())
        from dpn_platform.data.ingest.job import IngestOptions
        from dpn_platform.data.ingest.job import ingest as run_ingest

        options = IngestOptions(rows_per_shard, policy, max_quarantined, visual_tokens, tokenizer, fresh)
        with progress(f"ingesting {raw.name}") as advance:
            manifest = run_ingest(
                raw,
                uri,
                name=name,
                options=options,
                force=force,
                on_progress=lambda done, total: advance(done, total=total),
                on_note=note,
            )
    show_manifest(manifest, as_json)
    if manifest.quarantine.rows:
        note(f"{manifest.quarantine.rows} rows quarantined: `dpn data quarantine {uri}` shows them")


def policy_table() -> str:
    """The kinds of defects, for the help: name, default, what else is allowed, meaning."""
    from dpn_platform.data.ingest.policy import KINDS

    lines = ["Kinds of defects, and what is done about them (the first action is the default):"]
    lines += [f"{name}: {' | '.join(kind.allowed)}. {kind.meaning}." for name, kind in KINDS.items()]
    return "\n\n".join(lines)


def _source_and_target(places: Sequence[str], annotations: Sequence[str]) -> tuple[str | None, str]:
    """(SOURCE or None, URI)."""
    if len(places) == 2 and not annotations:
        return places[0], places[1]
    if len(places) == 1 and annotations:
        return None, places[0]
    raise DpnError("expected either SOURCE URI, or --annotations FILE ... URI; see `dpn data ingest --help`")
