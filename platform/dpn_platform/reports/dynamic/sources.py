"""Where the outcomes of checkpoints lie: tables, folders of evaluations, and what was evaluated of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpn_platform.benchmarks.outcomes import OUTCOMES, Row
from dpn_platform.benchmarks.statistics.scored_runs import tables_in
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.recorded_runs import RESULT
from dpn_platform.reports.dynamic.material import ROUTES_COMMAND, Material, material_of, read_rows
from dpn_platform.storage import exists, open_uri, read_json

#: where `dpn evaluate` puts evaluations of a local checkpoint
LOCAL_EVALUATIONS = Path("outputs") / "evaluations"


def materials_at(place: str) -> list[Material]:
    """The outcomes of every checkpoint in an outcome table, a folder of evaluations, or of a checkpoint's own folder.

    Tables of one checkpoint are its benchmarks, and taken together.

    Raises:
        DpnError: no evaluation there, or a table of several checkpoints.
    """
    location = open_uri(place).uri.rstrip("/")
    tables = [location] if location.endswith(".parquet") else _tables_of(place, location)
    if not tables:
        raise DpnError(f"{place}: no outcomes there; make them: {ROUTES_COMMAND}")
    groups: dict[object, list[str]] = {}
    rows = {table: read_rows(table) for table in tables}
    for table in tables:
        # Refuses a table of several checkpoints; one that does not say its own stands for itself.
        own = material_of(table, rows[table]).own
        groups.setdefault(own[0].get("checkpoint") or table, []).append(table)
    found = []
    for members in groups.values():
        name = (place.rstrip("/") if len(groups) == 1 else members[0]).removesuffix(f"/{OUTCOMES}")
        of_group: list[Row] = [row for table in members for row in rows[table]]
        found.append(material_of(name, of_group))
    return found


def short_names(names: Sequence[str]) -> list[str]:
    """The ends of paths, as many parts of each as tell all of them apart."""
    parts = [name.split("/") for name in names]
    for count in range(1, max(map(len, parts), default=0) + 1):
        short = ["/".join(one[-count:]) for one in parts]
        if len(set(short)) == len(names):
            return short
    return list(names)


def _tables_of(place: str, location: str) -> list[str]:
    """Of a checkpoint's folder, those of its evaluations, wherever `dpn evaluate` puts them by default."""
    if not exists(f"{location}/config.json"):
        return tables_in(location)
    folder, _, name = location.rpartition("/")
    beside = [table for table in tables_in(f"{folder}/evaluation") if _is_of(table, location)]
    local = open_uri(str(LOCAL_EVALUATIONS / name)).uri
    return beside or [table for table in tables_in(local) if _is_of(table, location)]


def _is_of(table: str, checkpoint: str) -> bool:
    """Whether the result beside a table is of this checkpoint; a table without one may be anybody's."""
    result = f"{table.rpartition('/')[0]}/{RESULT}"
    return exists(result) and (read_json(result).get("key") or {}).get("checkpoint_uri", "").rstrip("/") == checkpoint
