"""What a run starts from: a from_pretrained folder with a method attached, or a tiny model drawn from noise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import BASES
from dpn_model.methods.settings import MethodSettings
from dpn_model.processing import DpnProcessor, Processor, load_processor
from dpn_model.processing.square_processor import SquareProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.special_texts import ROUTER_TEXT
from dpn_model.tiny import build_tiny_model
from dpn_platform.config.errors import DpnError
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.schema import ExperimentConfig, ModelConfig
from dpn_platform.storage import download_folder
from dpn_platform.training.base_folder import TINY, find_folder
from dpn_platform.training.lora import attach_adapters
from dpn_platform.training.tiny_words import TINY_WORDS


def build_model(
    config: ExperimentConfig, words: Iterable[str] = TINY_WORDS
) -> tuple[DpnForConditionalGeneration, Processor]:
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
        router_id = processor.tokenizer.convert_tokens_to_ids(ROUTER_TEXT)
        # Said before the method is attached, which makes a row for it where there is none.
        model.config.router_token_id = None if router_id == processor.tokenizer.unk_token_id else router_id
        model.configure_method(method_of(config.method, config.train.seed))
        if model.parts.projector is not None:
            if not isinstance(processor, SquareProcessor):
                raise ValueError("a projector with its own grid; allowed: bases whose pictures are one square each")
            processor.tokens_per_image = model.num_visual_tokens()
    except (FileNotFoundError, ValueError) as error:
        raise DpnError(f"model.base {config.model.base}, method {config.method.name}: {error}") from error
    if model.needs_router_token and model.config.router_token_id is None:
        raise DpnError(
            f"model.base {config.model.base}: its tokenizer has no <ROUTER>, which method {config.method.name} needs"
        )
    if model.parts.lesson is not None and config.train.zero_stage == 3:
        raise DpnError(
            f"train.zero_stage = 3 with method {config.method.name}, which learns on behind the training, where every "
            "worker needs the whole model; allowed: zero_stage 0, 1, 2"
        )
    if config.train.lora is not None:
        attach_adapters(model, config.train.lora)
    if config.train.activation_checkpointing:
        # Not reentrant: the routing loss's gradient passes through recomputed layers (spec base-models A.4, row 11).
        model.gradient_checkpointing_enable({"use_reentrant": False})
        # Meant for reentrant checkpoints; it would send a backward pass through a frozen tower (spec performance 2.4).
        model.disable_input_require_grads()
    return model, processor


def reading_processor(processor: Processor, settings: ModelConfig) -> Processor:
    """The processor that a run reads samples with; the base's own, with the template for talking, is exported.

    Raises:
        DpnError: the base has no form for captions.
    """
    if settings.template is None:
        return processor
    try:
        return processor.for_captions()
    except ValueError as error:
        raise DpnError(f"model.base {settings.base}: {error}") from error


def load_base(base: str, words: Iterable[str] = TINY_WORDS) -> tuple[DpnForConditionalGeneration, Processor]:
    """Model and processor of a from_pretrained folder (a path, or a URI that is fetched), or fresh ones for "tiny".

    Raises:
        DpnError: nothing is at the URI, or a named base, which has no weights.
        FileNotFoundError, ValueError: the folder is not a from_pretrained folder, or its processor cannot be used.
    """
    if base == TINY:
        return build_tiny(words)
    if "://" not in base:
        folder = find_folder(base)
        if base in BASES and not folder.exists():
            raise DpnError(
                f"model.base = '{base}' names a shape without weights, enough for `dpn plan`; to train, set model.base "
                "to a from_pretrained folder or URI (dpn_model.assemble makes one of LLM, tower, projector)"
            )
        return _load(folder)
    with tempfile.TemporaryDirectory(prefix="dpn-base-") as fetched:
        download_folder(base, fetched)
        return _load(Path(fetched))


def _load(folder: Path) -> tuple[DpnForConditionalGeneration, Processor]:
    model = DpnForConditionalGeneration.from_pretrained(folder)
    return model, load_processor(folder, model.config)


def build_tiny(words: Iterable[str] = TINY_WORDS) -> tuple[DpnForConditionalGeneration, DpnProcessor]:
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


def method_of(method: MethodConfig, seed: int) -> MethodSettings:
    """The method's settings; one that draws moves its seed by the run's."""
    settings = method.settings
    return replace(settings, seed=settings.seed + seed) if method.spec.is_random else settings  # type: ignore[attr-defined, call-arg]
