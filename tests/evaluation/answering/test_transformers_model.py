"""A foreign model through our interface against a plain loop over transformers' own calls."""

import shutil

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.contract import Picture
from dpn_platform.evaluation.answering.loading import find_checkpoint, load_model


@pytest.fixture(scope="module")
def asked():
    rng = np.random.default_rng(1)
    pictures = [Image.fromarray(rng.integers(0, 255, (20, 28, 3), dtype=np.uint8)) for _ in range(4)]
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 60, 2 + number % 6)) for number in range(10)]
    return [
        (text, [Picture(str(number % 4), pictures[number % 4])] if number < 8 else [])
        for number, text in enumerate(texts)
    ]


def plain_loop(folder, asked):
    """One question at a time, as a user of transformers would."""
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    for text, pictures in asked:
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        shown = {"images": [picture.image for picture in pictures]} if pictures else {}
        inputs = processor(text=prompt, return_tensors="pt", **shown)
        ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        yield processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip(), inputs


@pytest.mark.parametrize("batch_size", [1, 5])
def test_same_answers_as_a_plain_loop(toy_llava, asked, batch_size):
    checkpoint = find_checkpoint(toy_llava)
    assert checkpoint.method is None
    model = load_model(checkpoint, use_gpu=False)
    expected = list(plain_loop(toy_llava, asked))
    assert len({text for text, _ in expected}) > 4, "answers that are all the same would prove nothing"
    for part in (asked[:8], asked[8:]):
        encoded = [model.encode(*question) for question in part]
        for start in range(0, len(part), batch_size):
            found, timing = model.answer(encoded[start : start + batch_size], 5)
            assert timing.num_samples == len(found)
            for answered, (text, inputs) in zip(found, expected[asked.index(part[start]) :], strict=False):
                length = inputs["input_ids"].shape[1]
                shown = 16 if "pixel_values" in inputs else 0
                assert (answered.text, answered.prompt_tokens) == (text, length)
                assert answered.visual_tokens == (shown,)
                assert answered.kv_bytes == 2 * 2 * 64 * 4 * length, "2 layers, keys and values, 64 wide, float32"
                assert (answered.route, answered.macs) == ("", {})


def test_what_cannot_be_asked_is_refused_in_one_line(toy_llava, tmp_path):
    with pytest.raises(DpnError, match="no checkpoint there"):
        find_checkpoint(str(tmp_path))
    mute = tmp_path / "mute"
    shutil.copytree(toy_llava, mute)
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(DpnError, match="no chat template"):
        load_model(find_checkpoint(str(mute)), use_gpu=False)
    (mute / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(DpnError, match="transformers cannot load it") as refused:
        load_model(find_checkpoint(str(mute)), use_gpu=False)
    assert "\n" not in str(refused.value)


def test_a_changed_checkpoint_has_another_fingerprint(toy_llava, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(toy_llava, copy)
    before = find_checkpoint(str(copy))
    assert find_checkpoint(str(copy)) == before
    (copy / "model.safetensors").write_bytes(b"other")
    assert find_checkpoint(str(copy)).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "content", ["{{ 'USER: ' + message['content'] }}", "USER: {{ message['content'] }}", "USER: hello"]
)
def test_a_template_for_texts_alone_is_refused(toy_llava, tmp_path, content):
    """The picture would never enter the prompt: the template fails, prints Python's list, or leaves it out."""
    folder = tmp_path / "texts"
    shutil.copytree(toy_llava, folder)
    (folder / "chat_template.jinja").write_text(f"{{% for message in messages %}}{content}{{% endfor %}}")
    with pytest.raises(DpnError, match="chat template takes texts only, so the picture's placeholder never enters"):
        load_model(find_checkpoint(str(folder)), use_gpu=False)
