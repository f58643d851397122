"""A benchmark from end to end on real Ray and S3: killed and resumed, in two layouts, by one actor or two; MLflow."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.tiny import tiny_config
from dpn_platform import storage
from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.benchmarks.gqa.benchmark import fold_harness
from dpn_platform.config.load import parse_config
from dpn_platform.demo.families import VOCABULARY, draw_sample
from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
from dpn_platform.evaluation.runner.plan import Request
from dpn_platform.services.ray_client import init_ray
from tests.scored_benchmarks.small_pieces import SHORT, put

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

BASE = f"s3://dpn/test-evaluate-{uuid.uuid4().hex[:8]}"
PICTURES, SHARD_QUESTIONS = 12, 3
#: at most 16 tokens an answer, where the reference allows 128: fresh routers make a model that does not end
VARIANT = "harness"
RUNNER = """
import sys
from dpn_platform.config.load import parse_config
from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
from dpn_platform.evaluation.runner.plan import Request
from dpn_platform.services.ray_client import init_ray
init_ray()
checkpoint, data, output, variant, size = sys.argv[1:]
wanted = Wanted(data=data)
request = Request(checkpoint, "gqa", variant, wanted, output_uri=output, shard_questions=int(size))
evaluate_benchmark(request, parse_config({"name": "killed", "eval": {"batch_size": 2}}, "test"))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with weights drawn wide, so that answers differ, and with fresh routers."""
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer(VOCABULARY)
    model = DpnForConditionalGeneration(tiny_config(len(tokenizer)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.configure_method(Method(name="dpn"))
    model.config.router_token_id = tokenizer.convert_tokens_to_ids("<ROUTER>")
    folder = tmp_path_factory.mktemp("checkpoints") / "routed"
    model.save_pretrained(folder)
    shape = {"image_size": model.config.base.vision_config.image_size, "tokens_per_image": model.num_visual_tokens()}
    DpnProcessor(tokenizer, template="short", **shape).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, services: Any) -> Path:
    """The demo's pictures with several questions each, as GQA's files and as GQA's parquet; the former also in S3."""
    folder = tmp_path_factory.mktemp("gqa")
    lines, gold, rows, pictures = [], {}, [], []
    for number in range(PICTURES):
        family = ("counting", "colour", "existence", "reading")[number % 4]
        sample = draw_sample(family, np.random.default_rng(number), 96, 3)
        assert sample.image is not None
        buffer = io.BytesIO()
        sample.image.save(buffer, "JPEG")
        put(folder, f"llava/gqa/data/images/n{number}.jpg", buffer.getvalue())
        pictures.append({"id": f"n{number}", "image": {"bytes": buffer.getvalue(), "path": None}})
        for question, answer in sample.turns:
            key = f"2{len(lines):03d}"
            asked = {"question": question, "answer": answer, "imageId": f"n{number}"}
            lines.append({"question_id": key, "image": f"n{number}.jpg", "text": question + SHORT})
            gold[key] = asked
            rows.append({"id": key, **asked})
    put(folder, "llava/gqa/llava_gqa_testdev_balanced.jsonl", lines)
    put(folder, "llava/gqa/data/testdev_balanced_questions.json", gold)
    put(folder, "parquet/testdev_balanced_instructions/testdev-00000-of-00001.parquet", rows)
    put(folder, "parquet/testdev_balanced_images/testdev-00000-of-00001.parquet", pictures[::-1])
    storage.ensure_bucket(BASE)
    storage.upload_folder(folder / "llava", f"{BASE}/eval")
    return folder


def request(checkpoint: str, data: str, output: str) -> Request:
    wanted = Wanted(data=data)
    return Request(checkpoint, "gqa", VARIANT, wanted, output_uri=output, shard_questions=SHARD_QUESTIONS)


def evaluate(asked: Request, *, num_actors: int = 1, batch_size: int = 8) -> dict[str, Any]:
    settings = {"num_actors": num_actors, "batch_size": batch_size}
    return evaluate_benchmark(asked, parse_config({"name": "e", "eval": settings}, "test")).to_json()


