"""Ids and label masks of the Vicuna-v1 conversation against golden vectors (spec base-models B.3).

A small tokenizer that holds the pieces of these texts at LLaMA's ids stands for the real one, which is used where the
environment variable DPN_VICUNA_TOKENIZER names its folder.
"""

from __future__ import annotations

import os

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram
from transformers import CLIPImageProcessor, LlamaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dpn_model.processing import DpnProcessor
from dpn_model.processing.contract import IGNORE_INDEX
from dpn_model.processing.conversation import VICUNA_SYSTEM, conversation_segments
from dpn_model.processing.images import normalise, prepare_image
from dpn_model.processing.tokenizer import add_special_tokens

ROUTER, IMAGE = 32000, 32001
SYSTEM_IDS = [319, 13563, 1546, 263, 12758, 1404, 322, 385, 23116, 21082, 20255, 29889, 450, 20255, 4076, 8444, 29892]
SYSTEM_IDS += [13173, 29892, 322, 1248, 568, 6089, 304, 278, 1404, 29915, 29879, 5155, 29889]
USER, ASSISTANT = [3148, 1001, 29901], [319, 1799, 9047, 13566, 29901]
WHAT_IS_IT = [825, 338, 372, 29973]
SPACE, NEWLINE, EOS, ANSWER = 29871, 13, 2, 921
# Pieces of the texts below at the ids above.
PIECES = dict(
    zip(
        (
            "▁A ▁chat ▁between ▁a ▁curious ▁user ▁and ▁an ▁artificial ▁intelligence ▁assistant . ▁The ▁assistant "
            "▁gives ▁helpful , ▁detailed , ▁and ▁pol ite ▁answers ▁to ▁the ▁user ' s ▁questions ."
        ).split(),
        SYSTEM_IDS,
        strict=True,
    )
) | {"▁US": 3148, "ER": 1001, ":": 29901, "▁": SPACE, "\n": NEWLINE, "SS": 1799, "IST": 9047, "ANT": 13566}
PIECES |= {"▁what": 825, "▁is": 338, "▁it": 372, "?": 29973, "▁x": ANSWER, "What": 5618}


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Unigram over the pieces; every other id is a piece that no text contains."""
    by_id = {number: piece for piece, number in PIECES.items()} | {0: "<unk>", 1: "<s>", 2: "</s>"}
    vocabulary = [(by_id.get(number, f"<{number}>"), -1.0 if number in by_id else -99.0) for number in range(32000)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def real_tokenizer() -> PreTrainedTokenizerBase:
    folder = os.environ.get("DPN_VICUNA_TOKENIZER")
    if not folder:
        pytest.skip("DPN_VICUNA_TOKENIZER does not name the folder of LLaMA's tokenizer")
    return LlamaTokenizer.from_pretrained(folder, add_bos_token=True)


@pytest.fixture(scope="module", params=[small_tokenizer, real_tokenizer], ids=["small", "real"])
def vicuna(request) -> DpnProcessor:
    tokenizer = request.param()
    add_special_tokens(tokenizer, {"<image>": IMAGE, "<ROUTER>": ROUTER})
    return DpnProcessor(tokenizer, image_size=14, tokens_per_image=4, template="vicuna_v1")


def photo(width: int = 14, height: int = 14) -> Image.Image:
    return Image.effect_noise((width, height), 60).convert("RGB")


def variant(processor: DpnProcessor, **changes) -> DpnProcessor:
    settings = {"image_size": 14, "tokens_per_image": 4, "template": "vicuna_v1"}
    return DpnProcessor(processor.tokenizer, **(settings | changes))


def test_prompt_ids_are_golden(vicuna: DpnProcessor) -> None:
    ids = vicuna.encode_prompt("<image>\nWhat is it?", [photo()], router=False).input_ids.tolist()
    assert ids[:35] == [1, *SYSTEM_IDS, *USER, SPACE]
    assert ids[35:39] == [IMAGE] * 4  # the placeholder's index is 35
    assert ids[39:] == [SPACE, NEWLINE, 5618, 338, 372, 29973, *ASSISTANT]


def test_overhead_beside_the_question(vicuna: DpnProcessor) -> None:
    """42 text tokens besides the question, 43 with `<ROUTER>`."""
    for router, overhead in ((False, 42), (True, 43)):
        ids = vicuna.encode_prompt("<image>\nWhat is it?", [photo()], router=router).input_ids.tolist()
        assert len(ids) - 4 - len([5618, 338, 372, 29973]) == overhead


def test_router_keeps_the_ids_beside_it(vicuna: DpnProcessor) -> None:
    sample = vicuna.encode_training([("<image>\nwhat is it?", "x")], [photo()], router=True)
    start = 35 + 4 + 2
    expected = [*WHAT_IS_IT, ROUTER, *ASSISTANT, ANSWER, EOS]
    assert sample.input_ids[start:].tolist()[-len(expected) + 1 :] == expected[1:]
    assert sample.labels[sample.input_ids == ROUTER].tolist() == [-100]


def test_two_rounds_are_tokenised_by_themselves(vicuna: DpnProcessor) -> None:
    """The second round's USER is two ids, as the checkpoints were trained."""
    sample = vicuna.encode_training([("what is it?", "x"), ("what is it?", "x")], [], router=True)
    turn = [*USER, *WHAT_IS_IT, *ASSISTANT, ANSWER, EOS]
    assert sample.input_ids.tolist() == [1, *SYSTEM_IDS, *turn, *turn]
    before = 1 + len(SYSTEM_IDS) + len(turn) - 2
    masked = [-100] * before
    assert sample.labels.tolist() == [*masked, ANSWER, EOS, *[-100] * (len(turn) - 2), ANSWER, EOS]


