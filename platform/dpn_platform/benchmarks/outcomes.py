"""The outcome table: one row per question and variant of the model. The one place that names its columns.

`dpn evaluate` writes it with routes and costs, `dpn score` (for answers of other programs) without; intervals, paired
tests, routing statistics and galleries read nothing else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpn_platform.benchmarks.contract import QuestionScore
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import read_bytes

OUTCOMES = "outcomes.parquet"
Row = Mapping[str, Any]

#: figures of the question's first picture; null without one
IMAGE_COLUMNS = (
    ("image_width", pa.int32()),
    ("image_height", pa.int32()),
    ("edge_density", pa.float64()),  # share of pixels, 0 to 1
    ("image_entropy", pa.float64()),  # of the grey levels, bits
)
SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("variant", pa.string()),  # of the model, empty for the checkpoint as it is
        ("place", pa.int64()),  # in the question file; of a published data set, the row id
        ("question_id", pa.string()),
        ("unit", pa.string()),  # what a headline's interval draws as a whole: MME's image, MMBench's rotations, ...
        ("part", pa.string()),  # subtask or category that the headline scores apart
        ("family", pa.string()),
        ("difficulty", pa.string()),
        ("in_headline", pa.bool_()),
        ("score", pa.float64()),  # 0 to 1; null where nothing was scored
        ("answer", pa.string()),
        ("parsed", pa.string()),  # what the parser made of the answer; JSON where that is no text
        ("gold", pa.string()),  # likewise
        ("question", pa.string()),
        ("has_image", pa.bool_()),  # whether the model was shown one
        ("image_sha", pa.string()),  # tells which questions share their pictures
        *IMAGE_COLUMNS,
        ("has_router", pa.bool_()),  # whether the model chose the route itself
        ("route", pa.string()),  # one choice per site, joined by commas; empty for a model without sites
        ("sites", pa.list_(pa.int32())),  # 1-based layers after which a reduction ran
        ("visual_tokens", pa.list_(pa.int32())),  # before the first site and after each
        ("visual_tokens_mean", pa.float64()),  # over the layers
        ("text_tokens", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("new_tokens", pa.int32()),
        ("kv_bytes", pa.int64()),  # of the prompt, all layers
        # Multiply-accumulates of the prefill, by convention, and of the same prompt without reduction.
        ("eq8_macs", pa.int64()),
        ("eq8_dense", pa.int64()),
        ("swiglu_macs", pa.int64()),
        ("swiglu_dense", pa.int64()),
        ("executed_macs", pa.int64()),  # all that ran, vision tower and selector included; null where not counted
        ("executed_dense", pa.int64()),
        ("latency_ms", pa.float64()),  # a question's share of its batch; null where not measured
        ("checkpoint", pa.string()),  # digest
        ("method", pa.string()),
        ("settings", pa.string()),  # of the method, JSON
        ("budget", pa.float64()),  # of the dial, as a FLOPs ratio
        ("seed", pa.int64()),
    ]
)
#: names that earlier versions gave to columns
_OLD_NAMES = {"row_id": "place", "id": "question_id", "correct": "score"}


def is_right(row: Row) -> bool | None:
    """Whether an answer counts as right; None where it was not scored."""
    return None if row.get("score") is None else float(row["score"]) >= 0.5


def scored_columns(score: QuestionScore) -> dict[str, Any]:
    """What a scored question says in the table."""
    return {
        "unit": score.unit,
        "part": score.part,
        "in_headline": score.in_headline,
        "score": score.score,
        "parsed": _text(score.parsed),
        "gold": _text(score.gold),
    }


def scored_question(row: Row) -> QuestionScore:
    """The question back; values that were no texts stay JSON."""
    return QuestionScore(
        id=row["question_id"],
        parsed=row["parsed"],
        gold=row["gold"],
        score=float(row["score"]),
        part=row["part"],
        unit=row["unit"],
        in_headline=bool(row["in_headline"]),
    )


def encode_table(rows: Iterable[Row]) -> bytes:
    """The parquet file; what a row does not say is null."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink, compression="zstd")
    return bytes(sink.getvalue())


def read_table(uri: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a table, with the names of today whichever version wrote them.

    Args:
        uri: of the file.
        columns: read these alone, as far as the table has them; default: all.

    Raises:
        DpnError: nothing there, or no parquet.
    """
    return read_columns(uri, columns).to_pylist()


def read_columns(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as columns, which many tables of many questions are compared by."""
    try:
        file = pq.ParquetFile(io.BytesIO(read_bytes(uri)))
        stored = file.schema_arrow.names
        names = {_OLD_NAMES.get(name, name): name for name in stored}
        chosen = [name for name in names if columns is None or name in columns]
        return file.read([names[name] for name in chosen]).rename_columns(chosen)
    except pa.ArrowInvalid as error:
        raise DpnError(f"{uri}: cannot be read as parquet: {error}") from None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
