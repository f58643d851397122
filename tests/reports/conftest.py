"""A study that looks like a real one: controls, DPN trials, families of different need for detail, drawn examples."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dpn_platform.evaluation.points import FamilyScore, Point
from dpn_platform.reports.study.record import StudyRecord

# family -> (dense accuracy, accuracy lost per unit of saved FLOPs, majority rate)
FAMILIES = {
    "existence": (0.985, 0.03, 0.51),
    "colour": (0.962, 0.10, 0.14),
    "relation": (0.931, 0.22, 0.27),
    "counting": (0.944, 0.30, 0.21),
    "reading": (0.883, 0.78, 0.11),
}
QUESTIONS_PER_FAMILY = 400


def wilson(accuracy: float, n: int) -> tuple[float, float]:
    z = 1.96
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def make_point(name: str, method: str, flops: float, waste: float = 1.0, **more: Any) -> Point:
    """A point whose families lose `waste` times what their need for detail costs at this FLOPs ratio."""
    saved = max(0.0, 1.0 - flops)
    per_family = {}
    for family, (dense, loss, majority) in FAMILIES.items():
        accuracy = round(max(majority, dense - waste * loss * saved**1.4) * QUESTIONS_PER_FAMILY) / QUESTIONS_PER_FAMILY
        ci = wilson(accuracy, QUESTIONS_PER_FAMILY)
        per_family[family] = FamilyScore(n=QUESTIONS_PER_FAMILY, accuracy=accuracy, ci=ci, majority_rate=majority)
    accuracy = float(np.mean([score.accuracy for score in per_family.values()]))
    n = QUESTIONS_PER_FAMILY * len(FAMILIES)
    return Point(
        name=name,
        method=method,
        accuracy=accuracy,
        accuracy_ci=wilson(accuracy, n),
        per_family=per_family,
        flops_ratio={"swiglu": flops, "eq8": max(0.02, flops * 1.05 - 0.06)},
        visual_tokens_mean=64 * max(0.05, flops * 1.1 - 0.1),
        n=n,
        **more,
    )


def make_points() -> list[Point]:
    points = [
        make_point("dense", "dense", 1.0, is_control=True),
        make_point("static_1x2", "static", 0.58, 1.5, is_control=True, params={"kernel": "1x2"}),
        make_point("static_2x2", "static", 0.41, 1.7, is_control=True, params={"kernel": "2x2"}),
        make_point("random_drop", "random_drop", 0.60, 2.6, is_control=True, params={"keep_ratio": 0.5}),
    ]
    trials = [(0.92, 1.4, 0.4, 0.5), (0.74, 1.0, 0.04, 0.9), (0.63, 0.55, 0.11, 1.1), (0.55, 0.95, 0.18, 1.2)]
    trials += [(0.49, 0.72, 0.36, 1.35), (0.46, 1.25, 0.71, 1.4), (0.43, 0.95, 0.95, 1.7)]
    for index, (flops, waste, weight, target) in enumerate(trials):
        params = {"routing_loss_weight": weight, "routing_loss_target": target, "experts": ["1x1", "1x2", "2x2"]}
        routes = make_routes(index)
        points.append(make_point(f"dpn_{index:02d}", "dpn", flops, waste, params=params, routes=routes))
    return points


def make_routes(index: int) -> dict[str, dict[str, int]]:
    rng = np.random.default_rng(index)
    routes = ["2x2,2x2,1x1", "2x2,1x1,1x2", "1x2,1x2,1x1", "1x1,1x1,1x2"]
    table = {}
    for family, (_, loss, _) in FAMILIES.items():
        taste = np.array([1.2 - loss, 1.0 - loss / 2, 0.5, loss + 0.02])
        shares = rng.multinomial(QUESTIONS_PER_FAMILY, taste / taste.sum())
        table[family] = {route: int(count) for route, count in zip(routes, shares, strict=True) if count}
    return table


def draw_image(seed: int) -> str:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), tuple(int(value) for value in rng.integers(215, 245, 3)))
    pen = ImageDraw.Draw(image)
    for row in range(3):
        for column in range(3):
            if rng.random() < 0.45:
                continue
            x, y, r = 16 + 32 * column, 16 + 32 * row, 10
            colour = ["#d62828", "#1d4ed8", "#15803d", "#eab308", "#7e22ce"][int(rng.integers(5))]
            (pen.ellipse if rng.random() < 0.5 else pen.rectangle)((x - r, y - r, x + r, y + r), fill=colour)
    target = io.BytesIO()
    image.save(target, format="JPEG", quality=92)
    return base64.b64encode(target.getvalue()).decode()


def make_examples() -> list[dict[str, Any]]:
    rows = [
        ("existence", "is there a red circle?", "yes", "yes", ["2x2", "2x2", "1x1"]),
        ("colour", "what colour is the shape at the top left?", "blue", "blue", ["2x2", "1x1", "1x2"]),
        ("counting", "how many yellow squares are there?", "three", "two", ["2x2", "1x1", "1x2"]),
        ("relation", "is the green circle left of the square?", "no", "no", ["1x2", "1x2", "1x1"]),
        ("reading", "which two digits are written at the bottom?", "four seven", "four seven", ["1x1", "1x1", "1x2"]),
        ("reading", "which digit is written in the middle?", "eight", "three", ["1x1", "1x2", "1x2"]),
    ]
    examples = []
    for seed, (family, question, answer, gold, route) in enumerate(rows):
        tokens = [64]
        for kernel in route:
            height, width = (int(side) for side in kernel.split("x"))
            tokens.append(tokens[-1] // (height * width))
        example = {"image": draw_image(seed), "question": question, "answer": answer, "gold": gold, "family": family}
        examples.append(example | {"route": route, "visual_tokens": tokens, "correct": answer == gold})
    return examples


def make_record() -> StudyRecord:
    meta = {
        "created": "2024-05-01T12:00:00+00:00",
        "split": "test",
        "interval": "95% bootstrap intervals over questions",
        "seed": 0,
        "train_steps": 200,
        "base": "dpn_model/assets/tiny-llava",
        "data_uri": "s3://dpn/datasets/demo",
        "data_fingerprint": "0c9a1f6e2b7d",
        "config_fingerprint": "5f1e0b77a9c2",
        "code_version": "0123abc",
        "command": "dpn sweep jobs/configs/demo-sweep.yaml",
        "duration_s": 561.0,
        "versions": {"torch": "2.13.0", "ray": "2.60.0", "transformers": "5.23.0", "mlflow": "3.17.2"},
    }
    address = "http://127.0.0.1:5000/#/experiments/1/runs/0a1b"
    examples = tuple(make_examples())
    return StudyRecord("demo-sweep", tuple(make_points()), address, meta, examples, "dpn_02")


@pytest.fixture(scope="session")
def record() -> StudyRecord:
    return make_record()
