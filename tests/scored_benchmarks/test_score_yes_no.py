"""POPE, MME and GQA from their files."""

import json

import pytest

from dpn_platform.config.errors import DpnError

SHORT = "\nAnswer the question using a single word or phrase."


def pope_folder(files, random_order=(0, 1)):
    """Three label files of two or three questions each, and LLaVA's question file."""
    gold = {
        "adversarial": [("a cat", "yes"), ("a dog", "no")],
        "popular": [("a cat", "yes"), ("a car", "no"), ("a bus", "no")],
        "random": [("a cat", "yes"), ("a pen", "no")],
    }
    asked = []
    for category, labels in gold.items():
        rows = [
            {"question_id": i, "image": "COCO_val2014_1.jpg", "text": f"Is there {thing} in the image?", "label": label}
            for i, (thing, label) in enumerate(labels, 1)
        ]
        asked += [
            {"question_id": len(asked) + i, "image": row["image"], "text": row["text"] + SHORT, "category": category}
            for i, row in enumerate(rows)
        ]
        rows = [rows[i] for i in random_order] if category == "random" else rows
        files(f"coco/coco_pope_{category}.json", "".join(json.dumps(row) + "\n" for row in rows))
    return files("coco/readme.md", "x").rpartition("/")[0], files("llava_pope_test.jsonl", asked), asked


def test_pope_mean_of_three_f1(files, answers, scored):
    folder, questions, asked = pope_folder(files)
    texts = ["Yes", "Yes", "Yes", "no", "There is not. Yes", "No", "No, it"]
    predictions = answers({row["question_id"]: text for row, text in zip(asked, texts, strict=True)})
    document, _ = scored("pope", predictions, folder, questions)
    by_category = document["scores"]["category"]
    assert by_category["adversarial"]["f1"] == pytest.approx(200 / 3)
    assert by_category["adversarial"]["precision"] == 50
    assert by_category["adversarial"]["recall"] == 100
    assert by_category["adversarial"]["yes_ratio"] == 1.0
    assert (by_category["popular"]["f1"], by_category["random"]["f1"]) == (100, 0)
    assert document["headline"]["name"] == "f1_mean"
    assert document["headline"]["value"] == pytest.approx((200 / 3 + 100 + 0) / 3)
    assert document["scores"]["pooled"]["true_negatives"] == 3
    assert document["n"] == 7


def test_pope_harness_is_pooled_exact_and_counts_labels(files, answers, scored):
    folder, questions, asked = pope_folder(files)
    texts = ["Yes", " NO ", "Yes.", "no", "no", "yes", "yes"]
    predictions = answers({row["question_id"]: text for row, text in zip(asked, texts, strict=True)})
    document, _ = scored("pope", predictions, folder, questions, variant="harness")
    # "Yes." is neither yes nor no: no true positive, and no false negative either.
    pooled = document["scores"]["pooled"]
    assert (pooled["true_positives"], pooled["false_positives"], pooled["false_negatives"]) == (2, 1, 0)
    assert document["headline"]["value"] == pooled["f1"] == pytest.approx(80)
    assert pooled["yes_ratio"] == pytest.approx(3 / 7)
    assert pooled["accuracy"] == pytest.approx(100 * 5 / 7)


def test_pope_without_question_file_goes_by_prompts(files, answers, scored):
    folder, _, asked = pope_folder(files)
    backwards = [row for name in ("random", "popular", "adversarial") for row in asked if row["category"] == name]
    predictions = answers([(row["question_id"], "yes", row["text"]) for row in backwards])
    assert scored("pope", predictions, folder)[0]["scores"]["category"]["popular"]["f1"] == 50
    shuffled = answers([(row["question_id"], "yes", row["text"]) for row in asked[::-1]], "s.jsonl")
    with pytest.raises(DpnError, match="do not follow the 7 questions.*--questions"):
        scored("pope", shuffled, folder)


