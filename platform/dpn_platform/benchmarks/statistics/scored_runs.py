"""Scored runs and how two are joined: outcome tables, or a file per benchmark of `dpn score --per-question`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpn_platform.benchmarks.contract import QuestionScore
from dpn_platform.benchmarks.outcomes import OUTCOMES, read_table, scored_question
from dpn_platform.benchmarks.registry import MODULES, benchmark_in_name
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, list_files, open_uri, read_bytes

SUFFIXES = (".jsonl", ".json")
Key = tuple[str, ...]
#: of an outcome table: what `scored_question` reads, and what tells whose rows they are
_COLUMNS = ("benchmark", "variant", "question_id", "parsed", "gold", "score", "part", "unit", "in_headline")


@dataclass(frozen=True)
class ScoredRun:
    """One run: benchmark -> every question that its headline counts, under a key that other runs have too."""

    name: str
    uri: str
    benchmarks: Mapping[str, Mapping[Key, QuestionScore]]


def read_runs(uris: Sequence[str], benchmarks: Sequence[str] = ()) -> list[ScoredRun]:
    """The runs in the order given, their names made different.

    Args:
        uris: outcome tables; per-question files; or folders with one of these per benchmark, files named after it.
        benchmarks: canonical names; of a folder only these are read. A single one says what single files hold,
            whatever they are called.

    Raises:
        DpnError: nothing there, not per-question files, a file that names no benchmark, or runs of other benchmarks.
    """
    runs = [_read_run(uri, benchmarks) for uri in uris]
    for run in runs:
        _same_benchmarks(runs[0], run)
    while repeated := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        places = {id(run): place for place, run in enumerate(runs, start=1)}
        runs = [replace(run, name=f"{run.name} ({places[id(run)]})") if run.name in repeated else run for run in runs]
    return runs


def matched(base: ScoredRun, other: ScoredRun, benchmark: str) -> list[tuple[QuestionScore, QuestionScore]]:
    """The questions of one benchmark in both runs, side by side.

    Raises:
        DpnError: the runs answered other questions, or were scored against other answers.
    """
    mine, theirs = base.benchmarks[benchmark], other.benchmarks[benchmark]
    both = f"{benchmark}: {base.name} and {other.name}"
    lacking = [key for key in mine if key not in theirs]
    added = [key for key in theirs if key not in mine]
    if lacking or added:
        parts = [(lacking, f"only in {base.uri}"), (added, f"only in {other.uri}")]
        found = "; ".join(f"{len(keys)} {where} ('{keys[0][1]}')" for keys, where in parts if keys)
        raise DpnError(f"{both} answer other questions ({found}); a paired comparison needs the same questions in both")
    differing = [key for key, question in mine.items() if question.gold != theirs[key].gold]
    if differing:
        raise DpnError(
            f"{both} were scored against other answers ({len(differing)} questions, '{differing[0][1]}'); "
            "score both with the same annotations and variant"
        )
    return [(question, theirs[key]) for key, question in mine.items()]


def _same_benchmarks(base: ScoredRun, other: ScoredRun) -> None:
    for run, fuller in ((base, other), (other, base)):
        lacking = [name for name in fuller.benchmarks if name not in run.benchmarks]
        if lacking:
            raise DpnError(
                f"{run.uri} has no {', '.join(lacking)}, {fuller.uri} has; the same benchmarks are needed in every run "
                "(--benchmark NAME picks some)"
            )


def _read_run(uri: str, benchmarks: Sequence[str]) -> ScoredRun:
    location = open_uri(uri).uri
    tables = [location] if location.endswith(".parquet") else tables_in(location)
    if tables:
        return _read_tables(uri, location, tables, benchmarks)
    if location.endswith(SUFFIXES):
        held = benchmarks[0] if len(benchmarks) == 1 else _benchmark_of(location)
        folder, _, file = location.rpartition("/")
        # A file named after its benchmark says nothing of the run: its folder does.
        is_plain = benchmark_in_name(file.rpartition(".")[0], whole=True) is not None
        run_name = folder.rpartition("/")[2] if is_plain else file.rpartition(".")[0]
        return ScoredRun(run_name, uri, {held: read_questions(location, held)})
    files = [file for suffix in SUFFIXES for file in list_files(location, suffix, recursive=False)]
    named = {file: benchmark_in_name(file.rpartition("/")[2].rpartition(".")[0]) for file in files}
    found: dict[str, str] = {}
    for file, name in named.items():
        if name is not None and found.setdefault(name, file) != file:
            raise DpnError(f"{uri}: two files for {name}: {_file_name(found[name])} and {_file_name(file)}; keep one")
    if not found:
        raise DpnError(
            f"{uri}: no per-question file there; `dpn score --per-question` writes them, named after the benchmark "
            f"({', '.join(MODULES)}) with .jsonl"
        )
    absent = [name for name in benchmarks if name not in found]
    if absent:
        raise DpnError(f"{uri}: no per-question file of {', '.join(absent)} there; found {', '.join(found)}")
    ordered = [name for name in MODULES if name in (benchmarks or found)]
    return ScoredRun(
        location.rstrip("/").rpartition("/")[2], uri, {name: read_questions(found[name], name) for name in ordered}
    )


def tables_in(folder: str) -> list[str]:
    """The outcome table of a folder; where it has none, those of the folders in it."""
    if folder.endswith(SUFFIXES):
        return []
    own = f"{folder.rstrip('/')}/{OUTCOMES}"
    if exists(own):
        return [own]
    return [file for file in list_files(folder, ".parquet") if _file_name(file) == OUTCOMES]


def _read_tables(uri: str, location: str, tables: Sequence[str], benchmarks: Sequence[str]) -> ScoredRun:
    """The scored questions of the checkpoint as it is.

    Raises:
        DpnError: nothing there was scored, or a benchmark that was asked for is missing.
    """
    found: dict[str, list[QuestionScore]] = {}
    for table in tables:
        for row in read_table(table, _COLUMNS):
            if row.get("score") is not None and not row.get("variant"):
                found.setdefault(row["benchmark"], []).append(scored_question(row))
    absent = [name for name in benchmarks if name not in found]
    if not found or absent:
        what = ", ".join(absent) or "benchmark"
        raise DpnError(f"{uri}: no scored question of {what} there; found {', '.join(found) or 'none'}")
    parts = location.rstrip("/").split("/")
    name = parts[-1] if not location.endswith(".parquet") else parts[-2] if parts[-1] == OUTCOMES else parts[-1]
    ordered = [name for name in MODULES if name in found and name in (benchmarks or found)]
    return ScoredRun(name, uri, {name: keyed(tables[0], name, found[name]) for name in ordered})


def _benchmark_of(location: str) -> str:
    name = benchmark_in_name(_file_name(location).rpartition(".")[0])
    if name is None:
        raise DpnError(
            f"{_file_name(location)}: the file's name does not say its benchmark; name it after one of "
            f"{', '.join(MODULES)}, or give --benchmark"
        )
    return name


def read_questions(uri: str, benchmark: str) -> dict[Key, QuestionScore]:
    """The questions of a per-question file that the headline counts, by part, id and (where ids repeat) answer.

    Raises:
        DpnError: a line is no scored question; the line is named.
    """
    lines = read_bytes(uri).decode("utf-8", errors="replace").splitlines()
    return keyed(uri, benchmark, [_question(uri, place, line) for place, line in enumerate(lines, 1) if line.strip()])


def keyed(uri: str, benchmark: str, questions: Sequence[QuestionScore]) -> dict[Key, QuestionScore]:
    """The questions that the headline counts, by part, id and (where ids repeat) answer.

    Raises:
        DpnError: there are none, or they lack what the headline is made of.
    """
    rows = [row for row in questions if row.in_headline]
    if not rows:
        raise DpnError(f"{uri}: no scored question that {benchmark}'s headline counts")
    if benchmark == "mme" and any(row.part is None or row.unit is None for row in rows):
        raise DpnError(f"{uri}: MME questions without subtask and image; score them again with `dpn score mme`")
    ids = Counter((row.part or "", str(row.id)) for row in rows)
    seen: Counter[Key] = Counter()
    found: dict[Key, QuestionScore] = {}
    for row in rows:
        key: Key = (row.part or "", str(row.id))
        if ids[key[0], key[1]] > 1:  # MME's two questions of an image share an id and differ in their answer
            key += (json.dumps(row.gold),)
            seen[key] += 1
            key += (str(seen[key]),)
        found[key] = row
    return found


def _question(uri: str, number: int, line: str) -> QuestionScore:
    where = f"{uri}, line {number}"
    try:
        row: Any = json.loads(line)
        return QuestionScore(**{**row, "score": float(row["score"])})
    except ValueError:
        raise DpnError(f"{where}: not valid JSON lines with a numeric score") from None
    except (TypeError, KeyError):
        raise DpnError(
            f"{where}: no scored question; a file of `dpn score --per-question` has id, parsed, gold, score"
        ) from None


def _file_name(uri: str) -> str:
    return uri.rpartition("/")[2]
