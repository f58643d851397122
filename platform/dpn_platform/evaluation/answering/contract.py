"""What the runner asks of a model: encode questions on the host, answer a batch, say what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from dpn_model.objects.record import Objects
from dpn_platform.evaluation.answering.variants import Variant


@dataclass(frozen=True)
class Picture:
    """A decoded RGB picture; `sha` tells equal ones."""

    sha: str
    image: Image.Image


@dataclass(frozen=True)
class EncodedQuestion:
    """A question as a model takes it.

    Attributes:
        length: what batches are sorted by: tokens, or characters where tokens are not known yet.
        has_picture: whether it shows one.
        payload: the model's own.
    """

    length: int
    has_picture: bool
    payload: Any = field(repr=False)


@dataclass(frozen=True)
class Answered:
    """One answer and what it took.

    Attributes:
        text: without special tokens and blanks at the ends.
        new_tokens: generated, the end of the answer included.
        prompt_tokens: of the prompt, visual ones included, before any reduction.
        visual_tokens: before the first reduction and after each.
        visual_tokens_mean: over the decoder's layers.
        kv_bytes: keys and values of the prompt in all layers; None where the cache cannot be read.
        route: one choice per site, joined by commas; empty for a model without sites.
        sites: 1-based layers after which a reduction ran.
        has_router: whether the model chose the route itself.
        macs: `<convention>_macs` and `<convention>_dense` of the prefill; empty where nobody has counted.
        object_probabilities: (box, probability of its token when it was written) of every box that the answer names, in
            its order; None where nobody looked, or the model is shown no boxes.
    """

    text: str
    new_tokens: int
    prompt_tokens: int
    visual_tokens: tuple[int, ...]
    visual_tokens_mean: float
    kv_bytes: int | None
    route: str = ""
    sites: tuple[int, ...] = ()
    has_router: bool = False
    macs: Mapping[str, int] = field(default_factory=dict)
    object_probabilities: tuple[tuple[int, float], ...] | None = None


@dataclass(frozen=True)
class Timing:
    """Wall time of some batches, in seconds, the device waited for.

    Attributes:
        num_samples: answered in that time.
        vision_s: vision tower, once per picture; part of `prefill_s` where a model does not tell them apart.
        prefill_s: up to the first token of every answer.
        decode_s: all further tokens.
        decode_tokens: how many those are, over all samples.
    """

    num_samples: int = 0
    vision_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    decode_tokens: int = 0

    def __add__(self, other: Timing) -> Timing:
        return Timing(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


class AnsweringModel(Protocol):
    """A model on one device."""

    def become(self, variant: Variant) -> None:
        """Run as another variant from now on; questions are encoded for it, pictures stay known.

        Raises:
            DpnError: this model cannot be run as that.
        """

    @property
    def facts(self) -> Mapping[str, Any]:
        """What must be known beside its figures: dtype, attention implementation, device."""

    def encode(self, text: str, pictures: Sequence[Picture], objects: Objects | None = None) -> EncodedQuestion:
        """A question without conversation template, with its pictures in order, and boxes on the one picture.

        The pictures stand before it, or where its image tags are if it has one for each.

        Raises:
            DpnError: more pictures than the model takes, or boxes that it does not.
        """

    def answer(self, batch: Sequence[EncodedQuestion], max_new_tokens: int) -> tuple[list[Answered], Timing]:
        """Greedy answers, in the batch's order. An answer does not depend on its batch."""

    @property
    def walks_routes(self) -> bool:
        """Whether `answer_routes` can be asked."""

    def answer_routes(
        self, batch: Sequence[EncodedQuestion], max_new_tokens: int
    ) -> dict[tuple[str, ...], list[Answered]]:
        """What `answer` gives on every route, with what routes share done once; nobody could say what each took.

        A sample that cannot take a route has the answer of the route that it took in its place.
        """

    def forget_pictures(self) -> None:
        """Drop what was kept of pictures for further questions."""