def test_pope_labels_of_another_issue_are_named(files, answers, scored):
    folder, questions, asked = pope_folder(files, random_order=(1, 0))
    predictions = answers({row["question_id"]: "yes" for row in asked})
    with pytest.raises(DpnError, match="random label 1 is of 'Is there a pen.*another issue of POPE"):
        scored("pope", predictions, folder, questions)
    folder, questions, _ = pope_folder(files, random_order=(0, 1, 1))
    with pytest.raises(DpnError, match="3 random labels, but 2 random questions"):
        scored("pope", predictions, folder, questions)


def test_pope_one_category_and_parquet(files, answers, scored):
    folder, questions, asked = pope_folder(files)
    predictions = answers({row["question_id"]: "yes" for row in asked})
    document, _ = scored("pope", predictions, f"{folder}/coco_pope_popular.json", questions)
    assert (document["n"], document["headline"]["value"]) == (3, 50)
    rows = [
        {"id": str(i), "question_id": str(i % 2), "question": "Is there x?", "answer": label, "category": category}
        for i, (label, category) in enumerate(
            [("yes", "random"), ("no", "random"), ("yes", "popular"), ("no", "popular")]
        )
    ]
    parquet = files("pope.parquet", rows)
    document, _ = scored("pope", answers(dict.fromkeys("0123", "Yes"), "p.jsonl"), parquet)
    assert document["headline"]["value"] == pytest.approx(200 / 3)
    named = {f"{row['category']}/{row['question_id']}": "Yes" for row in rows}
    assert scored("pope", answers(named, "n.jsonl"), parquet)[0]["n"] == 4


MME = {
    "existence": [("1.png", "Is there a cat?", "Yes"), ("1.png", "Is there a dog?", "No")],
    "OCR": [("a.b.jpg", "Is it x?", "Yes"), ("a.b.jpg", "Is it y?", "No")],
    "code_reasoning": [("0.png", "Is it 3?", "Yes"), ("0.png", "Is it 4?", "No")],
}
CLOSING = " Please answer yes or no."


def mme_gold(files, layout):
    rows = [(task, *row) for task, members in MME.items() for row in members]
    if layout == "parquet":
        return files(
            "mme.parquet",
            [{"question_id": f"{t}/{i}", "question": q + CLOSING, "answer": a, "category": t} for t, i, q, a in rows],
        )
    texts = {}
    for task, image, question, answer in rows:
        place = f"release/{task}/questions_answers_YN" if task == "existence" else f"release/{task}"
        texts.setdefault(f"{place}/{image.split('.')[0]}.txt", []).append(f"{question}{CLOSING}\t{answer}\n")
    for name, lines in texts.items():
        path = files(name, "".join(lines))
    return path.partition("/release/")[0] + "/release"


@pytest.mark.parametrize("layout", ["parquet", "folder"])
def test_mme(files, answers, scored, layout):
    gold = mme_gold(files, layout)
    rows = [(task, *row) for task, members in MME.items() for row in members]
    texts = ["Yes", "No", "yes", "maybe", "No", "no"]
    lines = [(f"{t}/{i}", text, q + SHORT) for (t, i, q, _), text in zip(rows, texts, strict=True)]
    document, _ = scored("mme", answers(lines), gold)
    scores = document["scores"]
    assert scores["subtasks"]["existence"]["score"] == 200
    assert scores["subtasks"]["OCR"] == {
        "n": 2,
        "score": 50,
        "accuracy": 50,
        "accuracy_plus": 0,
        "yes_ratio": 0.5,
        "other": 1,
    }
    assert (document["headline"]["value"], scores["cognition"], document["n"]) == (250, 50, 4)
    assert "posters" in scores["absent_subtasks"]
    # Cognition as a whole may be left out; questions in another order or without prompts find their gold.
    assert scored("mme", answers(lines[:4][::-1], "p.jsonl"), gold)[0]["scores"]["cognition"] is None
    bare = answers([(key, text, None) for key, text, _ in lines], "b.jsonl")
    assert scored("mme", bare, gold)[0]["headline"]["value"] == 250


