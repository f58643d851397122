"""Benchmarks in miniature, in the folders of LLaVA's `eval/`; each writer returns the right answers in order."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

from tests.scored_benchmarks.small_pieces import LETTER, SHORT, humans, mmbench_rows, picture, put, seed_row

Writer = Callable[[Path], list[str]]


def vqav2_llava(root: Path) -> list[str]:
    lines = [{"question_id": n, "image": f"COCO_{n // 2}.jpg", "text": f"what {n}?{SHORT}"} for n in range(4)]
    put(root, "vqav2/llava_vqav2_mscoco_test-dev2015.jsonl", lines)
    put(root, "vqav2/llava_vqav2_mscoco_test2015.jsonl", [*lines, {**lines[0], "question_id": 9}])
    for n in range(2):
        put(root, f"vqav2/test2015/COCO_{n}.jpg", picture(n))
    return ["red", "two", "yes", "no"]


def gqa_llava(root: Path) -> list[str]:
    lines = [{"question_id": f"2{n}", "image": f"n{n % 2}.jpg", "text": f"is {n}?{SHORT}"} for n in range(4)]
    put(root, "gqa/llava_gqa_testdev_balanced.jsonl", lines)
    gold = {f"2{n}": {"question": f"is {n}?", "answer": "yes", "imageId": f"n{n % 2}"} for n in range(4)}
    put(root, "gqa/data/testdev_balanced_questions.json", gold)
    for n in range(2):
        put(root, f"gqa/data/images/n{n}.jpg", picture(n))
    return ["yes"] * 4


def scienceqa_llava(root: Path) -> list[str]:
    put(root, "scienceqa/pid_splits.json", {"test": ["3", "5"]})
    problem = {"question": "Q?", "choices": ["x", "y"], "answer": 1, "hint": "", "split": "test"}
    put(root, "scienceqa/problems.json", {"3": {**problem, "image": "image.png"}, "5": {**problem, "image": None}})
    text = {"from": "human", "value": "Q?\nA. x\nB. y"}
    put(
        root,
        "scienceqa/llava_test_CQM-A.json",
        [{"id": "3", "image": "3/image.png", "conversations": [text]}, {"id": "5", "conversations": [text]}],
    )
    put(root, "scienceqa/images/test/3/image.png", picture(3))
    return ["B", "B"]


def textvqa_llava(root: Path) -> list[str]:
    tail = f"\nReference OCR token: A, B{SHORT}"
    questions = [("ab" * 8, "What is it?"), ("ab" * 8, "Who is it?")]
    lines = [{"question_id": image, "image": f"{image}.jpg", "text": question + tail} for image, question in questions]
    put(root, "textvqa/llava_textvqa_val_v051_ocr.jsonl", lines)
    data = [
        {"image_id": image, "question": question, "question_id": n, "answers": humans("stop")}
        for n, (image, question) in enumerate(questions)
    ]
    put(root, "textvqa/TextVQA_0.5.1_val.json", {"data": data})
    put(root, f"textvqa/train_images/{'ab' * 8}.jpg", picture(1))
    return ["stop", "stop"]


def vizwiz_llava(root: Path) -> list[str]:
    lines = [{"question_id": n, "image": f"VizWiz_test_0000000{n}.jpg", "text": f"What {n}?{SHORT}"} for n in range(2)]
    put(root, "vizwiz/llava_test.jsonl", lines)
    for n in range(2):
        put(root, f"vizwiz/test/VizWiz_test_0000000{n}.jpg", picture(n))
    return ["cup", "unanswerable"]


def mme_llava(root: Path) -> list[str]:
    places = {"count": ("count/1.jpg", ""), "artwork": ("artwork/7.jpg", "images/")}
    lines, base = [], "MME/MME_Benchmark_release_version"
    for subtask, (name, below) in places.items():
        lines += [
            {"question_id": name, "image": name, "text": f"Is it {what}?{SHORT}", "category": subtask} for what in "ab"
        ]
        file = name.rpartition("/")[2]
        put(root, f"{base}/{subtask}/{below}{file}", picture(len(file)))
        text = "Is it a? Please answer yes or no.\tYes\nIs it b? Please answer yes or no.\tNo\n"
        put(root, f"{base}/{subtask}/{'questions_answers_YN/' if below else ''}{file.split('.')[0]}.txt", text)
    put(root, "MME/llava_mme.jsonl", lines)
    return ["Yes", "No"] * 2


def mmbench_tsv(root: Path, name: str = "mmbench/mmbench_dev_20230712.tsv") -> list[str]:
    rows = mmbench_rows()
    columns = [*rows[0], "image"]
    images = {4: base64.b64encode(picture(4)).decode(), 1_000_004: "4"}  # the copy names the row that has the picture
    body = [[str(row.get(column) or "") for column in columns[:-1]] + [images[row["index"]]] for row in rows]
    put(root, name, "\n".join("\t".join(cells) for cells in [columns, *body]) + "\n")
    return ["A", "B"]


def mmbench_cn_tsv(root: Path) -> list[str]:
    return mmbench_tsv(root, "mmbench_cn/mmbench_dev_cn_20231003.tsv")


def mm_vet_llava(root: Path) -> list[str]:
    put(root, "mm-vet/llava-mm-vet.jsonl", [{"question_id": n, "image": f"v{n}.png", "text": "Q?"} for n in range(2)])
    for n in range(2):
        put(root, f"mm-vet/images/v{n}.png", picture(n))
    return ["a", "b"]


def seed_llava(root: Path) -> list[str]:
    text = f"Q?\nA. a\nB. b\nC. c\nD. d{LETTER}"
    images = {"1": "SEED-Bench-image/1_x", "2": "SEED-Bench-image/1_x", "3": "SEED-Bench-video-image/task10.png"}
    lines = [{"question_id": key, "image": image, "text": text, "category": "c"} for key, image in images.items()]
    put(root, "seed_bench/llava-seed-bench.jsonl", lines)
    rows = [seed_row(n, "video" if n == 3 else "image") for n in (1, 2, 3)]
    put(root, "seed_bench/SEED-Bench.json", {"questions": rows, "question_type": {}})
    put(root, "seed_bench/SEED-Bench-image/1_x", picture(1))
    return ["C", "C"]


def pope_llava(root: Path) -> list[str]:
    lines = []
    for category in ("random", "popular", "adversarial"):
        labels = [
            {"question_id": n, "image": "COCO_1.jpg", "text": f"Is there a {n} in the image?", "label": label}
            for n, label in enumerate(("yes", "no"))
        ]
        put(root, f"pope/coco/coco_pope_{category}.json", "".join(json.dumps(row) + "\n" for row in labels))
        lines += [
            {"question_id": len(lines) + n, "image": "COCO_1.jpg", "text": row["text"] + SHORT, "category": category}
            for n, row in enumerate(labels)
        ]
    put(root, "pope/llava_pope_test.jsonl", lines)
    put(root, "pope/val2014/COCO_1.jpg", picture(1))
    return ["Yes", "No"] * 3


#: benchmark -> writer
WRITERS: dict[str, Writer] = {
    "vqav2": vqav2_llava,
    "gqa": gqa_llava,
    "scienceqa-img": scienceqa_llava,
    "textvqa": textvqa_llava,
    "vizwiz": vizwiz_llava,
    "mme": mme_llava,
    "mmbench": mmbench_tsv,
    "mmbench-cn": mmbench_cn_tsv,
    "mm-vet": mm_vet_llava,
    "seed-image": seed_llava,
    "pope": pope_llava,
}
