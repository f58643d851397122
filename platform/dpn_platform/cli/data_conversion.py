"""`dpn data convert`: a detection data set that is there already, as a raw set of records with boxes."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table, progress
from dpn_platform.cli.starting import services_for
from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.kinds import KINDS
from dpn_platform.data.convert.options import ASKS, READINGS, Ask, ConvertOptions, Reading

KindName = Annotated[str, typer.Argument(help=f"{', '.join(KINDS)} (table below).")]
Dest = Annotated[str, typer.Argument(help="Folder for the raw set; splits that it has are not replaced.")]
Split = Annotated[str | None, typer.Option(help="Name of the split; default: what the source calls it.")]
Asked = Annotated[
    list[str] | None,
    typer.Option(help="detect (where is ...?) or describe (what is this box?); repeatable. Default: the kind's own."),
]
Absent = Annotated[int, typer.Option(min=0, help="Categories asked for that are not in the picture (coco, lvis).")]
Turns = Annotated[
    int, typer.Option(min=1, help="Questions that one training record holds; in other splits each is a record.")
]
Prefix = Annotated[str, typer.Option(help="Folder that is put before the names of pictures.")]
Images = Annotated[
    list[str] | None, typer.Option(help="TSV of pictures, or its parts in order; repeatable (rexverse).")
]
Boxes = Annotated[
    str | None, typer.Option(metavar="xyxy|xywh", help="How boxes are written (rexverse). Default: as they show.")
]
Text = Annotated[
    str | None, typer.Option(help="Field of a box that holds its text (rexverse). Default: phrase, else caption.")
]


def register(group: typer.Typer) -> None:
    """Adds the verb to `dpn data`."""
    group.command("convert", epilog=kinds_table())(convert)


def convert(
    kind: KindName,
    source: Annotated[str, typer.Argument(help="A file or a folder of that kind.")],
    dest: Dest,
    split: Split = None,
    ask: Asked = None,
    absent: Absent = 0,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    turns: Turns = ConvertOptions.turns,
    prefix: Prefix = "",
    images: Images = None,
    boxes: Boxes = None,
    text: Text = None,
    force: Annotated[bool, typer.Option("--force", help="Replace splits that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Make a raw set, which `dpn data ingest` takes, of a detection data set."""
    with clean_stdout(), services_for(source, dest, *(images or []), ray=False):
        from dpn_platform.data.convert.run import convert as run_convert

        _require("--ask", ask or (), ASKS)
        _require("--boxes", [boxes] if boxes else (), READINGS)
        options = ConvertOptions(
            split=split,
            ask=tuple(cast(list[Ask], dict.fromkeys(ask or ()))),
            absent=absent,
            seed=seed,
            turns=turns,
            prefix=prefix,
            images=tuple(images or ()),
            boxes=cast(Reading | None, boxes),
            text=text,
        )
        with progress(f"converting {source}") as advance:
            summary = run_convert(
                kind, source, dest, options, lambda done, total: advance(done, total=total), force=force
            )
    told = KINDS[kind].note
    if as_json:
        print_json({"uri": dest, **summary, "note": told})
        return
    print_facts("raw set", {"uri": dest, **summary["decided"], **summary["rows"]})
    if summary["left_out"]:
        print_table("left out", ("what", "how many"), list(summary["left_out"].items()))
    if told:
        note(told)
    roots = "" if kind == "rexverse" else " --images PICTURES"
    note(f"next: dpn data ingest {dest} URI{roots}")


def kinds_table() -> str:
    """The kinds of sources, for the help: name, what SOURCE is, its options."""
    lines = ["Kinds of sources:"]
    lines += [
        f"{name}: {kind.meaning}. Options: {', '.join(f'--{option}' for option in sorted(kind.options))}."
        + (f" {kind.note}." if kind.note else "")
        for name, kind in KINDS.items()
    ]
    return "\n\n".join(lines)


def _require(option: str, given: list[str] | tuple[()], allowed: tuple[str, ...]) -> None:
    for value in given:
        if value not in allowed:
            raise DpnError(f"{option} {value}: allowed are {', '.join(allowed)}")