def test_padding_is_unk(vicuna: DpnProcessor) -> None:
    samples = [vicuna.encode_prompt(question, [], router=False) for question in ("what", "what is it?")]
    assert vicuna.collate(samples)["input_ids"][0].tolist()[-3:] == [0, 0, 0]


def test_mask_of_one_round(vicuna: DpnProcessor) -> None:
    """With K tokens before the answer: -100 on 0..K, then the answer and its end."""
    sample = vicuna.encode_training([("<image>\nWhat is it?", "x x")], [photo()], router=True)
    k = len(sample.input_ids) - 1 - 3
    assert sample.labels.tolist() == [-100] * (k + 1) + [ANSWER, ANSWER, EOS]


def test_plain_template_supervises_the_caption_and_its_newline(vicuna: DpnProcessor) -> None:
    plain = variant(vicuna, template="plain")
    sample = plain.encode_training([("describe<image>\n", "x")], [photo()], router=False)
    assert sample.input_ids.tolist() == [1, *[IMAGE] * 4, ANSWER, NEWLINE]
    assert sample.labels.tolist() == [-100] * 5 + [ANSWER, NEWLINE]
    with pytest.raises(ValueError, match="sample 7: template 'plain' takes one turn with one <image>"):
        plain.encode_training([("what", "x")], [], router=False, sample_id=7)
    with pytest.raises(ValueError, match="has no question that <ROUTER> could end"):
        plain.encode_training([("<image>", "x")], [photo()], router=True)


def test_limit_counts_expanded_tokens_or_text(vicuna: DpnProcessor) -> None:
    turns = [("<image>\nWhat is it?", "x x x x")]
    whole = len(vicuna.encode_training(turns, [photo()], router=False).input_ids)
    for policy, lost in (("expanded", 2), ("text", 0)):
        cut = variant(vicuna, max_length=whole - 2, truncation=policy).encode_training(turns, [photo()], router=False)
        assert len(cut.input_ids) == whole - lost
        assert len(cut.images) == 1
    text = variant(vicuna, max_length=whole - 3 - 2, truncation="text").encode_training(turns, [photo()], router=False)
    assert len(text.input_ids) == whole - 2  # a picture counts as one token, three less than it has
    with pytest.raises(ValueError, match="sample a-17: max_length = 37 falls inside a picture of 4 tokens"):
        variant(vicuna, max_length=37).encode_training(turns, [photo()], router=False, sample_id="a-17")
    with pytest.raises(ValueError, match="sample a-17: no supervised token is left of 44"):
        variant(vicuna, max_length=44).encode_training(turns, [photo()], router=False, sample_id="a-17")
    cut = variant(vicuna, max_length=44).encode_training(turns, [photo()], router=False, needs_answer=False)
    assert len(cut.input_ids) == 44
    assert bool((cut.labels == IGNORE_INDEX).all())
    assert len(variant(vicuna, max_length=44).encode_prompt(turns[0][0], [photo()], router=False).input_ids) == 44
    with pytest.raises(ValueError, match="truncation = 'left'; allowed: expanded, text"):
        variant(vicuna, max_length=44, truncation="left").encode_prompt("what", [], router=False)


def test_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="gives <image> the id 32000, the model has 32001"):
        add_special_tokens(small_tokenizer(), {"<image>": 32001, "<ROUTER>": None})


def test_segments_are_the_layout_of_the_authors() -> None:
    texts = [segment.text for segment in conversation_segments([("q", "a"), ("r", None)])]
    assert texts == [f"{VICUNA_SYSTEM} USER: q ASSISTANT:", "a</s>", "USER: r ASSISTANT:"]


@pytest.mark.parametrize(("width", "height"), [(40, 23), (9, 31)])
@pytest.mark.parametrize("aspect_ratio", ["crop", "pad"])
def test_pictures_are_clips(width: int, height: int, aspect_ratio: str) -> None:
    """CLIP's own processor crops; LLaVA pads to a square first."""
    picture = photo(width, height)
    ours = normalise(prepare_image(picture, 14, aspect_ratio)[None])[0]
    if aspect_ratio == "pad":
        square = Image.new("RGB", (max(width, height),) * 2, (122, 116, 104))
        square.paste(picture, ((square.width - width) // 2, (square.width - height) // 2))
        picture = square
    clip = CLIPImageProcessor(size={"shortest_edge": 14}, crop_size={"height": 14, "width": 14})
    theirs = torch.as_tensor(clip(picture, return_tensors="pt")["pixel_values"][0])
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)  # measured 0.0
    with pytest.raises(ValueError, match="aspect_ratio = 'squash'; allowed: pad, crop"):
        prepare_image(picture, 14, "squash")
