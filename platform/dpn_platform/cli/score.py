"""`dpn score`: scores a predictions file offline, with the rules of the benchmark's own program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table
from dpn_platform.cli.scoring_options import named_values
from dpn_platform.config.errors import DpnError

_ARGUMENTS = "dpn.score.arguments"


class _ScoreCommand(TyperCommand):
    """`dpn score`, whose help ends with the variants of the benchmark that is named, or of all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)  # --help is answered before the benchmark's name is read
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from dpn_platform.benchmarks.registry import MODULES, benchmark_in_name, find_benchmark

        named = [name for word in ctx.meta[_ARGUMENTS] if (name := benchmark_in_name(word, whole=True))][:1]
        for benchmark in map(find_benchmark, named or MODULES):
            with formatter.section(f"Variants of {benchmark.name} (the first is the default)"):
                formatter.write_dl(list(benchmark.variants.items()))
            if benchmark.options:
                with formatter.section(f"Options of {benchmark.name}"):
                    formatter.write_dl(list(benchmark.options.items()))


def register(app: typer.Typer) -> None:
    """Adds `dpn score`."""
    app.command("score", cls=_ScoreCommand)(score)


def score(
    benchmark: Annotated[str, typer.Argument(help="vqav2, gqa, scienceqa-img, textvqa, vizwiz, mme, mmbench, ...")],
    predictions: Annotated[
        str, typer.Option(help="Answer file (question_id, text, ...) or folder of chunks; MM-Vet: the judge's grades.")
    ],
    annotations: Annotated[str | None, typer.Option(help="Gold: LLaVA's files or folders, or the parquet.")] = None,
    questions: Annotated[str | None, typer.Option(help="Question file, where it is apart from the gold.")] = None,
    variant: Annotated[str | None, typer.Option(help="Convention; the help's end lists each benchmark's.")] = None,
    split: Annotated[str, typer.Option(help="Of a data set that holds several; default: test.")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE; the help's end lists what there is.")
    ] = None,
    per_question: Annotated[
        str | None, typer.Option(help="Write each parsed answer and score: .parquet or lines.")
    ] = None,
    submission: Annotated[
        str | None, typer.Option(help="Write what the server or judge is sent here, and do not score.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Score a predictions file: percentages (MME: points), each sub-score, and a bootstrap 95% interval."""
    if submission is not None:
        _submit(benchmark, (predictions, annotations, questions, variant), submission, force, as_json)
        return
    with clean_stdout():
        from dpn_platform.benchmarks.registry import find_benchmark
        from dpn_platform.benchmarks.scoring import outcome_table, publish, question_lines, score_file

        if annotations is None:
            raise DpnError(f"{find_benchmark(benchmark).name}: --annotations is needed, the file with the gold answers")
        options = named_values(option)
        document, report = score_file(benchmark, predictions, annotations, questions, variant, seed, split, options)
        if per_question is not None:
            is_table = per_question.endswith(".parquet")
            lines = outcome_table(benchmark, report, seed) if is_table else question_lines(report)
            publish(per_question, lines, force=force)
    for sentence in report.notes:
        note(sentence)
    if as_json:
        print_json(document)
    else:
        _show(document)


def _submit(
    benchmark: str, files: tuple[str, str | None, str | None, str | None], target: str, force: bool, as_json: bool
) -> None:
    """Writes the submission file; gold is private there, so nothing is scored."""
    with clean_stdout():
        from dpn_platform.benchmarks.contract import Inputs
        from dpn_platform.benchmarks.registry import check_variant, find_benchmark
        from dpn_platform.benchmarks.scoring import publish, submission_of

        predictions, annotations, questions, variant = files
        found = find_benchmark(benchmark)
        inputs = Inputs(predictions, annotations or "", questions, check_variant(found, variant))
        publish(target, submission_of(benchmark, inputs, target), force=force)
    if as_json:
        print_json({"benchmark": found.name, "variant": inputs.variant, "submission": target})
    else:
        note(f"{found.name}: {target} is ready to be sent; nothing was scored")


def _show(document: Mapping[str, Any]) -> None:
    headline = document["headline"]
    low, high = headline["ci95"]
    title = f"{document['benchmark']} ({document['variant']}), n = {document['n']}"
    value = f"{headline['value']:.2f}   95% interval {low:.2f} to {high:.2f}"
    simple = {name: item for name, item in document["scores"].items() if not isinstance(item, Mapping)}
    print_facts(title, {f"headline: {headline['name']}": value, **{name: _cell(item) for name, item in simple.items()}})
    for name, group in document["scores"].items():
        if isinstance(group, Mapping):
            _show_group(name, group)


def _show_group(name: str, group: Mapping[str, Any]) -> None:
    """A sub-table: one row per member, with the members' own figures as columns."""
    if not all(isinstance(item, Mapping) for item in group.values()):
        print_facts(name, {key: _cell(value) for key, value in group.items()})
        return
    columns = list(dict.fromkeys(column for member in group.values() for column in member))
    rows = [(key, *(_cell(member.get(column)) for column in columns)) for key, member in group.items()]
    print_table(name, ("", *columns), rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) or "none"
    return "not scored" if value is None else str(value)
