"""The families of the paper's reference systems, in toy size, through the whole runner on a small benchmark.

Real weights are not among what is proven here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.benchmarks.prompts import SHORT
from dpn_platform.cli.main import run
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.evaluation.answering.contract import Picture
from dpn_platform.evaluation.answering.loading import find_checkpoint, load_model
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
from dpn_platform.evaluation.runner.plan import Request
from tests.evaluation.answering import toy_references as toys
from tests.model import toy_folders
from tests.scored_benchmarks.small_llava_sets import gqa_llava

KINDS = {
    "instructblip": toys.instructblip,
    "instructblip-opt": lambda folder: toys.instructblip(folder, "opt"),
    "instructblip-t5": lambda folder: toys.instructblip(folder, "t5"),
    "idefics": lambda folder: toys.idefics(folder, instructed=False),
    "idefics-instruct": lambda folder: toys.idefics(folder, instructed=True),
    "idefics2": toys.idefics2,
    "qwen2_vl": lambda folder: toy_folders.qwen_vl(folder, "qwen2_vl"),
}
NEEDS_PICTURE = {"instructblip", "instructblip-opt", "instructblip-t5"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("references")
    for name, write in KINDS.items():
        (root / name).mkdir()
        write(root / name)
    return {name: str(root / name) for name in KINDS}


def picture(number: int) -> Picture:
    pixels = np.random.default_rng(number).integers(0, 255, (24 + 8 * number, 40, 3), dtype=np.uint8)
    return Picture(str(number), Image.fromarray(pixels))


def asked(*, shown: bool) -> list[tuple[str, list[Picture]]]:
    """Five questions of unequal length, every second one for a short answer."""
    rng = np.random.default_rng(5)
    words = [" ".join(f"w{word}" for word in rng.integers(0, 40, 2 + 3 * number)) for number in range(5)]
    return [(text + SHORT * (n % 2), [picture(n % 3)] if shown else []) for n, text in enumerate(words)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_each_question_alone(folders, kind):
    model = load_model(find_checkpoint(folders[kind]), use_gpu=False)
    for shown in (True, False):
        questions = asked(shown=shown)
        if not shown and kind in NEEDS_PICTURE:
            with pytest.raises(DpnError, match="has no picture, and a model of kind 'instructblip' answers none"):
                model.encode(*questions[0])
            continue
        encoded = [model.encode(*question) for question in questions]
        together, timing = model.answer(encoded, 5)
        assert timing.num_samples == 5
        assert together == [model.answer([one], 5)[0][0] for one in encoded]
        assert len({one.text for one in together}) > 2, "answers that are all the same would prove nothing"
        assert all(1 <= one.new_tokens <= 5 and one.macs == {} for one in together)
        lengths = [one.prompt_tokens for one in together]
        assert len(set(lengths)) > 2, "padding would make all of a batch as long"


@pytest.mark.parametrize("kind", ["instructblip", "instructblip-t5", "idefics", "idefics-instruct"])
def test_another_picture_is_another_answer(folders, kind):
    model = load_model(find_checkpoint(folders[kind]), use_gpu=False)
    found, _ = model.answer([model.encode("w1 w2 w3", [picture(number)]) for number in range(3)], 5)
    assert len({one.text for one in found}) > 1


@pytest.mark.parametrize("question", ["w1 w2", "w1 w2" + SHORT])
@pytest.mark.parametrize("kind", ["instructblip", "instructblip-t5", "idefics", "idefics-instruct"])
def test_answers_are_those_of_transformers_own_calls(folders, kind, question):
    """The prompts are spelt out here, from the papers and model cards."""
    image = picture(1).image
    processor, model = AutoProcessor.from_pretrained(folders[kind]), load_plain(folders[kind])
    if kind.startswith("instructblip"):
        short = "Question: w1 w2 Short answer:"
        inputs = processor(images=image, text=short if SHORT in question else question, return_tensors="pt")
        more = {}
    else:
        tokenizer = processor.tokenizer
        instruction = "Instruction: Provide an answer to the question. Use the image to answer.\n"
        texts = {
            "idefics": [instruction, image, f"Question: {question} Answer:"],
            "idefics-instruct": ["User:", image, f"{question}<end_of_utterance>\nAssistant:"],
        }
        inputs = processor(text=[texts[kind]], return_tensors="pt")
        hidden = tokenizer(["<image>", "<fake_token_around_image>"], add_special_tokens=False).input_ids
        ends = [2, *([tokenizer.convert_tokens_to_ids("<end_of_utterance>")] if "instruct" in kind else [])]
        more = {"bad_words_ids": hidden, "eos_token_id": ends}
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False, **more)[0]
    ids = ids if kind.endswith("t5") else ids[inputs["input_ids"].shape[1] :]
    ours = load_model(find_checkpoint(folders[kind]), use_gpu=False)
    (answered,), _ = ours.answer([ours.encode(question, [Picture("1", image)])], 5)
    assert answered.text == processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert answered.prompt_tokens == inputs["attention_mask"].sum()
    assert answered.visual_tokens == ((4,) if kind.startswith("instructblip") else (0,))


def load_plain(folder: str) -> torch.nn.Module:
    return AutoModelForImageTextToText.from_pretrained(folder).eval()


def test_several_pictures(folders):
    two = [picture(0), picture(1)]
    with pytest.raises(DpnError, match="has 2 pictures; a model of kind 'instructblip' takes one"):
        load_model(find_checkpoint(folders["instructblip"]), use_gpu=False).encode("w1", two)
    for kind in ("idefics", "idefics2", "qwen2_vl"):
        model = load_model(find_checkpoint(folders[kind]), use_gpu=False)
        one, both = model.encode("w1", two[:1]), model.encode("w1", two)
        together = model.answer([one, both], 5)[0]
        assert together == [model.answer([each], 5)[0][0] for each in (one, both)]


@pytest.mark.parametrize(
    ("file", "field"), [("config.json", "image_token_index"), ("processor_config.json", "num_query_tokens")]
)
def test_an_instructblip_of_an_older_transformers_is_refused_in_one_line(tmp_path, file, field):
    toys.instructblip(tmp_path)
    toys.edit(tmp_path / file, **{field: None})
    with pytest.raises(
        DpnError, match="an older transformers wrote it.*image_token_index.*num_query_tokens"
    ) as refused:
        load_model(find_checkpoint(str(tmp_path)), use_gpu=False)
    assert "\n" not in str(refused.value)


def evaluated(folder: str, tmp_path: Path, name: str = "out") -> EvaluationResult:
    gqa_llava(tmp_path / "set")
    request = Request(folder, "gqa", "harness", Wanted(data=str(tmp_path / "set")), str(tmp_path / name))
    config = parse_config({"name": "e", "eval": {"batch_size": 3}}, "test")
    return evaluate_benchmark(request, config, in_this_process=True)


@pytest.mark.parametrize("kind", ["instructblip", "idefics-instruct", "qwen2_vl"])
def test_a_benchmark_is_answered_and_scored(folders, tmp_path, kind):
    """What nobody has counted is null, and no number of visual tokens is told where the decoder sees none."""
    result = evaluated(folders[kind], tmp_path)
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result.n, document["about"]["method"], document["about"]["trust_remote_code"]) == (4, "transformers", False)
    assert "trust_remote_code" not in document["key"]
    cost = document["cost"]
    uncounted = ("flops_ratio_eq8", "flops_ratio_swiglu", "flops_ratio_swiglu_with_picture")
    assert [cost[name] for name in uncounted] == [None] * 3
    assert (cost["population"], cost["with_picture"]) == (4, 4)
    is_hidden = kind == "idefics-instruct"
    assert [document["visual_tokens_mean"] is None, cost["visual_tokens_mean"] is None] == [is_hidden] * 2
    assert EvaluationResult.from_json(document, "result.json").n == 4


def test_two_of_them_are_compared(folders, tmp_path, capsys):
    for kind in ("instructblip", "idefics-instruct"):
        evaluated(folders[kind], tmp_path, kind)
    places = [str(tmp_path / kind) for kind in ("instructblip", "idefics-instruct")]
    page = tmp_path / "page.html"
    assert run(["report", "compare", *places, "--paper", "--json", "--html", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (list(told["benchmarks"]), len(told["runs"])) == (["gqa"], 2)
    assert page.is_file()
