"""What a benchmark is: prompts from question records, a report from an answer file. Everything here is plain data.

Units: the score of a question lies between 0 and 1. A benchmark's headline and sub-scores are percentages, as in the
papers' tables, MME's are points, and the held-out split's is a fraction; a headline names its unit, and `UNITS` makes a
fraction of it, which is what an accuracy is everywhere else. Ratios (`yes_ratio`) are fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Row = Mapping[str, Any]

REFERENCE = "reference"
HARNESS = "harness"
FRACTION, PERCENT, POINTS = "fraction", "percent", "points"
#: unit of a headline -> what it is divided by to become a fraction; points: MME/20 is a percentage
UNITS = {FRACTION: 1.0, PERCENT: 100.0, POINTS: 2000.0}


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, without its conversation template.

    Attributes:
        text: the question with its post-prompt; the image tag and a newline go before it when there are images.
        max_new_tokens: limit of the greedy answer.
        images: names of the record's fields that hold the images, in order; empty for a question without image.
        fixed_answer: the answer where the protocol does not run the model at all.
        boxes: (x1, y1, x2, y2) in pixels of the one picture, which answers name by their numbers; None: there are none.
    """

    text: str
    max_new_tokens: int
    images: tuple[str, ...] = ("image",)
    fixed_answer: str | None = None
    boxes: tuple[tuple[float, ...], ...] | None = None


LLAVA = "llava"
PARQUET = "parquet"
PUBLISHED = "published"


@dataclass(frozen=True)
class Layout:
    """Where a published layout keeps one split of the questions, relative to its root.

    Attributes:
        name: "llava" (the folders of LLaVA's `eval/`), "parquet" (the Hugging Face data set) or "published" (a data
            set of `dpn data ingest`, told by its manifest).
        split: what people call it; of parquet files, also how their names begin.
        questions: file or folder of the questions.
        images: folder of the pictures; a parquet folder where another table holds them; empty where the questions do.
        annotations: file or folder of the gold, empty where it stands beside the questions; None where it is private.
        id: column that answers are joined by; empty for the row's place.
        picture: column, or rule, whose equal values mean the same picture; empty where nothing says so.
        family: column that groups the questions in routing statistics; empty without one.
        caution: what must be said beside a score on this split, or in place of one.
        all_questions: question file whose every id the server wants, where that is more than is asked.
        is_asked: whether a row is a question of the benchmark; None: every one is.
    """

    name: str
    split: str
    questions: str
    images: str = ""
    annotations: str | None = None
    id: str = "question_id"
    picture: str | Callable[[Row], Any] = ""
    family: str = ""
    caution: str = ""
    all_questions: str = ""
    is_asked: Callable[[Row], bool] | None = None


@dataclass(frozen=True)
class Inputs:
    """The files of one scoring, as URIs, and how they are read.

    Attributes:
        split: where the files do not say it themselves.
        options: of the benchmark's, see `Benchmark.options`.
    """

    predictions: str
    annotations: str
    questions: str | None = None
    variant: str = REFERENCE
    seed: int = 0
    split: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class QuestionScore:
    """One question: `parsed` is what the parser made of the answer (None: nothing), `score` lies between 0 and 1.

    Attributes:
        part: subtask or category that the headline scores apart (MME, POPE); None where it is one mean.
        unit: what counts as a whole: MME's image, MMBench's question with its rotations; None: the question alone.
        in_headline: whether the headline counts it.
        random_fallback: no rule read the answer, and `parsed` was drawn, as the benchmark's program does (MMMU).
        prompt: of the question, where several share an id (MME); not written down.
    """

    id: Any
    parsed: Any
    gold: Any
    score: float
    part: str | None = None
    unit: str | None = None
    in_headline: bool = True
    random_fallback: bool = False
    prompt: str | None = None

    def to_json(self) -> dict[str, Any]:
        """`{id, parsed, gold, score}`, and of the other fields what says something."""
        plain = {"id": self.id, "parsed": self.parsed, "gold": self.gold, "score": self.score}
        more = {"part": self.part, "unit": self.unit, "in_headline": None if self.in_headline else False}
        more["random_fallback"] = True if self.random_fallback else None
        return plain | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True)
class Headline:
    """The number a paper prints, with the bootstrap's 95% interval."""

    name: str
    value: float
    ci95: tuple[float, float]
    unit: str = PERCENT


@dataclass(frozen=True)
class Report:
    """What scoring found.

    Attributes:
        n: what the headline is a mean over (questions; MMBench: questions with all their rotations).
        scores: every sub-score, and `protocol`: what must be known to compare the number.
        notes: sentences for people, such as questions that had no answer.
    """

    n: int
    headline: Headline
    scores: dict[str, Any]
    questions: Sequence[QuestionScore] = field(repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: canonical name, as on the command line and in metric keys.
        variants: name -> one line on what differs; the first is the default.
        limits: variant -> new tokens an answer may have, stored with every score.
        prompt: the prompt of a question record (a line of LLaVA's question file or a row of the parquet layout).
        score: the report of an answer file.
        submission: what a server or judge is sent, where gold is private: bytes by file suffix.
        layouts: where questions, pictures and gold lie in each published layout; the first is the default.
        submission_suffix: of the file that the server or judge takes.
        stored_prompt: what LLaVA's answer file keeps of a prompt; None: its text.
        answer_fields: what a line of its answer file has beside LLaVA's common fields.
        dtype: of the weights where the user leaves it open, see `evaluation.answering.loading.load_model`.
        scores_parts: whether the first questions of a split may be scored alone.
        families: of a published data set, the families of records that are asked, see `is_of_families`; none: all.
        options: name -> one line on what scoring may be given beside its files.
    """

    name: str
    variants: Mapping[str, str]
    limits: Mapping[str, int]
    prompt: Callable[[Row, str], Prompt]
    score: Callable[[Inputs], Report]
    submission: Callable[[Inputs, str], bytes] | None = None
    layouts: tuple[Layout, ...] = ()
    submission_suffix: str = ".json"
    stored_prompt: Callable[[Prompt], str] | None = None
    answer_fields: Callable[[Row], dict[str, Any]] | None = None
    dtype: str = "auto"
    scores_parts: bool = False
    families: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def asks_data_set(self) -> bool:
        """Whether its questions are rows of a published data set: the experiment's own where no other is named."""
        return any(layout.name == PUBLISHED for layout in self.layouts)


def is_of_families(family: str, families: Sequence[str]) -> bool:
    """Whether a family is among these names, of which `*` stands for anything; without names every one is."""
    return not families or any(fnmatchcase(family, name) for name in families)
