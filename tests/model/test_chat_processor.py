"""A model's own processor behind our interface: its ids and pixels, and labels by its chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing import ChatProcessor, DpnProcessor, picture_inputs
from dpn_model.processing.chat import check_template, user_message
from tests.model.toy_folders import HUB_LLAVA, QUESTIONS_ONLY, WITH_END, llava_hf, qwen_vl

TURNS = [("<image>\nw1 w2 ?", "w3 w4"), ("w5 ?", "no")]


def photo(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    torch.manual_seed(seed)
    return Image.fromarray(torch.randint(0, 255, (height, width, 3), dtype=torch.uint8).numpy())


def words(processor: Any, ids: torch.Tensor) -> list[str]:
    return processor.tokenizer.convert_ids_to_tokens(ids.tolist())


def said(processor: Any, sample: Any) -> list[str]:
    assert torch.equal(sample.labels[sample.labels != -100], sample.input_ids[sample.labels != -100])
    return words(processor, sample.input_ids[sample.labels != -100])


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    llava_hf(folder)
    return folder


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def qwen(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    qwen_vl(folder, request.param)
    return folder


def test_llava_s_ids_and_pixels_are_transformers_own(llava: Path) -> None:
    theirs = AutoProcessor.from_pretrained(llava)
    pictures = [photo(), photo(30, 64, seed=1)]
    texts = [
        theirs.apply_chat_template([user_message(f"<image>{q}")], add_generation_prompt=True) for q in ("w1 ?", "w2")
    ]
    expected = theirs(text=texts, images=[[one] for one in pictures], padding=True, return_tensors="pt")
    batch = DpnProcessor.from_pretrained(llava)(["w1 ?", "w2"], pictures, router=False)
    assert batch.keys() == {"input_ids", "attention_mask", "pixel_values"}
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    for ours, theirs_row, mask in zip(
        batch["input_ids"], expected["input_ids"], expected["attention_mask"], strict=True
    ):
        length = int(mask.sum())
        assert ours[:length].tolist() == theirs_row[mask.bool()].tolist()


def test_qwen_s_ids_and_pixels_are_transformers_own(qwen: Path) -> None:
    """Its processor needs torchvision for videos; the parts for pictures and text do not."""
    expected = AutoImageProcessor.from_pretrained(qwen)(images=[photo(), photo(90, 30)], return_tensors="pt")
    batch = DpnProcessor.from_pretrained(qwen)(["w1 ?", "w2 w3"], [photo(), photo(90, 30)], router=False)
    assert batch.keys() == {"input_ids", "attention_mask", "pixel_values", "image_grid_thw"}
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    assert torch.equal(batch["image_grid_thw"], expected["image_grid_thw"])
    pads = "<|image_pad|>" * (int(expected["image_grid_thw"][1].prod()) // 4)
    text = f"<|im_start|> user <|vision_start|>{pads}<|vision_end|>w2 w3<|im_end|>\n<|im_start|> assistant "
    row = batch["input_ids"][1][batch["attention_mask"][1].bool()]
    assert row.tolist() == AutoTokenizer.from_pretrained(qwen)(text)["input_ids"]


@pytest.mark.parametrize("template", [HUB_LLAVA, WITH_END])
def test_exactly_answers_and_their_ends_are_supervised(tmp_path: Path, template: str) -> None:
    llava_hf(tmp_path, template)
    processor = DpnProcessor.from_pretrained(tmp_path)
    sample = processor.encode_training(TURNS, [photo()], router=True)
    assert said(processor, sample) == ["w3", "w4", "</s>", "no", "</s>"]
    tokens = words(processor, sample.input_ids)
    assert tokens.count("<image>") == 16
    assert [tokens[place - 1] for place, token in enumerate(tokens) if token == "<ROUTER>"] == ["?", "?"]
    prompt = processor.encode_prompt(TURNS[0][0], [photo()], router=True)
    assert tokens[: len(prompt.input_ids)] == words(processor, prompt.input_ids)  # generation sees what was trained
    assert bool((prompt.labels == -100).all())
    text = processor.encode_training([("w1", "no")], [], router=True)
    assert "<ROUTER>" not in words(processor, text.input_ids)
    assert said(processor, text) == ["no", "</s>"]


def test_qwen_s_answers_end_in_its_own_token(qwen: Path) -> None:
    processor = DpnProcessor.from_pretrained(qwen)
    sample = processor.encode_training(TURNS, [photo()], router=False)
    assert said(processor, sample) == ["w3", "w4", "<|im_end|>", "no", "<|im_end|>"]
    assert sorted(processor.tokenizer.convert_ids_to_tokens(processor.end_ids)) == ["</s>", "<|im_end|>"]


@pytest.mark.parametrize("answer", ["w1", "w2 ?"])
def test_pictures_between_turns_move_no_label(qwen: Path, answer: str) -> None:
    """Answers that their questions spell too are told apart by their places."""
    turns = [("<image>w1", answer), ("w2 ? <image> w1 <image>", answer), ("w1", "yes")]
    processor = DpnProcessor.from_pretrained(qwen)
    pictures = [photo(), photo(30, 30), photo(90, 40)]
    sample = processor.encode_training(turns, pictures, router=True)
    assert said(processor, sample) == [*answer.split(), "<|im_end|>"] * 2 + ["yes", "<|im_end|>"]
    places = torch.nonzero(sample.labels != -100).flatten().tolist()
    starts = [place for place in places if place - 1 not in places]
    assert [words(processor, sample.input_ids[at - 2 : at]) for at in starts] == [["<|im_start|>", "assistant"]] * 3
    assert (
        int((sample.input_ids == processor.image_token_id).sum())
        == int(sample.tensors["image_grid_thw"].prod(1).sum()) // 4
    )


def test_a_template_without_answers_teaches_one_turn(tmp_path: Path) -> None:
    llava_hf(tmp_path, QUESTIONS_ONLY)
    processor = DpnProcessor.from_pretrained(tmp_path)
    sample = processor.encode_training(TURNS[:1], [photo()], router=False)
    assert words(processor, sample.input_ids)[-6:] == ["w2", "?", "ASSISTANT:", "w3", "w4", "</s>"]
    assert said(processor, sample) == ["w3", "w4", "</s>"]
    with pytest.raises(ValueError, match="sample 7: its chat template does not continue its own prompt"):
        processor.encode_training(TURNS, [photo()], router=False, sample_id=7)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ 'USER: ' + m['content'] + ' ASSISTANT:' }}{% endfor %}", "takes texts only"),
        ("{% for m in messages %}USER: {{ m['content'] }} ASSISTANT:{% endfor %}", "takes texts only"),
        ("{% for m in messages %}{{ raise_exception('no') }}{% endfor %}", "cannot be rendered: no"),
        ("{% for m in messages %}", "cannot be rendered: Unexpected end of template"),
        (None, "has no chat template"),
    ],
)
def test_templates_that_cannot_ask_are_refused_in_one_line(llava: Path, template: str | None, message: str) -> None:
    processor = AutoProcessor.from_pretrained(llava)
    processor.chat_template = processor.tokenizer.chat_template = template
    with pytest.raises(ValueError, match=message) as refusal:
        check_template(processor)
    assert "\n" not in str(refusal.value)


def test_older_folders_without_counting_fields_are_counted_by_the_model(tmp_path: Path) -> None:
    llava_hf(tmp_path, fields=False)
    processor = DpnProcessor.from_pretrained(tmp_path)
    assert int((processor.encode_prompt("<image>w1", [photo()], router=False).input_ids == 3).sum()) == 16


def test_the_limit_keeps_whole_pictures(qwen: Path) -> None:
    processor = DpnProcessor.from_pretrained(qwen)
    turns = [("<image>w1", "no"), ("<image>w2", "yes yes")]
    pictures = [photo(), photo(30, 30)]
    whole = processor.encode_training(turns, pictures, router=False)
    first = processor.encode_training(turns[:1], pictures[:1], router=False)
    processor.max_length = len(whole.input_ids) - 2
    cut = processor.encode_training(turns, pictures, router=False)
    assert torch.equal(cut.input_ids, whole.input_ids[:-2])
    assert torch.equal(cut.tensors["pixel_values"], whole.tensors["pixel_values"])
    processor.max_length = len(first.input_ids) + 1
    cut = processor.encode_training(turns, pictures, router=False)
    assert torch.equal(cut.tensors["pixel_values"], first.tensors["pixel_values"])
    assert said(processor, cut) == ["no", "<|im_end|>"]
    processor.max_length = 7
    with pytest.raises(ValueError, match=r"max_length = 7 falls inside a picture of \d+ tokens"):
        processor.encode_training(turns, pictures, router=False)


def test_mixed_batches_join_and_train(qwen: Path) -> None:
    model, processor = DpnForConditionalGeneration.from_pretrained(qwen), DpnProcessor.from_pretrained(qwen)
    model.configure_method(Method(name="dpn", sites=(2,)))
    samples = [
        processor.encode_training(turns, pictures, router=True)
        for turns, pictures in ((TURNS, [photo()]), ([("w1", "no")], []), (TURNS[:1], [photo(90, 40)]))
    ]
    batch = processor.collate(samples)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    inputs |= picture_inputs(batch, torch.device("cpu"), torch.float32)
    assert inputs["image_grid_thw"].dtype == torch.int64
    out = model.train()(**inputs)
    out.loss.backward()
    assert out.num_supervised_tokens == 5 + 2 + 3
    assert processor.collate(samples[1:2])["pixel_values"] is None


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "qwen2_5_vl"])
def test_an_export_loads_again_and_generates_as_transformers(tmp_path: Path, kind: str) -> None:
    theirs = llava_hf(tmp_path / "base") if kind == "llava" else qwen_vl(tmp_path / "base", kind)
    model, processor = (k.from_pretrained(tmp_path / "base") for k in (DpnForConditionalGeneration, DpnProcessor))
    model.save_pretrained(tmp_path / "export")
    processor.save_pretrained(tmp_path / "export")
    kept = [file.name for file in (tmp_path / "base").iterdir() if "processor" in file.name or "chat" in file.name]
    for name in kept:
        assert (tmp_path / "export" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    again = DpnForConditionalGeneration.from_pretrained(tmp_path / "export")
    reloaded = DpnProcessor.from_pretrained(tmp_path / "export")
    assert isinstance(reloaded, ChatProcessor)
    assert (reloaded.end_ids, reloaded.router_token_id) == (processor.end_ids, again.config.router_token_id)
    questions, pictures = ["w1 w2 ?", "w3", "w4 w5 w6"], [photo(), photo(64, 30), photo(40, 80)]
    batch = reloaded(questions, pictures, router=False)
    assert torch.equal(batch["input_ids"], processor(questions, pictures, router=False)["input_ids"])
    found = again.generate(**batch, max_new_tokens=6, eos_token_id=reloaded.end_ids, pad_token_id=reloaded.pad_id)
    for row, (question, picture) in enumerate(zip(questions, pictures, strict=True)):
        alone = reloaded([question], [picture], router=False)
        extra = {} if kind == "llava" else {"mm_token_type_ids": (alone["input_ids"] == reloaded.image_token_id).int()}
        expected = theirs.generate(**alone, **extra, max_new_tokens=6, do_sample=False)
        new = expected[0, alone["input_ids"].shape[1] :].tolist()
        assert found[row, batch["input_ids"].shape[1] :].tolist()[: len(new)] == new


def test_the_router_s_id_is_the_model_s_row(tmp_path: Path) -> None:
    llava_hf(tmp_path)
    model, processor = DpnForConditionalGeneration.from_pretrained(tmp_path), DpnProcessor.from_pretrained(tmp_path)
    assert processor.router_token_id == model.config.router_token_id == len(processor.tokenizer) - 1
    model.configure_method(Method(name="dpn", sites=(1,)))
    out = model(**processor(["w1 ?"], [photo()]))
    assert len(out.routing.route(0)) == 1


def test_captions_and_missing_processors_are_refused(tmp_path: Path) -> None:
    llava_hf(tmp_path)
    with pytest.raises(ValueError, match="template plain is LLaVA's own"):
        DpnProcessor.from_pretrained(tmp_path).for_captions()
    (tmp_path / "processor_config.json").write_text('{"processor_class": "NoSuchProcessor"}')
    with pytest.raises(ValueError, match="names no processor that transformers has \\(found: NoSuchProcessor\\)"):
        DpnProcessor.from_pretrained(tmp_path)
