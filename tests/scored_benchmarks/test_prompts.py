"""Prompts byte for byte, from rows of the parquet layouts and lines of LLaVA's question files."""

import pytest

from dpn_platform.benchmarks.registry import MODULES, find_benchmark

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'." + SHORT
TEXTVQA = {"question": "What does the SIGN say?", "ocr_tokens": ["Stop", "1st Ave"]}
SCIENCE = {"question": "Q?", "choices": ["x", "y"], "hint": "", "image": b"picture"}
MMBENCH = {"question": "Q?", "hint": "H", "A": "x", "B": "y", "C": "nan", "D": "z"}
SEED = {"question": "Q?", "choice_a": "1", "choice_b": "2", "choice_c": "3", "choice_d": "4"}
MMMU = {
    "id": "validation_Art_1",
    "question": "<image 1> Q?",
    "question_type": "multiple-choice",
    "options": "['x', 'y']",
}
OPEN = {**MMMU, "question_type": "open", "options": "[]"}


@pytest.mark.parametrize(
    ("name", "variant", "record", "text", "limit"),
    [
        ("vqav2", "reference", {"question": "is it Red?"}, "is it Red?" + SHORT, 128),
        ("vqav2", "harness", {"question": "is it Red?"}, "is it Red?" + SHORT, 16),
        ("gqa", "reference", {"question": "Is it Red?"}, "Is it Red?" + SHORT, 128),
        (
            "textvqa",
            "reference",
            TEXTVQA,
            "What does the sign say?\nReference OCR token: Stop, 1st Ave" + SHORT,
            128,
        ),
        (
            "textvqa",
            "reference",
            {**TEXTVQA, "ocr_tokens": []},
            "What does the sign say?\nReference OCR token: " + SHORT,
            128,
        ),
        ("textvqa", "harness", TEXTVQA, "What does the sign say?" + SHORT, 128),
        ("vizwiz", "reference", {"question": "what IS it"}, "What is it" + UNANSWERABLE, 128),
        ("scienceqa-img", "reference", SCIENCE, "Q?\nA. x\nB. y" + LETTER, 1024),
        ("scienceqa-img", "harness", {**SCIENCE, "hint": "H"}, "Context: H\nQ?\nA. x\nB. y" + LETTER, 16),
        ("mme", "reference", {"question": "Is it? Please answer yes or no."}, "Is it?" + SHORT, 128),
        ("mmbench", "reference", MMBENCH, "H\nQ?\nA. x\nB. y" + LETTER, 1024),
        ("mmbench", "reference", {**MMBENCH, "hint": None}, "Q?\nA. x\nB. y" + LETTER, 1024),
        ("mmbench", "harness", MMBENCH, "H Q? There are several options:\nA. x\nB. y\n" + LETTER, 1024),
        ("mmbench-cn", "reference", MMBENCH, "H\nQ?\nA. x\nB. y\n请直接回答选项字母。", 1024),
        ("mm-vet", "reference", {"question": "Q?"}, "Q?", 1024),
        ("mmmu", "reference", MMMU, "<image 1> Q?\n(A) x\n(B) y" + LETTER, 16),
        ("mmmu", "authors", MMMU, "<image 1> Q?\n\n(A) x\n(B) y\n" + LETTER, 128),
        ("mmmu", "harness", MMMU, "<image 1> Q?\nA. x\nB. y\n" + LETTER, 128),
        ("mmmu", "reference", OPEN, "<image 1> Q?" + SHORT, 16),
        ("mmmu", "authors", OPEN, "<image 1> Q?\n" + SHORT, 128),
        ("seed-image", "reference", SEED, "Q?\nA. 1\nB. 2\nC. 3\nD. 4" + LETTER, 128),
        ("pope", "reference", {"question": "Is there a cat?"}, "Is there a cat?" + SHORT, 128),
    ],
)
def test_prompt(name, variant, record, text, limit):
    prompt = find_benchmark(name).prompt(record, variant)
    assert (prompt.text, prompt.max_new_tokens) == (text, limit)


@pytest.mark.parametrize("name", ["vqav2", "gqa", "textvqa", "vizwiz", "mme", "mm-vet", "seed-image"])
def test_lines_of_llavas_question_files_are_whole_already(name):
    assert find_benchmark(name).prompt({"question_id": 1, "text": "Whole?"}, "reference").text == "Whole?"


def test_scienceqa_without_image_has_no_image():
    prompt = find_benchmark("sqa").prompt
    assert prompt({**SCIENCE, "image": None}, "reference").images == ()
    line = {"id": "4", "image": "4/image.png", "conversations": [{"from": "human", "value": "Q?\nA. x\n<image>"}]}
    assert prompt(line, "reference").text == "Q?\nA. x" + LETTER
    assert prompt(line, "reference").images == ("image",)


def test_mmmu_shows_one_image_and_does_not_ask_about_options_of_pictures():
    prompt = find_benchmark("mmmu").prompt
    pictures = {**MMMU, "question": "<image 1> and <image 3>", "options": "['<image 1>', '<image 2>']"}
    reference = prompt(pictures, "reference")
    assert reference.images == ("image_1",)
    assert reference.fixed_answer in ("A", "B")
    assert prompt(MMMU, "reference").fixed_answer is None
    assert prompt(pictures, "harness").images == ("image_1", "image_2", "image_3")
    assert prompt(pictures, "harness").fixed_answer is None


def test_every_benchmark_begins_with_the_reference_variant():
    for name in MODULES:
        benchmark = find_benchmark(name)
        assert (benchmark.name, next(iter(benchmark.variants))) == (name, "reference")
        assert benchmark.asks_data_set or "harness" in benchmark.variants
