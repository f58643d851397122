"""Samples with several pictures train as they do one by one: the same losses, and a gradient of every picture."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from dpn_platform.config.load import parse_config
from dpn_platform.data.reading.collate import SampleCollator
from dpn_platform.training.base import build_model
from dpn_platform.training.loop import to_device


def row(number: int, num_pictures: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    pictures = []
    for _ in range(num_pictures):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    ask = "<image> " * num_pictures + "what colour is at row one ?"
    turns = [{"from": "human", "value": ask}, {"from": "gpt", "value": "red" if number % 2 else "blue circle"}]
    return {
        "row_id": number,
        "sample_key": number,
        "source": "x",
        "conversations": json.dumps(turns),
        "image": pictures[0] if pictures else None,
        "more_images": pictures[1:] or None,
    }


@pytest.mark.parametrize("method", [{"name": "dense"}, {"name": "static"}, {"name": "dpn"}, {"name": "random_drop"}])
def test_a_batch_of_them_has_the_loss_of_its_samples(method: dict[str, Any]) -> None:
    values = {"name": "t", "model": {"base": "tiny"}, "method": method}
    model, processor = build_model(parse_config(values, "test"))
    model.eval()  # routes are the router's own, not drawn
    collate = SampleCollator(processor, router=model.needs_router_token)
    rows = [row(0, 2), row(1, 1), row(2, 0), row(3, 3)]

    def loss_of(some: list[dict[str, Any]]) -> tuple[torch.Tensor, int]:
        out = model(**to_device(collate(pa.Table.from_pylist(some)), torch.device("cpu"), torch.float32))
        return out.loss_lm, int(out.num_supervised_tokens)

    together, tokens = loss_of(rows)
    alone = [loss_of([one]) for one in rows]
    together.backward()

    assert tokens == sum(count for _, count in alone)
    expected = sum(float(loss.detach()) * count for loss, count in alone) / tokens
    assert float(together.detach()) == pytest.approx(expected, rel=1e-6)  # 6e-8 here
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
