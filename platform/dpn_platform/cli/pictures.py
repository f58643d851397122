"""`dpn report pictures`: chosen samples with their grids, routes and answers (the paper's Fig. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table
from dpn_platform.config.errors import DpnError

if TYPE_CHECKING:
    from dpn_platform.evaluation.recorded_runs import RecordedRun
    from dpn_platform.evaluation.route_samples import Sample
    from dpn_platform.reports.routing.pictures import Sheet


def pictures(
    evaluations: Annotated[
        list[str], typer.Argument(help="Output folders of `dpn evaluate` on one data set: the model, then its rivals.")
    ],
    data: Annotated[
        str | None, typer.Option(help="The data set evaluated; default: only pictures that the evaluations kept.")
    ] = None,
    sample: Annotated[list[str] | None, typer.Option("--id", help="Show this sample (repeatable).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=20, help="Samples, and pictures under two questions.")] = 4,
    out: Annotated[str | None, typer.Option(help="Folder or URI; default: outputs/pictures.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Draw samples with the grid each site leaves, beside a rival, and one picture under two questions."""
    with clean_stdout():
        from dpn_platform.benchmarks.scoring import publish
        from dpn_platform.evaluation.recorded_runs import read_recorded
        from dpn_platform.reports.routing.pictures import pictures_page

        runs = [read_recorded(uri) for uri in evaluations]
        shown, drawn = _draw(runs, data, sample or [], limit)
        folder = (out or "outputs/pictures").rstrip("/")
        files = {f"{folder}/{one.stem}.png": one.png for one in drawn}
        files[f"{folder}/pictures.html"] = pictures_page(drawn[0].title, drawn).encode()
        for name, content in files.items():
            publish(name, content, force=force or out is None)
    if as_json:
        print_json({"samples": [_facts(one, runs) for one in shown], "files": list(files)})
        return
    lines = [
        (
            row["question_id"],
            row["question"],
            name,
            row["route"],
            f"{row['visual_tokens_mean']:.1f}",
            row["answer"],
            row["gold"],
        )
        for one in shown
        for name, row in zip(_names(runs), one, strict=True)
    ]
    print_table("Samples", ("id", "question", "model", "route", "tokens per layer", "answer", "right answer"), lines)
    note(f"files: {', '.join(files)}")


def _draw(runs: list[RecordedRun], data: str | None, ids: list[str], limit: int) -> tuple[list[Sample], list[Sheet]]:
    """The samples on the sheets, and the sheets."""
    from dpn_platform.evaluation import route_samples
    from dpn_platform.reports.routing.pictures import sheets

    shared = route_samples.shared_samples(runs)
    stored = None if data else route_samples.stored_pictures(runs)
    if stored == {}:
        raise DpnError(f"{runs[0].uri}: no pictures were kept there; give --data, the data set that was evaluated")
    known = None if stored is None else set(stored)
    chosen = route_samples.pick(shared, ids) if ids else route_samples.choose_samples(shared, limit, known)
    pairs = [] if ids else route_samples.question_pairs(shared, limit, known)
    shown = list(
        {str(one[0]["question_id"]): one for one in (*chosen, *(each for pair in pairs for each in pair))}.values()
    )
    if stored is None:
        stored = route_samples.pictures_of_data(runs[0], [one[0] for one in shown], str(data))
    if not shown:
        raise DpnError(f"{runs[0].uri}: none of its kept pictures belongs to a sample that all runs answered")
    return shown, sheets(_names(runs), chosen, pairs, stored)


def _names(runs: list[RecordedRun]) -> list[str]:
    """The models' names: the folders that hold the evaluations, or their parents where those agree."""
    parts = [
        run.uri.rstrip("/").removesuffix("/outcomes.parquet").removesuffix("/predictions.parquet").split("/")
        for run in runs
    ]
    for depth in range(1, max(map(len, parts)) + 1):
        names = [part[-depth] if len(part) >= depth else part[0] for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{part[-1]} ({place})" for place, part in enumerate(parts, start=1)]


def _facts(sample: Sample, runs: list[RecordedRun]) -> dict[str, object]:
    from dpn_platform.benchmarks.outcomes import is_right

    fields = ("route", "visual_tokens", "answer")
    models = {
        name: {key: row.get(key) for key in fields} | {"correct": is_right(row)}
        for name, row in zip(_names(runs), sample, strict=True)
    }
    return {
        "id": sample[0]["question_id"],
        "question": sample[0]["question"],
        "gold": sample[0].get("gold"),
        "models": models,
    }
