"""Our checkpoints behind the interface: same answers as the model asked by itself, each picture encoded once."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.contract import Picture, Timing
from dpn_platform.evaluation.answering.loading import find_checkpoint, load_model, load_ours
from dpn_platform.evaluation.answering.packed_model import PackedModel

WORDS = "what colour is at row one how many circles red square there ?".split()


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (30 + number, 40, 3), dtype=np.uint8)
    return Picture(hashlib.sha256(pixels.tobytes()).hexdigest(), Image.fromarray(pixels))


@pytest.fixture(scope="module")
def asked():
    """Twelve questions: three about each of three pictures, three about none."""
    rng = np.random.default_rng(3)
    pictures = [picture(number) for number in range(3)]
    texts = [" ".join(rng.choice(WORDS, 3 + number % 5)) for number in range(12)]
    return [(text, [pictures[number // 3]] if number < 9 else []) for number, text in enumerate(texts)]


def load(folder) -> PackedModel:
    return load_model(find_checkpoint(folder), use_gpu=False)


def answers(model, asked, batch_size, limit=4):
    encoded = [model.encode(*question) for question in asked]
    found = []
    for kind in (True, False):
        places = [place for place, one in enumerate(encoded) if one.has_picture is kind]
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            found += list(zip(batch, model.answer([encoded[place] for place in batch], limit)[0], strict=True))
    return [answered for _, answered in sorted(found, key=lambda one: one[0])]


@pytest.mark.parametrize(
    "method",
    [{"name": "dense"}, {"name": "dpn"}, {"name": "tokenpacker"}, {"name": "mqt", "keep": 9}, {"name": "avgpool"}],
    ids=lambda method: method["name"],
)
def test_batches_change_nothing_and_answers_are_the_model_s_own(save_checkpoint, asked, method):
    folder = save_checkpoint(**method)
    batched = answers(load(folder), asked, 8)
    assert batched == answers(load(folder), asked, 1)
    model, processor = load_ours(folder)
    for answered, (text, pictures) in zip(batched, asked, strict=True):
        inputs = processor([text], [pictures[0].image if pictures else None], router=model.needs_router_token)
        ids = model.generate(**inputs, max_new_tokens=4, eos_token_id=processor.tokenizer.eos_token_id)
        assert answered.text == processor.decode(ids[0, inputs["input_ids"].shape[1] :].tolist())
        routing = model.last_routing
        assert answered.route == ",".join(routing.route(0))
        assert answered.macs["swiglu_macs"] == routing.prefill_cost(0, "swiglu").total
        assert answered.kv_bytes == sum(group.num_bytes for group in routing.kv_groups(0, bytes_per_element=4))
        # As the base alone would read it, whatever grid a method's projector has.
        placeholders = model.num_visual_tokens() * len(pictures)
        assert answered.prompt_tokens == inputs["input_ids"].shape[1] - placeholders + 64 * len(pictures)


def test_each_picture_goes_through_the_tower_once(save_checkpoint, asked):
    model = load(save_checkpoint(name="dpn"))
    seen = []
    tower = model.model.model.vision_tower
    tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs.get("pixel_values", args[0] if args else None))),
        with_kwargs=True,
    )
    answers(model, asked, 2)
    assert sum(seen) == 3
    model.forget_pictures()
    answers(model, asked, 8)
    assert sum(seen) == 6


def test_times_add_up(save_checkpoint, asked):
    model = load(save_checkpoint(name="dense"))
    encoded = [model.encode(*question) for question in asked[:4]]
    found, timing = model.answer(encoded, 3)
    assert (timing.num_samples, timing.decode_tokens) == (4, sum(one.new_tokens - 1 for one in found))
    assert min(timing.vision_s, timing.prefill_s) > 0
    assert timing + Timing() == timing


def test_several_pictures_are_shown_before_the_question(save_checkpoint):
    model = load(save_checkpoint(name="dense"))
    pictures = [picture(0), picture(1)]
    (answered,), _ = model.answer([model.encode("what ?", pictures)], 4)
    assert answered.visual_tokens[0] == 2 * model.processor.tokens_per_image
    # A tag in the question is no picture.
    reversed_ids = model.encode("what ?", pictures[::-1])
    assert model.encode("<image>\nwhat ?", pictures).length == reversed_ids.length


def test_a_question_that_cannot_be_encoded_is_one_line(save_checkpoint, monkeypatch):
    model = load(save_checkpoint(name="dense"))
    monkeypatch.setattr(model.processor, "template", "plain")
    with pytest.raises(DpnError, match="question 'what \\?': template 'plain' takes one turn"):
        model.encode("what ?", [])


def test_a_limit_of_training_does_not_cut_prompts(save_checkpoint, asked):
    model, processor = load_ours(save_checkpoint(name="dense"))
    processor.max_length = 70
    packed = PackedModel(model, processor, torch.device("cpu"), torch.float32)
    assert packed.encode(" ".join(WORDS * 3), asked[0][1]).length > 70
