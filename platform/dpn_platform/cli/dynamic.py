"""`dpn report dynamic`: does a method that chooses per sample choose better than a coin? Proof or refusal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table, print_text
from dpn_platform.config.errors import DpnError

if TYPE_CHECKING:
    from dpn_platform.evaluation.points import Convention
    from dpn_platform.reports.dynamic.material import Material
    from dpn_platform.reports.dynamic.proof import Gain, Proof

NAMES = ("dynamic.html", "dynamic.json", "dynamic.png")
_CONVENTIONS = ("swiglu", "eq8", "executed")


def dynamic(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|CHECKPOINT",
            help="A study; or checkpoints, folders of `dpn evaluate --routes all`, outcomes.parquet files. Evaluations "
            "of trained pyramids and of the dense model on the same questions are held against the others.",
        ),
    ],
    flops: Annotated[str | None, typer.Option(help="swiglu, eq8 or executed; default: the study's, or swiglu.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder or URI; default: outputs/dynamic/NAME.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap and the shuffles.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace files in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Prove that routes chosen per sample beat a coin at equal mean cost, or say that it is not shown.

    Every operating point (the checkpoint as it is, each budget of its dial) is held against the best static mixture of
    its own routes, against separately trained pyramids, and against its own routes shuffled among the samples, with
    paired intervals. Beside the verdict: how many questions it takes, ties, what there was to gain, what the routes
    tell of the sample, the spread of costs. Outcomes per route come from `dpn evaluate CHECKPOINT --routes all`.
    """
    if flops is not None and flops not in _CONVENTIONS:
        raise DpnError(f"--flops {flops} is unknown; allowed are {', '.join(_CONVENTIONS)}")
    with clean_stdout():
        from dpn_platform.benchmarks.scoring import publish
        from dpn_platform.reports.dynamic.export import document_json, dynamic_document
        from dpn_platform.reports.dynamic.figure import dynamic_png
        from dpn_platform.reports.dynamic.page import cautions, dynamic_page

        materials, convention = _materials(sources)
        proofs = _proofs(sources, materials, flops or convention, seed)
        name = ", ".join(dict.fromkeys(one.name for one in proofs)) if len(sources) > 1 else _last_part(sources[0])
        png = dynamic_png(proofs, name)
        contents = (dynamic_page(proofs, name, png).encode(), document_json(proofs).encode(), png)
        folder = (out or str(Path("outputs") / "dynamic" / re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80])).rstrip("/")
        files = [f"{folder}/{file}" for file in NAMES]
        for file, data in zip(files, contents, strict=True):
            publish(file, data, force=force or out is None)
    if as_json:
        print_json(dynamic_document(proofs) | {"files": files})
        return
    for line in cautions(proofs):
        note(line)
    _show(proofs)
    note(f"files: {', '.join(files)}")


def _materials(sources: Sequence[str]) -> tuple[list[Material], Convention]:
    """The outcomes behind every argument under names that differ, and the study's convention of cost."""
    from dataclasses import replace

    from dpn_platform.cli.starting import services_for
    from dpn_platform.reports.dynamic.material import materials_of_points
    from dpn_platform.reports.dynamic.sources import materials_at, short_names
    from dpn_platform.reports.study.source import is_place, is_study, points_of_trials, read_study, study_from_mlflow

    found: list[Material] = []
    conventions: list[Convention] = []
    places = {source for source in sources if is_place(source) or source.endswith(".parquet")}
    with services_for(*sources, ray=False, mlflow=len(places) < len(set(sources))):
        for source in sources:
            if source in places and not is_study(source):
                found += materials_at(source)
                continue
            record = read_study(source) if source in places else study_from_mlflow(source)
            # The record of a study that has ended holds its seeds as one point; its ledger has each by itself.
            points = (points_of_trials(source) if source in places else ()) or record.points
            conventions.append(record.convention)
            with services_for(*(point.outcomes_uri for point in points), ray=False):  # elsewhere than the record, maybe
                of_study = materials_of_points(points).values()
            found += [replace(one, name=f"{source.rstrip('/')}/{one.name}") for one in of_study]
    named = [replace(one, name=name) for one, name in zip(found, short_names([one.name for one in found]), strict=True)]
    return named, conventions[0] if conventions else "swiglu"


def _proofs(sources: Sequence[str], materials: Sequence[Material], convention: str, seed: int) -> list[Proof]:
    """Of all that was measured on its routes.

    Raises:
        DpnError: nothing was, or outcomes do not fit together.
    """
    from dpn_platform.reports.dynamic.material import ROUTES_COMMAND
    from dpn_platform.reports.dynamic.prove import proofs_of

    subjects = [one for one in materials if one.on_routes]
    if not subjects:
        raise DpnError(f"{', '.join(sources)}: no outcomes per route; make them: {ROUTES_COMMAND}")
    proofs: list[Proof] = []
    for one in subjects:
        proofs += proofs_of(one, materials, convention, seed)  # type: ignore[arg-type]
    return proofs


def _show(proofs: Sequence[Proof]) -> None:
    from dpn_platform.reports.dynamic.proof import DECISIVE, summary_of
    from dpn_platform.reports.look.labels import NOT_MEASURED, percent, signed_points

    rows = [
        (
            one.told,
            NOT_MEASURED if one.cost is None else f"{one.cost:.3f}",
            percent(one.accuracy),
            *(_cell(one.gain(against)) for against in DECISIVE),
            "dynamic" if one.is_dynamic else "not shown",
        )
        for one in proofs
    ]
    heads = ("over static mixture", "over trained pyramids", "over routes shuffled")
    title = "Choice per sample against a coin, at equal mean cost (points, 95% intervals)"
    print_table(title, ("point", f"FLOPs {proofs[0].convention}", "accuracy %", *heads, "verdict"), rows)
    lines = []
    for one in proofs:
        if one.oracle is None:
            continue
        family, closed = one.oracle.per_family, one.oracle.closed_per_family
        lines.append(
            (
                one.told,
                percent(one.ties),
                NOT_MEASURED if family is None else signed_points(family),
                signed_points(one.oracle.per_sample),
                NOT_MEASURED if closed is None else f"{closed:.2f}",
                f"{one.entropy:.2f}",
                ", ".join(f"{name} {bits.bits:.2f} ({bits.by_chance:.2f})" for name, bits in one.information.items()),
                percent(one.gains[0].resolvable, 2),
            )
        )
    head = ("point", "ties %", "route per family", "upper bound", "closed", "entropy", "bits (by chance)", "resolvable")
    if lines:
        print_table("What there was to gain over the static mixture (points), and what routes tell", head, lines)
    for one in proofs:
        print_text(f"{one.told}: {one.verdict}")
    print_text(summary_of(proofs))


def _cell(gain: Gain | None) -> str:
    from dpn_platform.reports.look.labels import NOT_MEASURED, signed_points

    if gain is None:
        return NOT_MEASURED
    return f"{signed_points(gain.value)} ({' to '.join(signed_points(bound) for bound in gain.ci)})"


def _last_part(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2].removesuffix(".parquet") or source
