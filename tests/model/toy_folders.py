"""Folders of other projects at toy size, written by their own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl import Qwen2VLImageProcessor

from tests.model.test_weights import (
    TO_ORIGINAL,
    TO_TIMM,
    build,
    drop_router_row,
    original_config,
    rename,
    write_original,
)

WORDS = [*(f"w{number}" for number in range(40)), "USER:", "ASSISTANT:", "user", "assistant", "yes", "no", "?"]

#: of llava-hf's folders: marks answers, and writes no end
HUB_LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
#: marks nothing, and writes the end
WITH_END = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}ASSISTANT:"
    "{% else %} {{ message['content'][0]['text'] }} </s>{% endif %}{% endfor %}"
)
#: knows questions only, whoever speaks
QUESTIONS_ONLY = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)
#: of Qwen-VL's folders, without the system message
CHATML = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
_SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 96}


def word_tokenizer(*special: str, words: list[str] | None = None, **named: str) -> PreTrainedTokenizerFast:
    """Words at blanks; knows neither `<ROUTER>` nor, unless told, `<image>`."""
    vocabulary = ["<unk>", "<s>", "</s>", *special, *(WORDS if words is None else words)]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    values = {"bos_token": "<s>", "eos_token": "</s>"} | named
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", additional_special_tokens=list(special), **values
    )


def llava_hf(folder: Path, template: str = WITH_END, *, fields: bool = True, words: list[str] | None = None) -> Any:
    """A LLaVA as transformers saves it, with eight spare rows; its model. Weights are wide, so that answers differ."""
    tokenizer = word_tokenizer("<image>", "<pad>", words=words, pad_token="<pad>")
    text = LlamaConfig(vocab_size=len(tokenizer) + 8, eos_token_id=2, pad_token_id=4, bos_token_id=1, **_SIZE)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **_SIZE)
    image = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, image_token_id=image)
    )
    square = {"height": 32, "width": 32}
    counting = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        tokenizer,
        chat_template=template,
        **(counting if fields else {}),
    )
    return _save(folder, model, processor)


def qwen_vl(folder: Path, kind: str) -> Any:
    """A Qwen2-VL or Qwen2.5-VL in the files of its folders on the Hub; its model."""
    special = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = word_tokenizer(*special, eos_token="<|im_end|>", pad_token="</s>")
    ids = {
        name: tokenizer.convert_tokens_to_ids(text)
        for name, text in zip("_ end start stop image video".split(), special, strict=True)
    }
    text = {
        "vocab_size": len(tokenizer) + 8,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    }
    vision = {"depth": 2, "patch_size": 4, "spatial_merge_size": 2, "num_heads": 2}
    tokens = {
        "image_token_id": ids["image"],
        "video_token_id": ids["video"],
        "vision_start_token_id": ids["start"],
        "vision_end_token_id": ids["stop"],
    }
    torch.manual_seed(0)
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
        model: Any = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **tokens))
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 48, "window_size": 16, "out_hidden_size": 32}
        vision |= {"fullatt_block_indexes": [1]}
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens))
    model.generation_config.eos_token_id = [ids["end"], 2]
    tokenizer.chat_template = CHATML
    _save(folder, model, tokenizer)
    pictures = Qwen2VLImageProcessor(patch_size=4, merge_size=2, min_pixels=8 * 8 * 4, max_pixels=8 * 8 * 36)
    pictures.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    named = "Qwen2VLProcessor" if kind == "qwen2_vl" else "Qwen2_5_VLProcessor"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"processor_class": named}))
    return model


def original(folder: Path, kind: str, **fields: Any) -> Any:
    """A checkpoint in the authors' layout (`llava`, `llava_hr`) with its tokenizer; the model it was written from."""
    tokenizer = word_tokenizer()
    model = build(kind, vocab_size=len(tokenizer) + 1)
    state = rename(drop_router_row(model.state_dict()), TO_ORIGINAL, TO_TIMM)
    write_original(folder, original_config(kind, bos_token_id=1, eos_token_id=2, **fields), state)
    tokenizer.save_pretrained(folder)
    return model


def _save(folder: Path, model: Any, processor: Any) -> Any:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval()