def stamps(output: str) -> dict[str, int]:
    location = storage.open_uri(output)
    files = storage.list_files(f"{output}/shards", ".jsonl")
    infos = location.filesystem.get_file_info([storage.open_uri(file).path for file in files])
    return {info.base_name: info.mtime_ns for info in infos}


def test_killed_resumed_and_the_same_as_undisturbed(
    checkpoint: str, root: Path, repo_root: Path, run_dpn: Callable[..., Any], services: Any
) -> None:
    killed = f"{BASE}/killed"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root / "platform"), str(repo_root)])}
    command = [sys.executable, "-c", RUNNER, checkpoint, f"{BASE}/eval", killed, VARIANT, str(SHARD_QUESTIONS)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    while len(stamps(killed)) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not storage.exists(f"{killed}/result.json")

    init_ray()
    time.sleep(1)  # the dead driver's actors may still write what they were at
    before = stamps(killed)
    resumed = evaluate(request(checkpoint, f"{BASE}/eval", killed), num_actors=2)
    after = stamps(killed)
    assert 0 < len(before) < resumed["about"]["shards"]["all"] == len(after)
    assert resumed["about"]["shards"]["answered_now"] == len(after) - len(before)
    assert {name: after[name] for name in before} == before, "what was answered is left alone"

    # Another layout, other shards, another batch size, one actor, by the command line: the same file, byte for byte.
    places = ["--data", str(root / "parquet"), "--output", str(root / "whole")]
    options = ["--benchmark", "GQA", "--variant", VARIANT, *places, "--routing", "--json"]
    done = run_dpn("evaluate", checkpoint, *options, "eval.batch_size=1", "tracking.experiment=measured")
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    lines = storage.read_bytes(whole["about"]["answers_uri"])
    assert storage.read_bytes(resumed["about"]["answers_uri"]) == lines
    assert (whole["about"]["layout"], resumed["about"]["layout"]) == ("parquet", "llava")
    assert (whole["accuracy"], whole["cost"]["routes"]) == (resumed["accuracy"], resumed["cost"]["routes"])
    check_result(resumed, [json.loads(line) for line in lines.splitlines()], root)
    check_logged(mlflow.MlflowClient(services.mlflow_url), whole)


def check_result(result: dict[str, Any], lines: list[dict[str, Any]], root: Path) -> None:
    """Score, interval and cost are those of the lines."""
    gold = json.loads((root / "llava/gqa/data/testdev_balanced_questions.json").read_text())
    assert [line["question_id"] for line in lines] == list(gold), "in the order of the question file"
    assert len({line["text"] for line in lines}) > 3, "answers that are all the same would prove little"
    right = [fold_harness(line["text"]) == gold[line["question_id"]]["answer"] for line in lines]
    headline = result["scores"]["gqa"]
    low, high = headline["ci"]
    assert headline["value"] == pytest.approx(100 * sum(right) / len(right))
    assert low <= headline["value"] <= high
    took = [line["metadata"] for line in lines]
    ratio = sum(one["swiglu_macs"] for one in took) / sum(one["swiglu_dense"] for one in took)
    assert result["cost"]["flops_ratio_swiglu"] == pytest.approx(ratio)
    assert sum(result["cost"]["routes"].values()) == len(lines) == result["n"]
    assert result["cost"]["samples_per_second"] > 0


def check_logged(client: mlflow.MlflowClient, result: dict[str, Any]) -> None:
    """The experiment has one run, with score, cost, predictions and routing figure."""
    experiment = client.get_experiment_by_name("measured")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    metrics, prefix = run.data.metrics, f"eval/gqa-{VARIANT}"
    assert metrics[f"{prefix}/accuracy"] == pytest.approx(result["scores"]["gqa"]["value"])
    assert metrics[f"{prefix}/cost/flops_ratio_eq8"] == pytest.approx(result["cost"]["flops_ratio_eq8"])
    kept = {
        item.path.rpartition("/")[2] for item in client.list_artifacts(run.info.run_id, f"evaluation/gqa-{VARIANT}")
    }
    assert kept == {"result.json", "outcomes.parquet", "routing.png", "routing.json", "routing.csv"}
