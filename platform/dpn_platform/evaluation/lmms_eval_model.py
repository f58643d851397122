"""Lets lmms-eval drive what our runner drives: `python -m lmms_eval --model dpn --model_args checkpoint=...`.

lmms-eval finds `manifest` by the entry point `dpn` of its group `lmms_eval.models` (pyproject.toml). It is an optional
extra and is imported when it asks for the model, never by this module's import.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.contract import EncodedQuestion, Picture
from dpn_platform.evaluation.answering.loading import check_dtype, find_checkpoint, load_model

_DEFAULT_NEW_TOKENS = 1024
#: requests whose pictures are held at once, and grouped by length
_WINDOW = 128
_OPTIONS = ("batch_size", "device", "dtype")
#: generation settings whose other values would need sampling or beams
_GREEDY = {"temperature": (0, 0.0, None), "num_beams": (1, None), "do_sample": (False, None)}


class GreedyAnswers:
    """What lmms-eval asks of a model, without lmms-eval: requests in, texts out, in their order.

    Args:
        checkpoint: from_pretrained folder, path or URI.
        batch_size: requests of equal settings per forward pass.
        device: "cuda", "cuda:0" or "cpu".
        dtype: see `loading.load_model`.
    """

    def __init__(
        self, checkpoint: str, batch_size: int | str = 1, device: str | None = "cpu", dtype: str = "auto"
    ) -> None:
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise DpnError(f"batch_size '{batch_size}': a whole number is needed")
        self.batch_size = int(batch_size)
        use_gpu = str(device or "cpu").startswith("cuda")
        self.model = load_model(find_checkpoint(checkpoint), use_gpu=use_gpu, dtype=check_dtype(dtype))

    def answer(self, requests: Sequence[Any], task_dict: Mapping[str, Any]) -> list[str]:
        """The answers to requests of kind `generate_until`.

        Args:
            requests: their `args` are (context, settings, doc_to_visual, doc_id, task, split).
            task_dict: task -> split -> documents.

        Raises:
            DpnError: a request wants sampling, beams, or something that is no picture.
        """
        answers: list[str] = []
        for start in range(0, len(requests), _WINDOW):
            answers += self._answer_window(requests[start : start + _WINDOW], task_dict)
            self.model.forget_pictures()
        return answers

    def _answer_window(self, requests: Sequence[Any], task_dict: Mapping[str, Any]) -> list[str]:
        answers = [""] * len(requests)
        kinds: dict[tuple[int, bool], list[tuple[int, EncodedQuestion]]] = {}
        for place, request in enumerate(requests):
            context, settings, doc_to_visual, doc_id, task, split = request.args
            pictures = _pictures(doc_to_visual(task_dict[task][split][doc_id]))
            encoded = self.model.encode(context.replace("<image>", "").strip(), pictures)
            kinds.setdefault((_new_tokens(settings), encoded.has_picture), []).append((place, encoded))
        for (limit, _), members in sorted(kinds.items()):
            by_length = sorted(members, key=lambda member: member[1].length)
            for start in range(0, len(by_length), self.batch_size):
                batch = by_length[start : start + self.batch_size]
                found, _ = self.model.answer([encoded for _, encoded in batch], limit)
                for (place, _), answered in zip(batch, found, strict=True):
                    answers[place] = _until(answered.text, requests[place].args[1])
        return answers


@functools.cache
def model_class(base: Any = None) -> type:
    """The class that lmms-eval makes.

    Args:
        base: lmms-eval's own base class; None: imported.

    Raises:
        DpnError: lmms-eval is not installed.
    """
    base = base or _lmms()

    class DpnLmms(base):
        """A checkpoint of ours, or any image-text-to-text model of transformers."""

        is_simple = True

        def __init__(self, checkpoint: str, **options: Any) -> None:
            super().__init__()
            options.pop("max_batch_size", None)  # lmms-eval's own, for searching a batch size
            unknown = set(options) - set(_OPTIONS)
            if unknown:
                raise DpnError(
                    f"model_args: '{min(unknown)}' is unknown; allowed are checkpoint, {', '.join(_OPTIONS)}"
                )
            self.greedy = GreedyAnswers(checkpoint, **options)

        def generate_until(self, requests: list[Any]) -> list[str]:
            return self.greedy.answer(requests, self.task_dict)

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise NotImplementedError("dpn answers generate_until tasks; tasks of kind loglikelihood are not supported")

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            raise NotImplementedError("dpn answers one question at a time; tasks of several rounds are not supported")

    return DpnLmms


def manifest() -> Any:
    """What lmms-eval's entry point returns; it names the class by its path, and imports it for `--model dpn` alone."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="dpn", simple_class_path=f"{__name__}.DpnLmms")


def __getattr__(name: str) -> Any:
    """`DpnLmms` exists once it is asked for: its base class is lmms-eval's."""
    if name == "DpnLmms":
        return model_class()
    raise AttributeError(f"module {__name__} has no attribute {name!r}")


def _lmms() -> Any:
    try:
        from lmms_eval.api.model import lmms
    except ImportError as error:
        raise DpnError("lmms-eval is not installed: pip install 'dpn-lab[lmms-eval]'") from error
    return lmms


def _new_tokens(settings: Mapping[str, Any]) -> int:
    """The limit; settings that are not greedy are refused, for answers would be another protocol's."""
    for name, allowed in _GREEDY.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise DpnError(f"{name} = {settings[name]}: answers are greedy; allowed: {allowed[0]}")
    return int(settings.get("max_new_tokens") or _DEFAULT_NEW_TOKENS)


def _until(text: str, settings: Mapping[str, Any]) -> str:
    """The text up to the first of the settings' stops."""
    until = settings.get("until") or []
    stops = [until] if isinstance(until, str) else until
    ends = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(ends)].strip() if ends else text


def _pictures(visuals: Any) -> list[Picture]:
    """Pictures of a document; equal ones are told by their pixels.

    Raises:
        DpnError: videos or sounds are among them.
    """
    shown = list(visuals) if isinstance(visuals, list | tuple) else [] if visuals is None else [visuals]
    others = [type(one).__name__ for one in shown if not isinstance(one, Image.Image)]
    if others:
        raise DpnError(f"a task shows {others[0]}; this model takes pictures")
    converted = [one.convert("RGB") for one in shown]
    return [Picture(_sha(one), one) for one in converted]


def _sha(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
