"""Any image-text-to-text model of transformers, with its own processor, asked by its chat template or family's form."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import StoppingCriteriaList

from dpn_model.cache import cache_of
from dpn_model.objects.record import Objects
from dpn_model.processing.chat import check_template, render, user_message
from dpn_model.special_texts import IMAGE_TEXT
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.clock import GenerationClock, count_new_tokens
from dpn_platform.evaluation.answering.contract import Answered, EncodedQuestion, Picture, Timing
from dpn_platform.evaluation.answering.foreign_folder import load_foreign
from dpn_platform.evaluation.answering.prompt_forms import FORMS, find_form
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant


@dataclass(frozen=True)
class _Prompt:
    """What a processor is given: `text` behind the pictures or with their placeholders, `before` in front of them."""

    text: str
    images: list[Image.Image]
    before: str = ""

    def as_list(self) -> list[str | Image.Image]:
        """Texts and pictures in their order; one text where there is no picture."""
        return [self.before, *self.images, self.text] if self.images else [f"{self.before.rstrip(' ')} {self.text}"]


class TransformersModel:
    """A folder that transformers can load. Its pictures are decoded once; its tower runs for every question."""

    def __init__(
        self, folder: str, device: torch.device, dtype: torch.dtype, *, trust_remote_code: bool = False
    ) -> None:
        """Loads weights and processor; see `load_foreign`.

        Raises:
            DpnError: it cannot be loaded, or nothing says how it is asked.
        """
        model, self.processor = load_foreign(folder, dtype, trust_remote_code=trust_remote_code)
        self.tokenizer = self.processor.tokenizer
        config = model.config
        self.form = find_form(config.model_type, self.tokenizer.get_vocab())
        try:
            if self.form is None:
                check_template(self.processor)
        except ValueError as error:
            raise DpnError(f"{folder}: {error} (families with a prompt form here: {', '.join(FORMS)})") from error
        self.has_encoder = bool(config.get_text_config().is_encoder_decoder)
        # A prompt that is continued ends a row; one that an encoder reads keeps its distance to pictures put before it.
        self.tokenizer.padding_side = "right" if self.has_encoder else "left"
        self.model = model.to(device).eval()
        self.device, self.dtype = device, dtype
        self.image_token_id = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
        counted = getattr(self.processor, "num_query_tokens", 1)
        if config.model_type == "instructblip" and (self.image_token_id is None or counted is None):
            raise DpnError(
                f"{folder}: an older transformers wrote it, and where its pictures stand is not said; it needs "
                "image_token_index in config.json and num_query_tokens in processor_config.json"
            )
        shown = inspect.signature(model.generate).parameters.get("pixel_values")
        self.needs_picture = shown is not None and shown.default is inspect.Parameter.empty

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `AnsweringModel`."""
        backend = getattr(self.model.config, "_attn_implementation", None)
        return {"dtype": str(self.dtype).removeprefix("torch."), "attention": backend, "device": self.device.type}

    def become(self, variant: Variant) -> None:
        """See `AnsweringModel`."""
        if variant != AS_IT_IS:
            raise DpnError(f"variant '{variant.name}': a model of transformers has neither a dial nor methods")

    def encode(self, text: str, pictures: Sequence[Picture], objects: Objects | None = None) -> EncodedQuestion:
        """See `AnsweringModel`."""
        question = text.replace(IMAGE_TEXT, "").strip()
        if objects is not None:
            raise DpnError(f"question '{question[:60]}' brings boxes, which {self._kind} is not made for")
        images = [picture.image for picture in pictures]
        if self.needs_picture and not images:
            raise DpnError(f"question '{question[:60]}' has no picture, and {self._kind} answers none without")
        if self.form is None:
            message = user_message(IMAGE_TEXT * len(images) + question)
            prompt = _Prompt(render(self.processor, [message], asks=True), images)
        else:
            if len(images) > 1 and not self.form.several_pictures:
                raise DpnError(f"question '{question[:60]}' has {len(images)} pictures; {self._kind} takes one")
            before, behind = self.form.texts(question)
            prompt = _Prompt(behind, images, before)
        return EncodedQuestion(len(prompt.before) + len(prompt.text), bool(images), prompt)

    @torch.no_grad()
    def answer(self, batch: Sequence[EncodedQuestion], max_new_tokens: int) -> tuple[list[Answered], Timing]:
        """See `AnsweringModel`."""
        inputs = self._inputs([question.payload for question in batch])
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        clock = GenerationClock(self.device)
        output = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            pad_token_id=self._pad_id(),
            eos_token_id=sorted(self._end_ids()),
            stopping_criteria=StoppingCriteriaList([clock]),
            **self._never(),
        )
        new_ids = self._new_ids(output.sequences, ids).tolist()
        counts = [count_new_tokens(row, self._end_ids()) for row in new_ids]
        timing = clock.read(counts)
        bytes_per_token = _cache_bytes_per_token(cache_of(output))
        visual = (ids == self.image_token_id).sum(dim=1).tolist() if self.image_token_id is not None else [0] * len(ids)
        answers = [
            Answered(
                text=str(self.tokenizer.decode(row, skip_special_tokens=True)).strip(),
                new_tokens=count,
                prompt_tokens=length,
                visual_tokens=(shown,),
                visual_tokens_mean=float(shown),
                kv_bytes=None if bytes_per_token is None else round(length * bytes_per_token),
            )
            for row, count, length, shown in zip(new_ids, counts, mask.sum(dim=1).tolist(), visual, strict=True)
        ]
        return answers, timing

    @property
    def walks_routes(self) -> bool:
        """See `AnsweringModel`."""
        return False

    def answer_routes(
        self, batch: Sequence[EncodedQuestion], max_new_tokens: int
    ) -> dict[tuple[str, ...], list[Answered]]:
        """See `AnsweringModel`."""
        raise NotImplementedError

    def forget_pictures(self) -> None:
        """Nothing is kept: what a processor makes of a picture, and where a tower takes it, is each model's own."""

    @property
    def _kind(self) -> str:
        return f"a model of kind '{self.model.config.model_type}'"

    def _inputs(self, prompts: Sequence[_Prompt]) -> dict[str, Any]:
        texts: list[Any] = [prompt.text for prompt in prompts]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if self.form is not None and self.form.takes_lists:
            texts = [prompt.as_list() for prompt in prompts]
        elif prompts[0].images:
            options["images"] = [prompt.images for prompt in prompts]
        begin = self.tokenizer.bos_token
        if self.form is None and begin is not None and all(text.startswith(begin) for text in texts):
            options["add_special_tokens"] = False  # the template has written it
        inputs = self.processor(text=texts, **options)
        return {name: self._placed(value) for name, value in inputs.items()}

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)

    def _new_ids(self, sequences: Tensor, ids: Tensor) -> Tensor:
        """Of what `generate` returns, the answers: behind the prompt, the decoder's first token, or nothing."""
        if self.has_encoder:
            return sequences[:, 1:]
        count = ids.shape[1]
        return sequences[:, count:] if torch.equal(sequences[:, :count], ids) else sequences

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        more = {self.tokenizer.convert_tokens_to_ids(self.form.ends)} if self.form and self.form.ends else set()
        return (set(ends) if isinstance(ends, list) else {ends}) | more

    def _never(self) -> dict[str, Any]:
        known = self.tokenizer.get_vocab()
        ids = [[known[text]] for text in (self.form.never if self.form else ()) if text in known]
        return {"bad_words_ids": ids} if ids else {}

    def _pad_id(self) -> int:
        found = self.tokenizer.pad_token_id
        return min(self._end_ids()) if found is None else int(found)


def _cache_bytes_per_token(cache: Any) -> float | None:
    """Keys and values of one token in all layers, from the cache that `generate` filled; None for another kind."""
    layers = [layer for layer in getattr(cache, "layers", ()) if isinstance(getattr(layer, "keys", None), Tensor)]
    if not layers:
        return None
    return sum(
        (layer.keys.nbytes + layer.values.nbytes) / (layer.keys.shape[0] * layer.keys.shape[-2]) for layer in layers
    )
