"""Our checkpoints: packed batches, each picture through the vision tower once for all its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList

from dpn_model import DpnForConditionalGeneration, RoutingReport
from dpn_model.bases.shapes import model_shape
from dpn_model.cost.bill import ModelShape, cost_parts
from dpn_model.cost.flops import MAC_CONVENTIONS
from dpn_model.cost.ledger import LayerLoad, Ledger, SampleCost
from dpn_model.objects.record import Objects
from dpn_model.processing import EncodedSample, Processor, picture_inputs
from dpn_model.processing.images import normalise
from dpn_model.special_texts import IMAGE_TEXT
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.clock import GenerationClock, count_new_tokens, now
from dpn_platform.evaluation.answering.contract import Answered, EncodedQuestion, Picture, Timing
from dpn_platform.evaluation.answering.object_probabilities import ChosenProbabilities, box_tokens
from dpn_platform.evaluation.answering.remembered_images import RememberedImages
from dpn_platform.evaluation.answering.variants import Variant


class PackedModel:
    """A DPN checkpoint, with or without reductions."""

    def __init__(
        self, model: DpnForConditionalGeneration, processor: Processor, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.model = model.to(device, dtype).eval()
        self.processor = processor
        processor.max_length = None  # a limit of training: a prompt that is cut loses its end, where the answer begins
        self.device, self.dtype = device, dtype
        self.base_shape = model_shape(model.config.base)
        self.box_tokens = box_tokens(processor.tokenizer) if processor.takes_objects else {}
        self.images = RememberedImages(model.image_side)
        self._remember()
        self._pixels: dict[str, Tensor] = {}
        self._own = (model.config.method_settings, model.parts, model.config.dial)
        self._trained = self._weights_of_parts()

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `AnsweringModel`."""
        backend = getattr(self.model.model.language_model.config, "_attn_implementation", None)
        return {"dtype": str(self.dtype).removeprefix("torch."), "attention": backend, "device": self.device.type}

    def become(self, variant: Variant) -> None:
        """See `AnsweringModel`."""
        settings, parts, dial = self._own
        try:
            if self.model.parts is not parts:
                self.model.attach(settings, parts)
            self.model.set_dial(dial)
            self.model.set_route(None)
            if variant.method is not None:
                self.model.configure_method(variant.method)
                self._take_over_weights(settings.name, variant.method["name"])
            if variant.budget is not None:
                self.model.set_budget(variant.budget)
            if variant.route is not None:
                self.model.set_route(variant.route)
        except ValueError as error:
            raise DpnError(f"variant '{variant.told}': {error}") from error
        self._remember()

    def _weights_of_parts(self) -> dict[str, Tensor]:
        """By their names in the model."""
        of_parts = {id(weight) for part in self.model.parts.all() for weight in part.parameters()}
        return {name: weight for name, weight in self.model.named_parameters() if id(weight) in of_parts}

    def _take_over_weights(self, trained: str, method: str) -> None:
        """The trained method with other settings has the same weights, of which attaching has drawn new ones.

        Raises:
            ValueError: they are another method's, stand elsewhere, or have other sizes.
        """
        for name, weight in self._weights_of_parts().items():
            known = self._trained.get(name)
            if known is weight:
                continue
            if trained != method or known is None or known.shape != weight.shape:
                raise ValueError(f"method {method} has weights, which were not trained here")
            with torch.no_grad():
                weight.copy_(known)

    def _remember(self) -> None:
        """Every method's image side stands in front of the same pictures."""
        if self.model.image_side is not self.images:
            self.images.over(self.model.image_side, self.model.parts)
            self.model.image_side = self.images

    def encode(self, text: str, pictures: Sequence[Picture], objects: Objects | None = None) -> EncodedQuestion:
        """See `AnsweringModel`."""
        shown = [self.processor.fit(picture.image) for picture in pictures]
        question = text
        if text.count(IMAGE_TEXT) != len(pictures):
            question = f"{IMAGE_TEXT}\n" * len(pictures) + text.replace(IMAGE_TEXT, "").strip()
        try:
            router = self.model.needs_router_token
            sample = self.processor.encode_prompt(question, shown, router=router, objects=objects)
        except ValueError as error:
            raise DpnError(f"question {text[:60]!r}: {error}") from error
        for picture, pixels in zip(pictures, sample.images, strict=False):
            if picture.sha not in self._pixels:
                self._pixels[picture.sha] = normalise(pixels.to(self.device)).to(self.dtype)
        shas = tuple(picture.sha for picture in pictures) if sample.images else ()
        payload = (replace(sample, images=()), shas)
        return EncodedQuestion(len(sample.input_ids), bool(pictures), payload)

    def answer(self, batch: Sequence[EncodedQuestion], max_new_tokens: int) -> tuple[list[Answered], Timing]:
        """See `AnsweringModel`."""
        ids, mask, inputs, vision_s = self._inputs(batch)
        ends = self.processor.end_ids
        clock, chosen = GenerationClock(self.device), ChosenProbabilities()
        generated = self.model.generate(
            ids,
            mask,
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=ends,
            pad_token_id=self.processor.pad_id,
            stopping_criteria=StoppingCriteriaList([clock]),
            logits_processor=LogitsProcessorList([chosen] if self.box_tokens else []),
        )
        new_ids = generated[:, ids.shape[1] :].tolist()
        timing = clock.read([count_new_tokens(row, set(ends)) for row in new_ids], vision_s)
        assert self.model.last_routing is not None
        answers = self._answered(new_ids, self.model.last_routing)
        if self.box_tokens:
            sure = chosen.of_boxes(new_ids, self.box_tokens)
            answers = [replace(one, object_probabilities=found) for one, found in zip(answers, sure, strict=True)]
        return answers, timing

    @property
    def walks_routes(self) -> bool:
        """See `AnsweringModel`."""
        try:
            return bool(self.model.route_names)
        except ValueError:
            return False

    def answer_routes(
        self, batch: Sequence[EncodedQuestion], max_new_tokens: int
    ) -> dict[tuple[str, ...], list[Answered]]:
        """See `AnsweringModel`."""
        ids, mask, inputs, _ = self._inputs(batch)
        ends, pad_id = self.processor.end_ids, self.processor.pad_id
        walk, ids_NRQ = self.model.answer_routes(
            ids, mask, **inputs, max_new_tokens=max_new_tokens, ends=ends, pad_id=pad_id
        )
        by_route = ids_NRQ.transpose(0, 1).tolist()
        return {route: self._answered(by_route[place], walk.routing(place)) for place, route in enumerate(walk.routes)}

    def _inputs(self, batch: Sequence[EncodedQuestion]) -> tuple[Tensor, Tensor, dict[str, Any], float]:
        """Ids, mask, what else the model takes, and the seconds of the vision tower."""
        payloads: list[tuple[EncodedSample, tuple[str, ...]]] = [question.payload for question in batch]
        collated = self.processor.collate([sample for sample, _ in payloads])
        inputs = picture_inputs(collated, self.device, self.dtype)
        pixels = [self._pixels[sha] for _, shas in payloads for sha in shas]
        before = now(self.device)
        if pixels:
            self.images.learn(self.model.model, pixels)
            inputs["pixel_values"] = pixels
        vision_s = now(self.device) - before
        ids, mask = collated["input_ids"], collated["attention_mask"]
        assert ids is not None
        assert mask is not None
        return ids.to(self.device), mask.to(self.device), inputs, vision_s

    def forget_pictures(self) -> None:
        """See `AnsweringModel`."""
        self.images.forget()
        self._pixels.clear()

    def _answered(self, new_ids: Sequence[list[int]], routing: RoutingReport) -> list[Answered]:
        ends = set(self.processor.end_ids)
        return [
            Answered(
                text=self.processor.decode(row),
                new_tokens=count_new_tokens(row, ends),
                prompt_tokens=cost["text_tokens"] + cost["visual_tokens"][0],
                kv_bytes=cost["kv_elements"] * self.dtype.itemsize,
                macs={name: value for name, value in cost.items() if name.endswith(("_macs", "_dense"))},
                visual_tokens=tuple(cost["visual_tokens"]),
                visual_tokens_mean=cost["visual_tokens_mean"],
                route=cost["route"],
                sites=tuple(cost["sites"]),
                has_router=cost["has_router"],
            )
            for row, cost in zip(new_ids, sample_costs(self.model, self.base_shape, routing), strict=True)
        ]


