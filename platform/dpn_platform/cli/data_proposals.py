"""`dpn data propose`: boxes of a detector for the rows of a published set."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table, progress
from dpn_platform.cli.data_inspection import summary
from dpn_platform.cli.starting import services_for

if TYPE_CHECKING:
    from dpn_platform.data.proposing.job import Proposing

#: heads of the table, and the facts of a tally below them
_COLUMNS = {
    "pictures": "rows",
    "without boxes": "rows_without",
    "mean boxes": "mean_boxes",
    "median": "median_boxes",
    "true boxes": "true_boxes",
    "recall .5": "recall_50",
    "recall .5:.95": "recall_50_95",
}


Source = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="SOURCE",
        help="What proposes: a detector's from_pretrained folder (DETR, Deformable DETR, RT-DETR, D-FINE, LW-DETR, "
        "RF-DETR; Grounding DINO is asked for what the question names), a file of UPN's weights (.pth), a file of "
        'proposals (.jsonl: {"id" or "image", "boxes", "scores"} a line), or jitter (true boxes, moved).',
    ),
]
To = Annotated[
    str | None, typer.Option(help="Where to publish; default: SET, as its new version (older ones stay readable).")
]
Threshold = Annotated[float | None, typer.Option(min=0, max=1, help="Least score; default .3, of Grounding DINO .25.")]
Nms = Annotated[float, typer.Option(min=0, max=1, help="Of boxes that overlap by more, the best stays; 1 keeps all.")]
Grain = Annotated[
    Literal["fine", "coarse"], typer.Option(help="Of UPN: anything that stands for itself, or whole things.")
]
Actors = Annotated[
    int | None, typer.Option(min=1, help="Copies of SOURCE at work; default: one for each GPU, or as CPUs allow.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Propose again for shards that an interrupted run has finished.")]


def register(group: typer.Typer) -> None:
    """Adds the verb to `dpn data`."""
    group.command("propose")(propose)


def propose(
    uri: Annotated[str, typer.Argument(metavar="SET", help="A published data set.")],
    source: Source,
    to: To = None,
    threshold: Threshold = None,
    nms: Nms = 0.8,
    granularity: Grain = "fine",
    actors: Actors = None,
    fresh: Fresh = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another data set at --to; its version stays readable.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Add a detector's boxes to a set's rows, at most 100 each; run again, it continues."""
    with clean_stdout(), ExitStack() as stack:
        stack.enter_context(services_for(uri, source, to, ray=False))
        from dpn_platform.data.proposing.places import find_place
        from dpn_platform.data.published.manifest import load_manifest

        # What is not there is refused before Ray starts.
        manifest, place = load_manifest(uri), find_place(source)
        stack.enter_context(services_for())
        from dpn_platform.data.proposing.job import ProposeOptions
        from dpn_platform.data.proposing.job import propose as run_propose

        with progress(f"proposing for {uri}") as advance:
            done = run_propose(
                manifest,
                place,
                to,
                options=ProposeOptions(threshold, nms, granularity, actors, fresh),
                force=force,
                on_progress=lambda rows, total: advance(rows, total=total),
                on_note=note,
            )
    _show(done, as_json)


def _show(done: Proposing, as_json: bool) -> None:
    facts: dict[str, dict[str, Any]] = {name: tally.facts() for name, tally in done.tallies.items()}
    if as_json:
        print_json({**summary(done.manifest), "added": done.manifest.proposals, "proposals": facts})
        return
    shown = {
        name: ["-" if row[fact] is None else row[fact] for fact in _COLUMNS.values()] for name, row in facts.items()
    }
    title = f"{done.manifest.root}  fingerprint {done.manifest.fingerprint}"
    print_table(title, ("split", *_COLUMNS), [(name, *row) for name, row in shown.items()])
    if passed_over := sum(row["passed_over"] for row in facts.values()):
        note(f"{passed_over} rows have several pictures and were passed over")
    note(f"the version without these proposals: {done.before}")
