"""The held-out measures: of the routes that answers take, over tokens, when due, without touching the training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, Quarantine, Split
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import MissingObjectError, read_bytes
from dpn_platform.training.held_out import HeldOut, first_answers_at, keep_first_answers
from dpn_platform.training.loop import to_device


def measured(meter: HeldOut, engine: Any, step: int) -> dict[str, float]:
    window = [SimpleNamespace(step=step)]
    sums = {key: float(value) for key, value in meter.local(engine, window).items()}
    return meter.line(engine, window, sums)


def test_it_is_the_mean_over_the_tokens_of_all_batches(build_log_engine, build_batch) -> None:
    engine = build_log_engine()
    batches = [build_batch(range(3)), build_batch(range(3, 5))]
    state = torch.random.get_rng_state()

    line = measured(HeldOut(7, 4, lambda: batches), engine, 4)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert engine.module.training
    whole = engine.module.eval()(**to_device(build_batch(range(5)), torch.device("cpu"), torch.float32))
    assert line["eval/loss_lm"] == pytest.approx(whole.loss_lm.item(), rel=1e-5)
    costs = [whole.routing.prefill_cost(sample, "swiglu") for sample in range(5)]
    ratio = sum(cost.total for cost in costs) / sum(cost.dense for cost in costs)
    assert line["eval/flops_ratio"] == pytest.approx(ratio)
    assert set(line) == {"eval/loss_lm", "eval/exact", "eval/flops_ratio"}
    assert not engine.module.lm_head._forward_hooks


def test_a_row_is_exact_where_every_token_is_the_most_likely(build_log_engine, build_batch) -> None:
    engine, batch = build_log_engine("dense"), build_batch(range(4))
    model, labels, rows = engine.module.eval(), batch["labels"], []
    with model.lm_head.register_forward_hook(lambda module, inputs, logits: rows.append(logits.argmax(-1))):
        model(**to_device(batch, torch.device("cpu"), torch.float32))
    labels[:, 1:][labels[:, 1:] != -100] = rows[0]
    assert measured(HeldOut(7, None, lambda: [batch], steps=[2]), engine, 2)["eval/exact"] == 1.0
    last = int(torch.nonzero(labels[3] != -100).max())  # one token of a row that has several
    labels[3, last] = (labels[3, last] + 1) % model.lm_head.out_features
    assert measured(HeldOut(7, None, lambda: [batch], steps=[2]), engine, 2)["eval/exact"] == 0.75


def test_the_divergence_from_dense_is_that_of_first_answer_tokens(
    process_group, build_log_engine, build_batch, runs_uri: str, tmp_path: Path
) -> None:
    dense, dpn, batches = build_log_engine("dense"), build_log_engine("dpn"), [build_batch(range(3))]
    keep = partial(keep_first_answers, f"{runs_uri}/dense")
    assert "eval/kl_dense" not in measured(HeldOut(4, None, lambda: batches, steps=[2], keep=keep), dense, 2)
    with pytest.raises(MissingObjectError):
        read_bytes(f"{runs_uri}/dense/first_answers.npy")  # the last step's, not a rung's
    measured(HeldOut(4, None, lambda: batches, steps=[2], keep=keep), dense, 4)

    config = held_out_of(3, tmp_path)
    teacher = partial(first_answers_at, f"{runs_uri}/dense", config)
    lines = [
        measured(HeldOut(4, None, lambda: batches, steps=[2], teacher=teacher), engine, 2) for engine in (dense, dpn)
    ]

    assert lines[0]["eval/kl_dense"] == pytest.approx(0.0, abs=1e-3)
    expected = []
    for engine in (dense, dpn):
        rows: list[torch.Tensor] = []
        with engine.module.eval().lm_head.register_forward_hook(lambda m, i, logits, to=rows: to.append(logits)):
            engine.module(**to_device(batches[0], torch.device("cpu"), torch.float32))
        counts = (batches[0]["labels"][:, 1:] != -100).sum(1)
        expected.append(rows[0][counts.cumsum(0) - counts].log_softmax(-1))
    divergence = torch.nn.functional.kl_div(expected[1], expected[0], log_target=True, reduction="batchmean")
    assert lines[1]["eval/kl_dense"] == pytest.approx(divergence.item(), abs=2e-3)
    assert first_answers_at(f"{runs_uri}/nothing", config) is None
    others = config.model_copy(update={"train": config.train.model_copy(update={"eval_samples": 2})})
    assert first_answers_at(f"{runs_uri}/dense", others) is None, "of other rows than are measured here"


def held_out_of(rows: int, folder: Path) -> ExperimentConfig:
    """A config over a set whose held-out split has so many rows."""
    split = Split(rows=rows, images=rows, text_only=0, sources={}, shards=())
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="m",
        source="",
        splits={"test": split},
        quarantine=Quarantine(),
        fingerprint="f",
    )
    (folder / "data").mkdir()
    (folder / "data" / "manifest.json").write_bytes(manifest.to_bytes())
    return parse_config({"name": "x", "data": {"uri": str(folder / "data")}})


def test_it_is_due_at_its_steps_and_at_the_last(build_log_engine, build_batch) -> None:
    engine, reads = build_log_engine("dense"), []

    def read() -> list[Any]:
        reads.append(1)
        return [build_batch(range(1))]

    meter = HeldOut(7, 4, read, steps=[2])
    assert [step for step in range(1, 8) if measured(meter, engine, step)] == [2, 4, 7]
    assert reads == [1]
    assert not measured(HeldOut(7, None, read), engine, 7)


def test_a_step_without_a_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="eval_every_steps 15 is not a multiple of log_every_steps 10"):
        parse_config({"name": "x", "train": {"eval_every_steps": 15}})
