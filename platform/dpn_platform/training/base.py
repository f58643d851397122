"""What a run starts from: a from_pretrained folder with a method attached, or a tiny model drawn from noise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from copy import copy

import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import BASES
from dpn_model.bases.tiny import build_tiny_model
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.config.errors import DpnError
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.schema import ExperimentConfig, ModelConfig
from dpn_platform.data.demo import VOCABULARY
from dpn_platform.storage import download_folder
from dpn_platform.training.base_folder import TINY, find_folder
from dpn_platform.training.lora import attach_adapters


def build_model(
    config: ExperimentConfig, words: Iterable[str] = VOCABULARY
) -> tuple[DpnForConditionalGeneration, DpnProcessor]:
    """The base with the experiment's method attached; what is drawn depends on `train.seed` and `words` alone.

    Args:
        config: the experiment.
        words: what `model.base: tiny` knows, see `words.training_words`.

    Raises:
        DpnError: no such base, or a method that does not fit it.
    """
    torch.manual_seed(config.train.seed)
    try:
        model, processor = load_base(config.model.base, words)
        model.configure_method(method_of(config.method, config.train.seed))
    except (FileNotFoundError, ValueError) as error:
        raise DpnError(f"model.base {config.model.base}, method {config.method.name}: {error}") from error
    router_id = processor.tokenizer.convert_tokens_to_ids("<ROUTER>")
    if model.needs_router_token and router_id == processor.tokenizer.unk_token_id:
        raise DpnError(f"model.base {config.model.base}: its tokenizer has no <ROUTER>, which method dpn needs")
    model.config.router_token_id = router_id
    if config.train.lora is not None:
        attach_adapters(model, config.train.lora)
    if config.train.activation_checkpointing:
        # Not reentrant: the routing loss's gradient passes through recomputed layers (spec base-models A.4, row 11).
        model.gradient_checkpointing_enable({"use_reentrant": False})
        # Meant for reentrant checkpoints; it would send a backward pass through a frozen tower (spec performance 2.4).
        model.disable_input_require_grads()
    return model, processor


def reading_processor(processor: DpnProcessor, settings: ModelConfig) -> DpnProcessor:
    """The processor that a run reads samples with; the base's own, with the template for talking, is exported."""
    if settings.template is None:
        return processor
    reading = copy(processor)
    reading.template, reading.aspect_ratio = settings.template, "crop"  # LLaVA's stage 1 does not pad
    return reading


def load_base(base: str, words: Iterable[str] = VOCABULARY) -> tuple[DpnForConditionalGeneration, DpnProcessor]:
    """Model and processor of a from_pretrained folder (a path, or a URI that is fetched), or fresh ones for "tiny".

    Raises:
        DpnError: nothing is at the URI, or a named base, which has no weights.
        FileNotFoundError, ValueError: the folder is not a from_pretrained folder of ours.
    """
    if base == TINY:
        return build_tiny(words)
    if "://" not in base:
        folder = find_folder(base)
        if base in BASES and not folder.exists():
            raise DpnError(
                f"model.base = '{base}' names a shape without weights, enough for `dpn plan`; to train, set model.base "
                "to a from_pretrained folder or URI (dpn_model.weights.assemble makes one of LLM, tower, projector)"
            )
        return DpnForConditionalGeneration.from_pretrained(folder), DpnProcessor.from_pretrained(folder)
    with tempfile.TemporaryDirectory(prefix="dpn-base-") as fetched:
        download_folder(base, fetched)
        return DpnForConditionalGeneration.from_pretrained(fetched), DpnProcessor.from_pretrained(fetched)


def build_tiny(words: Iterable[str] = VOCABULARY) -> tuple[DpnForConditionalGeneration, DpnProcessor]:
    """Model with weights from torch's generator, and a processor with these words, by default those of the demo set."""
    tokenizer = build_word_tokenizer(words)
    model = build_tiny_model(len(tokenizer))
    processor = DpnProcessor(
        tokenizer,
        image_size=model.config.base.vision_config.image_size,
        tokens_per_image=model.num_visual_tokens(),
        template="short",
    )
    return model, processor


def method_of(method: MethodConfig, seed: int) -> Method:
    """The model's `Method` from the configuration's section.

    Raises:
        ValueError: values that no method has.
    """
    return Method.from_dict({**method.model_dump(mode="json"), "seed": seed})
