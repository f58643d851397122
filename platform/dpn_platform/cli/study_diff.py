"""`dpn study diff`: what two studies differ in: settings, trials, points, fronts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table, print_text
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, locate
from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.load import difference, difference_of_values, parse_config

if TYPE_CHECKING:
    from dpn_platform.reports.study.changes import Move
    from dpn_platform.reports.study.pairs import Pairs
    from dpn_platform.sweeps.catalogue import Standing


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A study, as in `dpn study show`.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The study that is compared with it.")],
    runs_uri: RunsUri = DEFAULT_RUNS,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two studies: settings, trials of one alone, points that moved, fronts, with paired intervals."""
    with clean_stdout():
        ledgers = [locate(name, runs_uri) for name in (first, second)]
        from dpn_platform.evaluation.points import without_nan
        from dpn_platform.reports.study.changes import changes_between
        from dpn_platform.reports.study.changes_text import conclusion
        from dpn_platform.sweeps.catalogue import read_study

        studies = [read_study(ledger) for ledger in ledgers]
        one, other = studies
        names = _names(one, other)
        convention = one.convention
        changed, trials = _settings(one, other), _trials(one, other)
        moves, front = changes_between(one.points, other.points, convention, seed)
        sentences = conclusion(*names, moves, front)
    faults = [fault for study in studies for fault in study.faults]
    if as_json:
        about = {"studies": [study.ledger.uri for study in studies], "flops_convention": convention, "seed": seed}
        document = {
            **about,
            "settings": changed,
            "only_in_first": trials.only_first,
            "only_in_second": trials.only_second,
            "points": [move.to_json() for move in moves],
            "fronts": front.to_json(),
            "conclusion": sentences,
            "faults": faults,
        }
        print_json(without_nan(document))
        return
    _show(names, changed, trials, moves, convention)
    for line in sentences:
        print_text(line)
    if other.convention != convention:
        note(f"costs are compared as {convention}; {names[1]} was searched by {other.convention}")
    for fault in faults:
        note(f"damaged, left out: {fault}")


def _names(first: Standing, second: Standing) -> tuple[str, str]:
    """Of the studies; their addresses where they are called alike.

    Raises:
        DpnError: they are one.
    """
    if first.ledger.uri == second.ledger.uri:
        raise DpnError(f"{first.ledger.uri} is one study; name another one to compare it with")
    if first.name == second.name:
        return first.ledger.uri, second.ledger.uri
    return first.name, second.name


def _settings(first: Standing, second: Standing) -> list[str]:
    """`key: old -> new`; as they were written where one of the methods is not installed here."""
    try:
        old, new = (parse_config(one.settings, f"study '{one.name}'") for one in (first, second))
    except ConfigError:
        return difference_of_values(first.settings, second.settings)
    return difference(old, new)


def _trials(first: Standing, second: Standing) -> Pairs:
    from dpn_platform.reports.study.pairs import pair, settings_text

    texts = [
        {one.key: settings_text(str(one.params.get("method.name")), one.params, one.on) for one in study.trials}
        for study in (first, second)
    ]
    return pair(*texts)


def _show(
    names: tuple[str, str], changed: Sequence[str], trials: Pairs, moves: Sequence[Move], convention: str
) -> None:
    from dpn_platform.reports.look.labels import percent, ratio, signed_points

    rows: list[Sequence[Any]] = [line.partition(": ")[::2] for line in changed]
    rows = [(key, *values.partition(" -> ")[::2]) for key, values in rows]
    if rows:
        print_table("settings that differ", ("key", *names), rows)
    for name, keys in zip(names, (trials.only_first, trials.only_second), strict=True):
        if keys:
            print_text(f"trials only in {name}: {', '.join(keys)}")
    lines = [
        (
            " / ".join(dict.fromkeys(move.names)) + ("" if move.same_settings else " (other settings)"),
            *(percent(value) for value in move.accuracy),
            signed_points(move.change.value) + ("" if move.change.is_resolved else " ~"),
            f"{signed_points(move.change.low)} to {signed_points(move.change.high)}",
            "paired" if move.unpaired is None else "unpaired",
            *(ratio(value) for value in move.cost),
        )
        for move in moves
    ]
    if lines:
        head = ("point", "accuracy % A", "B", "B - A", "95% interval", "kind", f"FLOPs {convention} A", "B")
        print_table(f"A: {names[0]}, B: {names[1]} (~: difference inside its interval)", head, lines)