def test_mme_asks_two_questions_of_every_image(files, answers, scored):
    gold = files("m.parquet", [{"question_id": "OCR/1.png", "question": "x", "answer": "Yes", "category": "OCR"}])
    with pytest.raises(DpnError, match="two questions of every image; OCR/1 has 1"):
        scored("mme", answers({"OCR/1.png": "Yes"}), gold)


def test_gqa(files, answers, scored):
    gold = {
        "1": ("query", "t-shirt"),
        "2": ("verify", "yes"),
        "3": ("choose", "left"),
    }
    rows = {
        key: {"question": "q", "answer": answer, "imageId": "n1", "types": {"structural": kind, "semantic": "attr"}}
        for key, (kind, answer) in gold.items()
    }
    official = files("testdev_balanced_questions.json", rows)
    parquet = files("gqa.parquet", [{"id": key, **row} for key, row in rows.items()])
    predictions = answers({"2": "Yes.", "1": "tshirt", "3": " left"})
    for annotations in (official, parquet):
        document, _ = scored("gqa", predictions, annotations)
        scores = document["scores"]
        assert document["headline"]["value"] == pytest.approx(100 / 3)
        assert scores["binary"] == {"n": 2, "accuracy": 50}
        assert scores["open"] == {"n": 1, "accuracy": 0}
        assert scores["semantic_type"]["attr"]["n"] == 3
        assert scores["not_computable"] == ["validity", "plausibility", "grounding", "distribution"]
    assert scored("gqa", predictions, official, variant="harness")[0]["headline"]["value"] == pytest.approx(200 / 3)
    sent = files("sent.json", [{"questionId": key, "prediction": answer} for key, (_, answer) in gold.items()])
    assert scored("gqa", sent, official)[0]["headline"]["value"] == 100


@pytest.mark.parametrize("layout", ["g.json", "g.parquet"])
def test_gqa_distribution_is_chi_square_by_global_group(files, answers, scored, layout):
    # Colours: red 3 and blue 1 of the gold, red 1 and blue 2 of the answers (green is none of the group's): 4/3 + 1.
    colours = zip(["red", "red", "red", "blue"], ["Red.", "blue", "green", "blue"], strict=True)
    asked = [("color", *pair) for pair in colours] + [("dog", "yes", "yes"), ("dog", "no", "no"), (None, "left", "up")]
    gold = {
        str(n): {"question": "q", "answer": answer, "imageId": "n", "groups": {"global": group, "local": "x"}}
        for n, (group, answer, _) in enumerate(asked)
    }
    said = answers({str(n): text for n, (_, _, text) in enumerate(asked)})
    table = gold if layout.endswith(".json") else [{"id": key, **row} for key, row in gold.items()]
    scores = scored("gqa", said, files(layout, table))[0]["scores"]
    assert scores["distribution"] == pytest.approx((7 / 3 * 4 + 0 * 2) / 6 / 100)
    assert scores["not_computable"] == ["validity", "plausibility", "grounding"]
    unbalanced = {**gold, "0": {**gold["0"], "isBalanced": False}}
    scores = scored("gqa", said, files("u.json", unbalanced))[0]["scores"]
    # Now red 2 and blue 1 against blue 2: 2 + 1, over three questions.
    assert scores["distribution"] == pytest.approx(3 * 3 / 5 / 100)


def test_gqa_distribution_without_any_group_is_not_computable(files, answers, scored):
    row = {"question": "q", "answer": "yes", "imageId": "n", "groups": {"global": None, "local": None}}
    scores = scored("gqa", answers({"1": "yes"}), files("g.json", {"1": row}))[0]["scores"]
    assert scores["not_computable"] == ["validity", "plausibility", "grounding", "distribution"]
    assert "distribution" not in scores