def sample_costs(model: DpnForConditionalGeneration, base: ModelShape, routing: RoutingReport) -> list[dict[str, Any]]:
    """Route, tokens, KV cache and multiply-accumulates of every sample of a forward pass; `base` has no method.

    `kv_elements` are keys and values of the prompt in all layers; a convention's `_dense` is the same prompt without
    reduction. `executed` is everything up to the first answer token in multiply-accumulates of `swiglu`: tower,
    projector, decoder, what the method spent, head; it is left out where nobody has counted the tower.
    """
    shape = model.model_shape.decoder
    found = []
    for sample in range(routing.num_samples):
        ledger = routing.ledger(sample)
        costs: dict[str, SampleCost] = {name: ledger.prefill(shape, name) for name in MAC_CONVENTIONS}
        if base.vision_macs is not None:
            bare = Ledger(
                ledger.packed,
                ((shape.num_layers, LayerLoad.whole(ledger.packed)),),
                ledger.num_images,
                ledger.base_sizes,
                num_objects=ledger.num_objects,
            )
            total, dense = (
                cost_parts(one, run, "swiglu").total for one, run in ((model.model_shape, ledger), (base, bare))
            )
            costs["executed"] = SampleCost(total, dense)
        found.append(
            {
                "has_router": model.needs_router_token,
                "route": ",".join(routing.route(sample)),
                "sites": list(routing.sites),
                "text_tokens": routing.text_tokens[sample],
                "visual_tokens": list(routing.visual_tokens_per_stage(sample)),
                "visual_tokens_mean": ledger.mean_visual_tokens(),
                "kv_elements": ledger.kv_bytes(shape, bytes_per_element=1),
                **{f"{name}_macs": cost.total for name, cost in costs.items()},
                **{f"{name}_dense": cost.dense for name, cost in costs.items()},
            }
        )
    return found
