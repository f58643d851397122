"""Benchmarks in miniature, as Hugging Face data sets; each writer returns the right answers in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.scored_benchmarks.small_pieces import cell, humans, mmbench_rows, put, seed_row

Writer = Callable[[Path], list[str]]


def vqav2_parquet(root: Path) -> list[str]:
    right = ["red", "two", "yes"]
    rows = [
        {
            "question_id": n,
            "question": f"what {n}?",
            "image": cell(n // 2),
            "image_id": n // 2,
            "answers": [{"answer": one, "answer_confidence": "yes", "answer_id": 1} for one in humans(answer)],
            "answer_type": "other",
            "question_type": "what",
        }
        for n, answer in enumerate(right)
    ]
    put(root, "data/validation-00000-of-00002.parquet", rows[:2])
    put(root, "data/validation-00001-of-00002.parquet", rows[2:])
    put(root, "data/test-00000-of-00001.parquet", [{**row, "answers": None, "question_id": 77} for row in rows[:1]])
    return right


def gqa_parquet(root: Path) -> list[str]:
    rows = [{"id": f"2{n}", "imageId": f"n{n % 2}", "question": f"is {n}?", "answer": "no"} for n in range(4)]
    put(root, "testdev_balanced_instructions/testdev-00000-of-00001.parquet", rows)
    pictures = [{"id": f"n{n}", "image": cell(n)} for n in (1, 0)]
    put(root, "testdev_balanced_images/testdev-00000-of-00001.parquet", pictures)
    return ["no"] * 4


def scienceqa_parquet(root: Path) -> list[str]:
    row = {"question": "Q?", "choices": ["x", "y"], "answer": 0, "hint": "H", "subject": "s", "grade": "g"}
    rows = [{**row, "image": cell(0)}, {**row, "image": cell(1), "question": "R?"}, {**row, "image": cell(2)}]
    put(root, "ScienceQA-IMG/test-00000-of-00001.parquet", rows)
    return ["A"] * 3


def textvqa_parquet(root: Path) -> list[str]:
    rows = [
        {
            "question_id": 30 + n,
            "question": f"What is {n}?",
            "image": cell(n),
            "image_id": f"{n}",
            "answers": humans("go"),
            "ocr_tokens": ["x", "y"],
            "image_classes": ["Sign"],
        }
        for n in range(2)
    ]
    put(root, "data/validation-00000-of-00001.parquet", rows)
    return ["go", "go"]


def vizwiz_parquet(root: Path) -> list[str]:
    rows = [
        {
            "question_id": f"VizWiz_val_0000000{n}.jpg",
            "question": "what is it?",
            "image": cell(n),
            "answers": humans("cup"),
            "category": "other",
        }
        for n in range(2)
    ]
    put(root, "data/val-00000-of-00001.parquet", rows)
    return ["cup", "cup"]


def mme_parquet(root: Path) -> list[str]:
    rows = [
        {
            "question_id": f"color/{n}.png",
            "image": cell(n),
            "question": f"Is it {answer}? Please answer yes or no.",
            "answer": answer,
            "category": "color",
        }
        for n in range(2)
        for answer in ("Yes", "No")
    ]
    put(root, "data/test-00000-of-00001.parquet", rows)
    return ["yes", "no"] * 2


def mmbench_parquet(root: Path, language: str = "en") -> list[str]:
    rows = [{**row, "image": cell(4)} for row in mmbench_rows()]
    put(root, f"{language}/dev-00000-of-00001.parquet", rows)
    put(root, f"{language}/test-00000-of-00001.parquet", [{**rows[0], "answer": None, "index": 99}])
    return ["A", "B"]


def mmbench_cn_parquet(root: Path) -> list[str]:
    return mmbench_parquet(root, "cn")


def mm_vet_parquet(root: Path) -> list[str]:
    row = {"question": "Q?", "answer": "a", "capability": "rec,ocr"}
    put(root, "data/test-00000-of-00001.parquet", [{**row, "question_id": f"v1_{n}", "image": cell(n)} for n in (0, 1)])
    return ["a", "b"]


def mmmu_parquet(root: Path) -> list[str]:
    plain = {"question": "<image 1> Q?", "answer": "B", "question_type": "multiple-choice", "options": "['x', 'y']"}
    rows = [
        {**plain, "id": "validation_Art_1"},
        {**plain, "id": "validation_Art_2", "question_type": "open", "options": "[]", "answer": "seven"},
        {**plain, "id": "validation_Art_3", "options": "['<image 1>', '<image 2>']"},
    ]
    rows = [{**row, "image_1": cell(n), "image_2": cell(9) if n == 2 else None} for n, row in enumerate(rows)]
    put(root, "Art/validation-00000-of-00001.parquet", rows)
    return ["B", "seven", ""]


def seed_parquet(root: Path) -> list[str]:
    rows = [{**seed_row(1, "image"), "image": [cell(1)]}, {**seed_row(2, "video"), "image": [cell(2), cell(3)]}]
    put(root, "data/test-00000-of-00001.parquet", rows)
    return ["C"]


def pope_parquet(root: Path) -> list[str]:
    kinds = [(category, label) for category in ("adversarial", "popular", "random") for label in ("yes", "no")]
    rows = [
        {
            "id": f"{n}",
            "question_id": f"{n % 2}",
            "question": "Is there a cat in the image?",
            "answer": label,
            "image_source": "COCO_1",
            "image": cell(1),
            "category": category,
        }
        for n, (category, label) in enumerate(kinds)
    ]
    put(root, "data/test-00000-of-00001.parquet", rows)
    return ["Yes", "No"] * 3


#: benchmark -> writer
WRITERS: dict[str, Writer] = {
    "vqav2": vqav2_parquet,
    "gqa": gqa_parquet,
    "scienceqa-img": scienceqa_parquet,
    "textvqa": textvqa_parquet,
    "vizwiz": vizwiz_parquet,
    "mme": mme_parquet,
    "mmbench": mmbench_parquet,
    "mmbench-cn": mmbench_cn_parquet,
    "mm-vet": mm_vet_parquet,
    "mmmu": mmmu_parquet,
    "seed-image": seed_parquet,
    "pope": pope_parquet,
}
