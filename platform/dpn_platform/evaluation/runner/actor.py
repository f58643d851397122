"""The stateful worker: one model on one device, which answers shard after shard and writes each as it is done."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from dpn_model.objects.boxes import box_array
from dpn_model.objects.record import Objects
from dpn_platform.benchmarks.files.questions import PictureRef, Question
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.contract import Answered, EncodedQuestion, Picture, Timing
from dpn_platform.evaluation.answering.loading import Checkpoint, load_model
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant
from dpn_platform.evaluation.image_statistics import image_statistics
from dpn_platform.evaluation.runner.lines import ShardFiles, answer_line
from dpn_platform.evaluation.runner.pictures import decode, fetch
from dpn_platform.evaluation.runner.shards import Shard

_DECODERS = 4
#: questions times routes that are answered together, in batches: routes drop tokens, and share their first layers
_WIDENING = 4
_DONE = pa.schema([("shard", pa.string()), ("questions", pa.int64()), ("refusal", pa.string())])


@dataclass(frozen=True)
class AnswererSettings:
    """What every worker is told.

    Attributes:
        output_uri: folder that shards are written below.
        batch_size: questions per forward pass.
        num_threads: of torch; 0 leaves torch's own choice.
        trust_remote_code: see `load_model`.
        variants: what the checkpoint answers as, one after another over every shard's pictures.
    """

    checkpoint: Checkpoint
    output_uri: str
    batch_size: int
    dtype: str = "auto"
    num_threads: int = 0
    use_gpu: bool = False
    trust_remote_code: bool = False
    variants: tuple[Variant, ...] = (AS_IT_IS,)


def with_pictures(table: pa.Table) -> Iterator[pa.Table]:
    """Stage before the worker, on any CPU: a shard with the encoded pictures of its questions, or why there are none.

    Rows have `shard`, `pictures` (pickled) and `refusal`.
    """
    for packed in table.column("shard").to_pylist():
        pictures, refusal = None, None
        try:
            # Pickled as one value: Arrow's own lists would copy every picture twice more.
            pictures = pickle.dumps(fetch(pickle.loads(packed).pictures()))
        except DpnError as error:
            refusal = str(error)
        yield pa.table(
            {
                "shard": [packed],
                "pictures": pa.array([pictures], pa.large_binary()),
                "refusal": pa.array([refusal], pa.string()),
            }
        )


class ShardAnswerer:
    """Callable for `map_batches`: shards with their pictures to a line about each.

    What we refuse travels as a text in column `refusal`: of an exception, Ray Data passes on nothing but a traceback.
    """

    def __init__(self, settings: AnswererSettings) -> None:
        if settings.num_threads:
            import torch  # here: the tasks that fetch pictures import this file and run no model

            torch.set_num_threads(settings.num_threads)
        self.settings = settings
        self.files = ShardFiles(settings.output_uri)
        self.is_warm = False
        self.refusal: str | None = None
        try:
            self.model = load_model(
                settings.checkpoint,
                use_gpu=settings.use_gpu,
                dtype=settings.dtype,
                trust_remote_code=settings.trust_remote_code,
            )
        except DpnError as error:
            self.refusal = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answers and writes."""
        done = []
        for row in table.to_pylist():
            shard = pickle.loads(row["shard"])
            refusal = self.refusal or row["refusal"]
            try:
                if refusal is None:
                    self._answer_shard(shard, pickle.loads(row["pictures"]))
            except DpnError as error:
                refusal = str(error)
            done.append({"shard": shard.name, "questions": len(shard.questions), "refusal": refusal})
        return pa.Table.from_pylist(done, schema=_DONE)

    def _answer_shard(self, shard: Shard, encoded: Mapping[PictureRef, bytes]) -> None:
        started = time.perf_counter()
        with ThreadPoolExecutor(_DECODERS) as pool:
            references = shard.pictures()
            decoded = pool.map(lambda reference: decode(encoded[reference], reference), references)
            pictures = dict(zip(references, decoded, strict=True))
        shown = [_shown(question, pictures, encoded) for question in shard.questions]
        lines, times = [], []

        def keep(answers: Mapping[int, Answered], variant: Variant) -> None:
            model = self.settings.checkpoint.name
            for question, more in zip(shard.questions, shown, strict=True):
                lines.append(answer_line(question, answers.get(question.place), model, more, variant.name))

        walked = self._walked()
        for variant in self.settings.variants:
            if variant in walked:
                continue
            self.model.become(variant)
            answers, timing, latency_ms = self.answer(shard.questions, pictures)
            keep(answers, variant)
            wall_s, started = time.perf_counter() - started, time.perf_counter()
            run = {"batch_size": self.settings.batch_size, **self.model.facts}
            took = {"timing": asdict(timing), "wall_s": wall_s, "num_questions": len(shard.questions), "run": run}
            times.append({"variant": variant.name, **took, "latency_ms": latency_ms})
        if walked:
            self.model.become(AS_IT_IS)
            found = self._answer_routes(shard.questions, pictures, len(walked))
            for variant in walked:
                keep({place: answers[variant.route or ()] for place, answers in found.items()}, variant)
        self.model.forget_pictures()
        self.files.write(shard, lines, times)

    def _walked(self) -> tuple[Variant, ...]:
        """The variants on fixed routes that are answered together; the first is answered by itself in any case."""
        on_routes = tuple(variant for variant in self.settings.variants[1:] if variant.route is not None)
        return on_routes if on_routes and self.model.walks_routes else ()

    def _answer_routes(
        self, questions: Sequence[Question], pictures: Mapping[PictureRef, Picture], num_routes: int
    ) -> dict[int, dict[tuple[str, ...], Answered]]:
        """By place in the question file, the answer on every route.

        Fewer questions at once: behind the last site each of them is there once for every route.
        """
        found: dict[int, dict[tuple[str, ...], Answered]] = {}
        asked, encoded = self._encoded(questions, pictures)
        for places in batches(asked, encoded, max(1, _WIDENING * self.settings.batch_size // num_routes)):
            with _named([asked[place] for place in places]):
                answers = self.model.answer_routes([encoded[at] for at in places], asked[places[0]].max_new_tokens)
            for number, place in enumerate(places):
                found[asked[place].place] = {route: each[number] for route, each in answers.items()}
        return found

    def _encoded(
        self, questions: Sequence[Question], pictures: Mapping[PictureRef, Picture]
    ) -> tuple[list[Question], list[EncodedQuestion]]:
        """Those that the model is asked."""
        asked = [question for question in questions if question.fixed_answer is None]
        encoded = []
        for question in asked:
            shown = [pictures[picture] for picture in question.pictures]
            boxes = question.boxes
            objects = None if boxes is None or not shown else Objects(box_array(boxes), shown[0].image.size)
            encoded.append(self.model.encode(question.text, shown, objects))
        return asked, encoded

    def answer(
        self, questions: Sequence[Question], pictures: Mapping[PictureRef, Picture]
    ) -> tuple[dict[int, Answered], Timing, dict[int, float]]:
        """By place in the question file: the answer, and its share of its batch's time.

        What the first batch of a worker took is not counted.
        """
        asked, encoded = self._encoded(questions, pictures)
        answers: dict[int, Answered] = {}
        total = Timing()
        latency_ms: dict[int, float] = {}
        for places in batches(asked, encoded, self.settings.batch_size):
            with _named([asked[place] for place in places]):
                found, timing = self.model.answer([encoded[at] for at in places], asked[places[0]].max_new_tokens)
            answers |= {asked[place].place: answered for place, answered in zip(places, found, strict=True)}
            if self.is_warm:
                total += timing
                share = 1000 * (timing.vision_s + timing.prefill_s + timing.decode_s) / len(places)
                latency_ms |= {asked[place].place: share for place in places}
            self.is_warm = True
        return answers, total, latency_ms


@contextmanager
def _named(asked: Sequence[Question]) -> Iterator[None]:
    """What a sample spoils is told with its question."""
    from dpn_model.not_finite import NotFiniteError  # here: see above

    try:
        yield
    except NotFiniteError as error:
        raise DpnError(str(error.named([question.id for question in asked]))) from error


def batches(
    questions: Sequence[Question], encoded: Sequence[EncodedQuestion], batch_size: int
) -> Iterator[Sequence[int]]:
    """Places of the questions that share a forward pass: same limit, all with a picture or none, of similar length."""
    kinds: dict[tuple[int, bool], list[int]] = {}
    for place, (question, one) in enumerate(zip(questions, encoded, strict=True)):
        kinds.setdefault((question.max_new_tokens, one.has_picture), []).append(place)
    for _, places in sorted(kinds.items()):
        by_length = sorted(places, key=lambda place: encoded[place].length)
        for start in range(0, len(by_length), batch_size):
            yield by_length[start : start + batch_size]


def _shown(
    question: Question, pictures: Mapping[PictureRef, Picture], encoded: Mapping[PictureRef, bytes]
) -> dict[str, Any]:
    """What tells the question's pictures, and figures of the first, against which routes are held."""
    if not question.pictures:
        return {"image_sha": None, **image_statistics(None)}
    digest = hashlib.sha256(b"".join(encoded[picture] for picture in question.pictures)).hexdigest()[:16]
    return {"image_sha": digest, **image_statistics(pictures[question.pictures[0]].image)}
