"""A tiny model and batches for it: training without Ray."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing import DpnProcessor
from tests.training.tiny import tiny_batch, tiny_model, tiny_processor


@pytest.fixture(scope="session")
def processor() -> DpnProcessor:
    """For pictures of 8 x 8 patches."""
    return tiny_processor()


@pytest.fixture(scope="session")
def build_tiny_model() -> Callable[..., DpnForConditionalGeneration]:
    """The same weights at every call, with a method attached."""
    return lambda method="dpn": tiny_model(Method(name=method))


@pytest.fixture(scope="session")
def build_batch(processor: DpnProcessor) -> Callable[..., dict[str, Any]]:
    """A collated micro-batch; sample i depends on i alone. Every third is text only unless told otherwise."""
    return partial(tiny_batch, processor)


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
