"""A process group of one, a tiny model and batches for it: training without Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.tiny import tiny_config
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer

IMAGE_SIZE, PATCH_SIZE = 96, 12


@pytest.fixture(scope="session")
def process_group() -> Iterator[None]:
    """gloo with this process alone, as Ray Train's worker would have it."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def processor() -> DpnProcessor:
    """For pictures of 8 x 8 patches."""
    words = "is there a red circle ? yes no how many one two".split()
    tokens = (IMAGE_SIZE // PATCH_SIZE) ** 2
    return DpnProcessor(build_word_tokenizer(words), image_size=IMAGE_SIZE, tokens_per_image=tokens, template="short")


@pytest.fixture(scope="session")
def build_tiny_model(processor: DpnProcessor) -> Callable[..., DpnForConditionalGeneration]:
    """The same weights at every call, with a method attached."""

    def build(method: str = "dpn") -> DpnForConditionalGeneration:
        torch.manual_seed(0)
        model = DpnForConditionalGeneration(
            tiny_config(len(processor.tokenizer), image_size=IMAGE_SIZE, patch_size=PATCH_SIZE)
        )
        model.configure_method(Method(name=method))
        return model.train()

    return build


@pytest.fixture(scope="session")
def build_batch(processor: DpnProcessor) -> Callable[..., dict[str, Any]]:
    """A collated micro-batch; sample i depends on i alone. Every third is text only unless told otherwise."""

    def build(samples: range, *, text_only: bool | None = None) -> dict[str, Any]:
        encoded = []
        for number in samples:
            is_text = number % 3 == 2 if text_only is None else text_only
            rng = np.random.default_rng(number)
            images = (
                [] if is_text else [Image.fromarray(rng.integers(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8))]
            )
            question = ("" if is_text else "<image>\n") + "how many red circle ?"
            turns = [(question, "one" if number % 2 else "two")] + [("is there a circle ?", "yes")] * (number % 4)
            encoded.append(processor.encode_training(turns, images, router=True))
        return {**processor.collate(encoded), "sample_keys": torch.tensor(list(samples))}

    return build


@pytest.fixture
def build_log_engine(build_tiny_model: Callable[..., DpnForConditionalGeneration]) -> Callable[..., Any]:
    """What the meters ask an engine for, around the tiny model; it trains nothing."""

    def build(method: str = "dpn") -> Any:
        return SimpleNamespace(
            device=torch.device("cpu"),
            module=build_tiny_model(method),
            optimizer=SimpleNamespace(param_groups=[{"name": "base", "lr": 0.1}, {"name": "router", "lr": 0.4}]),
            get_lr=lambda: [0.1, 0.4],
            get_global_grad_norm=lambda: 2.0,
        )

    return build


@pytest.fixture
def runs_uri(tmp_path: Path) -> str:
    """Storage on disk."""
    return f"file://{tmp_path}/runs"
