"""Any image-text-to-text model of transformers, with its own processor and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, StoppingCriteriaList

from dpn_model.cache import cache_of
from dpn_model.processing.chat import check_template, render, user_message
from dpn_model.processing.folder_files import load_processor_of_transformers
from dpn_model.special_texts import IMAGE_TEXT
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.clock import GenerationClock, count_new_tokens
from dpn_platform.evaluation.answering.contract import Answered, EncodedQuestion, Picture, Timing
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant


class TransformersModel:
    """A folder that transformers can load. Its pictures are decoded once; its tower runs for every question."""

    def __init__(self, folder: str, device: torch.device, dtype: torch.dtype) -> None:
        """Loads weights and processor; code in the folder is never run.

        Raises:
            DpnError: transformers cannot load it as such a model, or its processor has no chat template.
        """
        try:
            config = AutoConfig.from_pretrained(folder)
            self.processor = load_processor_of_transformers(Path(folder), config.model_type)
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            line = " ".join(str(error).split())[:200]
            raise DpnError(f"{folder}: not a checkpoint of ours, and transformers cannot load it: {line}") from error
        try:
            check_template(self.processor)
        except ValueError as error:
            raise DpnError(f"{folder}: {error}") from error
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"
        self.model = model.to(device).eval()
        self.device, self.dtype = device, dtype
        config = model.config
        self.image_token_id = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `AnsweringModel`."""
        backend = getattr(self.model.config, "_attn_implementation", None)
        return {"dtype": str(self.dtype).removeprefix("torch."), "attention": backend, "device": self.device.type}

    def become(self, variant: Variant) -> None:
        """See `AnsweringModel`."""
        if variant != AS_IT_IS:
            raise DpnError(f"variant '{variant.name}': a model of transformers has neither a dial nor methods")

    def encode(self, text: str, pictures: Sequence[Picture]) -> EncodedQuestion:
        """See `AnsweringModel`."""
        question = IMAGE_TEXT * len(pictures) + text.replace(IMAGE_TEXT, "").strip()
        prompt = render(self.processor, [user_message(question)], asks=True)
        return EncodedQuestion(len(prompt), bool(pictures), (prompt, [picture.image for picture in pictures]))

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
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        new_ids = output.sequences[:, ids.shape[1] :].tolist()
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

    def forget_pictures(self) -> None:
        """Nothing is kept: what a processor makes of a picture, and where a tower takes it, is each model's own."""

    def _inputs(self, payloads: Sequence[tuple[str, list[Image.Image]]]) -> dict[str, Any]:
        prompts = [prompt for prompt, _ in payloads]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if payloads[0][1]:
            options["images"] = [images for _, images in payloads]
        begin = self.tokenizer.bos_token
        if begin is not None and all(prompt.startswith(begin) for prompt in prompts):
            options["add_special_tokens"] = False  # the template has written it
        inputs = self.processor(text=prompts, **options)
        return {name: self._placed(value) for name, value in inputs.items()}

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return set(ends) if isinstance(ends, list) else {ends}

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
