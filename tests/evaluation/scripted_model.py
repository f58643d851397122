"""A model that answers what it is told to, through the real runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpn_model.objects.record import Objects
from dpn_platform.evaluation.answering.contract import Answered, EncodedQuestion, Picture, Timing
from dpn_platform.evaluation.answering.variants import Variant

#: (question, boxes that are shown) -> answer
Script = Callable[[str, Objects | None], str]
_COSTS = {"eq8_macs": 1, "eq8_dense": 2, "swiglu_macs": 3, "swiglu_dense": 4}


class ScriptedModel:
    """See `AnsweringModel`; `limits` notes what answers were limited to."""

    walks_routes = False

    def __init__(self, script: Script) -> None:
        self.script, self.limits = script, set[int]()

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def become(self, variant: Variant) -> None:
        pass

    def forget_pictures(self) -> None:
        pass

    def encode(self, text: str, pictures: Sequence[Picture], objects: Objects | None = None) -> EncodedQuestion:
        return EncodedQuestion(len(text), bool(pictures), self.script(text, objects))

    def answer(self, batch: Sequence[EncodedQuestion], max_new_tokens: int) -> tuple[list[Answered], Timing]:
        self.limits.add(max_new_tokens)
        answers = [Answered(one.payload, 2, 80, (64, 16), 40.0, 1024, "2x2", (2,), True, _COSTS) for one in batch]
        return answers, Timing(num_samples=len(batch))

    def answer_routes(self, batch: Sequence[EncodedQuestion], max_new_tokens: int) -> Any:
        raise NotImplementedError
