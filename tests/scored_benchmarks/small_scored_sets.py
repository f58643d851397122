"""Small valid inputs of every benchmark's scorer: gold, answers and what stands beside them, as plain documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.scored_benchmarks.small_pieces import SHORT, humans, mmbench_rows, seed_row


@dataclass(frozen=True)
class ScoredSet:
    """Documents by the path they are written to; `annotations` may be a folder of them."""

    benchmark: str
    annotations: str
    documents: dict[str, Any]
    questions: str | None = None
    variants: tuple[str, ...] = ("reference", "harness")
    submits: tuple[str, ...] = field(default=())


def said(*texts: str, ids: tuple[Any, ...] = (), prompts: tuple[str | None, ...] = (), **more: Any) -> list[Any]:
    """Lines of an answer file."""
    lines = []
    for number, text in enumerate(texts):
        line = {"question_id": ids[number] if ids else number, "text": text, **more}
        if prompts and prompts[number] is not None:
            line["prompt"] = prompts[number]
        lines.append(line)
    return lines


def _vqa() -> list[ScoredSet]:
    answers = [[{"answer": one, "answer_id": n} for n, one in enumerate(humans(word), 1)] for word in ("yes", "2")]
    kinds = {"answer_type": "other", "question_type": "what"}
    v2 = [{"question_id": n, "answers": listed, **kinds} for n, listed in enumerate(answers)]
    text = [
        {"image_id": "00aa", "question_id": n, "question": f"What is {n}?", "answers": humans("go")} for n in range(2)
    ]
    prompts = tuple(f"What is {n}?\nReference OCR token: a{SHORT}" for n in range(2))
    wiz = [
        {"image": f"VizWiz_val_{n}.jpg", "answers": listed, "answer_type": "other"} for n, listed in enumerate(answers)
    ]
    asked = [{"question_id": n, "image": row["image"], "text": "?"} for n, row in enumerate(wiz)]
    three = ("reference", "official", "harness")
    return [
        ScoredSet("vqav2", "v.json", {"v.json": {"annotations": v2}, "p.jsonl": said("Yes", "two")}, None, three),
        ScoredSet(
            "vqav2",
            "v.parquet",
            {"v.parquet": v2, "p.jsonl": said("Yes", "two"), "q.jsonl": v2},
            "q.jsonl",
            submits=(".json",),
        ),
        ScoredSet(
            "textvqa",
            "t.json",
            {"t.json": {"data": text}, "p.jsonl": said("go", "no", ids=("00aa", "00aa"), prompts=prompts)},
        ),
        ScoredSet("textvqa", "t.parquet", {"t.parquet": text, "p.json": said("go", "no")}),
        ScoredSet("vizwiz", "w.json", {"w.json": wiz, "p.jsonl": said("yes", "no")}),
        ScoredSet(
            "vizwiz",
            "w.json",
            {"w.json": wiz, "p.jsonl": said("yes", "no"), "q.jsonl": asked},
            "q.jsonl",
            submits=(".json",),
        ),
        ScoredSet(
            "vizwiz",
            "w.parquet",
            {"w.parquet": [{**row, "question_id": n} for n, row in enumerate(wiz)], "p.json": {"0": "yes", "1": "no"}},
        ),
    ]


def _gqa() -> list[ScoredSet]:
    more = {"question": "q", "imageId": "n1", "types": {"structural": "query", "semantic": "attr"}}
    gold = {str(n): {**more, "answer": "yes", "groups": {"global": "g", "local": None}} for n in range(3)}
    rows = [{"id": key, **row} for key, row in gold.items()]
    sent = [{"questionId": str(n), "prediction": "yes"} for n in range(3)]
    return [
        ScoredSet("gqa", "g.json.gz", {"g.json.gz": gold, "p.jsonl.gz": said("yes", "no.", "Yes")}),
        ScoredSet("gqa", "g.json", {"g.json": gold, "p.jsonl": said("yes", "no.", "Yes")}),
        ScoredSet("gqa", "g.parquet", {"g.parquet": rows, "p.json": sent}),
    ]


def _choices() -> list[ScoredSet]:
    problem = {"question": "Q?", "choices": ["x", "y"], "answer": 1, "hint": "H", "subject": "s", "grade": "g"}
    image = "<image>\nContext: H\nQ?\nA. x\nB. y"
    problems = {"3": {**problem, "image": "i.png", "split": "test"}, "5": {**problem, "image": None, "split": "test"}}
    three = ("reference", "llava-hr", "harness")
    seed = [seed_row(n, kind) for n, kind in enumerate(("image", "image", "video"))]
    rotated = [
        {"question_id": 4, "round_id": n, "text": "A", "option_char": order, "options": order}
        for n, order in enumerate((["A", "B"], ["B", "A"]))
    ]
    both = ("mmbench", "mmbench-cn")
    sheet = {"m.tsv": mmbench_rows(), "p.xlsx": [{**row, "prediction": "A"} for row in mmbench_rows()]}
    table = {"m.tsv": mmbench_rows(), "p.jsonl": said("A", "B", ids=(4, 1_000_004))}
    return [
        ScoredSet(
            "scienceqa-img",
            "s",
            {
                "s/problems.json": problems,
                "s/pid_splits.json": {"test": ["3", "5"], "val": []},
                "p.jsonl": said("B", "A", ids=("3", "5"), prompts=(image, "Q?")),
            },
            None,
            three,
        ),
        ScoredSet(
            "scienceqa-img",
            "s.parquet",
            {"s.parquet": [problem] * 2, "p.jsonl": said("B", "A", prompts=(image, image))},
            None,
            three,
        ),
        ScoredSet(
            "scienceqa-img", "problems.json", {"problems.json": problems, "p.json": {"3": "B", "5": "B"}}, None, three
        ),
        ScoredSet(
            "seed-image", "s.json", {"s.json": {"questions": seed, "question_type": {}}, "p.jsonl": said("C", "A", "C")}
        ),
        ScoredSet("seed-image", "s.parquet", {"s.parquet": seed, "p.jsonl": said("C", "A")}),
        ScoredSet("mmbench", "m.tsv", sheet),
        *(ScoredSet(name, "m.tsv", table, submits=(".xlsx", ".tsv")) for name in both),
        ScoredSet(
            "mmbench",
            "m.json",
            {"m.json": mmbench_rows(), "p.json": said("A", "B", ids=(4, 1_000_004))},
            submits=(".tsv",),
        ),
        ScoredSet("mmbench", "m.parquet", {"m.parquet": mmbench_rows()[:1], "p.jsonl": rotated}),
    ]


def _mmmu() -> list[ScoredSet]:
    plain = {"question_type": "multiple-choice", "answer": "B", "options": "['x', 'y']"}
    rows = [
        {**plain, "id": "validation_Art_1"},
        {**plain, "id": "validation_Art_2", "question_type": "open", "options": "[]", "answer": "['4', '5']"},
    ]
    ids = tuple(row["id"] for row in rows)
    gold = {row["id"]: {"question_type": row["question_type"], "ground_truth": row["answer"]} for row in rows}
    own = [{"id": ids[0], "index2ans": {"A": "x", "B": "y"}, "response": "(B)"}, {"id": ids[1], "response": "5"}]
    three = ("reference", "authors", "harness")
    return [
        ScoredSet("mmmu", "m.parquet", {"m.parquet": rows, "p.jsonl": said("B. x", "5", ids=ids)}, None, three),
        ScoredSet("mmmu", "m.json", {"m.json": gold, "p.json": own}, None, three),
        ScoredSet(
            "mmmu",
            "m.json",
            {
                "m.json": gold,
                "q.json": [{**row, "options": ["x", "y"]} for row in rows],
                "p.json": dict.fromkeys(ids, "B"),
            },
            "q.json",
            three,
        ),
    ]


def _mm_vet() -> list[ScoredSet]:
    row = {"question": "q", "answer": "a<OR>b", "capability": ["ocr", "math"]}
    grades = {f"v1_{n}": {"model": ["gpt-4-0613"] * 2, "score": [0.5, 1.0]} for n in range(2)}
    table = [{**row, "question_id": f"v1_{n}", "capability": "ocr,math"} for n in range(2)]
    questions = {f"v1_{n}": row for n in range(2)}
    return [
        ScoredSet("mm-vet", "m.json", {"m.json": questions, "p.json": grades}),
        ScoredSet("mm-vet", "m.parquet", {"m.parquet": table, "p.json": {"v1_0": 0.5, "v1_1": [1]}}),
        ScoredSet(
            "mm-vet",
            "g.json",
            {"g.json": grades, "p.jsonl": said("a", "b"), "m.json": questions},
            "m.json",
            submits=(".json",),
        ),
    ]


def _yes_no() -> list[ScoredSet]:
    names = ("random", "popular", "adversarial")
    labels = [
        {"question_id": n, "image": "COCO_1.jpg", "text": f"Is there a {n} in the image?", "label": label}
        for n, label in enumerate(("yes", "no"))
    ]
    asked = [
        {"question_id": 2 * place + n, "image": "COCO_1.jpg", "text": row["text"] + SHORT, "category": name}
        for place, name in enumerate(names)
        for n, row in enumerate(labels)
    ]
    files = {f"coco/coco_pope_{name}.json": labels for name in names}
    yes = said(*["Yes", "No"] * 3, prompts=tuple(row["text"] for row in asked))
    pope = [
        {"id": str(n), "question": "Is there?", "answer": ("yes", "no")[n % 2], "category": names[n // 2]}
        for n in range(6)
    ]
    mme = [
        {
            "question_id": "color/1.png",
            "question": f"Is it {n}? Please answer yes or no.",
            "answer": answer,
            "category": "color",
        }
        for n, answer in enumerate(("Yes", "No"))
    ]
    ids = tuple(row["question_id"] for row in mme)
    prompts = tuple(f"Is it {n}?{SHORT}" for n in range(2))
    text = "".join(f"{row['question']}\t{row['answer']}\n" for row in mme)
    return [
        ScoredSet("pope", "coco", {**files, "p.jsonl": yes, "q.jsonl": asked}, "q.jsonl"),
        ScoredSet("pope", "coco", {**files, "p.jsonl": yes}),
        ScoredSet("pope", "p.parquet", {"p.parquet": pope, "p.jsonl": said(*["Yes", "No"] * 3)}),
        ScoredSet("mme", "m.parquet", {"m.parquet": mme, "p.jsonl": said("Yes", "No", ids=ids)}),
        ScoredSet("mme", "m", {"m/color/1.txt": text, "p.jsonl": said("Yes", "No", ids=ids, prompts=prompts)}),
    ]


SETS = [*_vqa(), *_gqa(), *_choices(), *_mmmu(), *_mm_vet(), *_yes_no()]
