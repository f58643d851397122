"""Which column of an answer file is the model's answer. A file where that is in doubt is refused, never guessed at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.recognition import ANSWERS, owner_of_rows
from dpn_platform.benchmarks.prompts import LETTER_SENTENCE, SHORT_SENTENCE
from dpn_platform.config.errors import DpnError

# `text` is LLaVA's answer, and in its question files the question; `answer` is what the VQA servers take, and gold.
TEXT, ANSWER = "text", "answer"
_MODEL_WORDS = frozenset(
    "pred preds predict prediction predictions predicted response responses resps output outputs generated generation "
    "completion reply hypothesis".split()
)
#: words of columns that hold facts on an answer or a record, and no answer
_FACT_WORDS = frozenset(
    "id ids uid qid index image images img path file files name url hash token tokens time date timestamp seed version "
    "len length score scores prob probs logprob logprobs confidence num count type types category categories subject "
    "source subset split dataset task subtask benchmark topic level difficulty model metadata meta round option "
    "options char choice choices hint context lecture solution prompt question query input instruction conversations "
    "doc ocr reason reasoning rationale explanation thought thinking note comment status turn language "
    "family route sha video original".split()
)
#: words of columns that hold the gold
_GOLD_WORDS = frozenset(
    "gold gt ground label labels target truth reference references correct true answers human multiple".split()
)
#: columns beside which `text` is no question: LLaVA's answers have them, its question files have not
_BESIDE_ANSWERS = frozenset(("prompt", "question", "answer_id", "model_id"))
_IDS = frozenset(("question_id", "questionId", "id", "index"))
_OPTIONS = frozenset("ABCDEFGHI")
_SHOWN = 8
_ENDS_OF_QUESTIONS = ("?", "？", SHORT_SENTENCE, LETTER_SENTENCE)


@dataclass(frozen=True)
class _Form:
    """A form of answer files: what tells it, and columns beside its answer's that look like one and are none."""

    told_by: frozenset[str]
    beside: frozenset[str]


_FORMS = (
    _Form(frozenset(("filtered_resps",)), frozenset(("resps",))),  # lmms-eval
    _Form(frozenset(("prediction",)), frozenset((ANSWER,))),  # VLMEvalKit: its `answer` is the gold
    _Form(frozenset(("id", "question_type", "response")), frozenset((ANSWER,))),  # MMMU's authors: likewise
)


def answer_column(uri: str, rows: Sequence[Row]) -> str:
    """The column of the model's answers.

    Args:
        uri: for messages.
        rows: the records of the file.

    Raises:
        DpnError: no column, two that could be it, or the file is a benchmark's questions or annotations.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    written = [column for column in columns if _holds_text(rows, column)]
    candidates = [
        column
        for column in columns
        if (_is_plain(column) and column in written) or (_is_models(column) and _holds_any(rows, column))
    ] or [column for column in columns if _is_plain(column) or _is_models(column)][:1]
    for form in _FORMS:
        if form.told_by <= set(columns):
            candidates = [column for column in candidates if column not in form.beside]
    if len(candidates) > 1:
        raise DpnError(_doubt(uri, candidates))
    chosen = candidates[0] if candidates else None
    if chosen is None or _is_plain(chosen):
        _refuse_own_files(uri, rows, columns, chosen)
    if chosen is None:
        raise DpnError(f"{uri}, record 1: no answer (text); found: {_listed(columns)}")
    if _is_plain(chosen) and not (chosen == TEXT and _BESIDE_ANSWERS.intersection(columns)):
        others = [column for column in written if column != chosen and not _is_known(column)]
        if others:
            raise DpnError(_doubt(uri, [chosen, *others]))
    return chosen


def _refuse_own_files(uri: str, rows: Sequence[Row], columns: Sequence[str], chosen: str | None) -> None:
    """Names a benchmark's own questions or annotations, which a folder of it keeps beside the answers."""
    if chosen == TEXT and _BESIDE_ANSWERS.intersection(columns):
        return
    is_list = chosen not in (None, TEXT) and all(str(row.get(str(chosen)))[:1] == "[" for row in rows)
    has_humans = "answers" in columns or is_list
    owner = owner_of_rows(rows) or ("a VQA set" if has_humans else None)
    if owner and owner != ANSWERS:
        raise DpnError(
            f"{uri}: looks like {owner}'s own questions or annotations and holds no answers of a model "
            f"(found: {_listed(columns)})"
        )
    has_image = "image" in columns and not _IDS.isdisjoint(columns)
    if chosen == TEXT and (has_image or are_questions([row.get(TEXT) for row in rows])):
        raise DpnError(
            f"{uri}: looks like a question file, whose 'text' is what is asked: it holds no answers "
            f"(found: {_listed(columns)}; answers of LLaVA's have prompt, text and answer_id)"
        )


def are_questions(texts: Sequence[Any]) -> bool:
    """Whether every text ends as a question or as a prompt does."""
    return all(str(text).rstrip().endswith(_ENDS_OF_QUESTIONS) for text in texts)


def _doubt(uri: str, columns: Sequence[str]) -> str:
    names = " and ".join(f"'{column}'" for column in columns[:2])
    more = f" (and {len(columns) - 2} more)" if len(columns) > 2 else ""
    return f"{uri}: {names}{more} could both be the model's answer; leave one of them in the file"


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(str, columns[:_SHOWN])) + (", ..." if len(columns) > _SHOWN else "") or "nothing"


def _holds_any(rows: Sequence[Row], column: str) -> bool:
    return any(row.get(column) is not None for row in rows)


def _holds_text(rows: Sequence[Row], column: str) -> bool:
    return any(isinstance(unwrapped(row.get(column)), str) for row in rows)


def unwrapped(value: Any) -> Any:
    """The one text of a list, or of lists, as lmms-eval logs it; anything else as it is."""
    inner = value
    while isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    return inner if isinstance(inner, str) else value


def _is_plain(column: str) -> bool:
    return column.lower() in (TEXT, ANSWER)


def _is_models(column: str) -> bool:
    words = _words(column)
    if "model" in words and words & {TEXT, ANSWER}:
        return True
    return bool(words & _MODEL_WORDS) and not words & _FACT_WORDS


def _is_known(column: str) -> bool:
    """Whether a column beside the answer's is known to be something else: every word of its name says so."""
    words = {word for word in _words(column) if len(word) > 1}
    facts = words & (_FACT_WORDS | _GOLD_WORDS)
    return column in _OPTIONS or (bool(facts) and words - facts <= _MODEL_WORDS | {ANSWER})


def _words(column: str) -> set[str]:
    """`modelAnswer_1` -> model, answer, 1."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", str(column))}
