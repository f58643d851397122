"""The held-out split of a published data set: the first question of every row, exact match with its answer."""

from __future__ import annotations

import unicodedata
from typing import Any

from dpn_model.objects.answers import tight
from dpn_platform.benchmarks.contract import (
    FRACTION,
    PUBLISHED,
    REFERENCE,
    Benchmark,
    Headline,
    Inputs,
    Layout,
    Prompt,
    QuestionScore,
    Report,
    Row,
)
from dpn_platform.benchmarks.files.alignment import pair_known
from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.benchmarks.files.published import IMAGE_TAG, first_turn, published_rows, shown_boxes
from dpn_platform.benchmarks.statistics.aggregation import by_group
from dpn_platform.benchmarks.statistics.wilson import wilson_interval

NAME = "heldout"
TITLE = "the held-out split"
_SPLIT = "test"
#: `eval.max_new_tokens` decides; the answers of the sets we train on are single words
_LIMIT = 4


def prompt(record: Row, variant: str) -> Prompt:
    """The question as it stands, its tags with it: they say where its pictures are."""
    question, _ = first_turn(record)
    images = ("image",) if record["has_image"] else ()
    return Prompt(question, _LIMIT, images=images, boxes=shown_boxes(record))


def normalise_answer(text: str) -> str:
    """What counts of an answer: lower case, single spaces, none at tags, no full stop or quotes around it."""
    folded = tight(unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split()).strip(" .,!\"'")


def is_correct(answer: str, gold: str) -> bool:
    """Whether an answer is the expected one, word for word; an empty answer never is."""
    return normalise_answer(answer) != "" and normalise_answer(answer) == normalise_answer(gold)


def score(inputs: Inputs) -> Report:
    """The share of right answers with Wilson's interval, and of every family. A part of the split may be answered.

    Raises:
        DpnError: the files do not fit each other.
    """
    rows = [placed.row for placed in published_rows(inputs.annotations, inputs.split or _SPLIT)]
    answers = read_answers(inputs.predictions)
    pairs = pair_known(answers, lambda answer: answer.key, rows, lambda row: str(row["id"]), inputs, TITLE)
    questions, families = [], []
    for answer, row in pairs:
        if answer is not None:
            _, gold = first_turn(row)
            right = float(is_correct(answer.text, gold))
            questions.append(QuestionScore(answer.id, normalise_answer(answer.text), gold, right))
            families.append(row["source"])
    n, right = len(questions), sum(question.score > 0 for question in questions)
    headline = Headline("accuracy", right / n, wilson_interval(right, n), FRACTION)
    scores: dict[str, Any] = {
        "accuracy": headline.value,
        "family": by_group(questions, families),
        "protocol": {"split": inputs.split or _SPLIT, "parser": BENCHMARK.variants[inputs.variant]},
    }
    return Report(n, headline, scores, questions)


BENCHMARK = Benchmark(
    name=NAME,
    variants={REFERENCE: "exact match, ignoring case, blanks, and full stops or quotes around the answer"},
    limits={REFERENCE: _LIMIT},
    prompt=prompt,
    score=score,
    layouts=(Layout(PUBLISHED, _SPLIT, "manifest.json", annotations="", id="id", family="source"),),
    stored_prompt=lambda asked: asked.text.replace(IMAGE_TAG, "").strip(),
    dtype="float32",
    scores_parts=True,
)
