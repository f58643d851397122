"""A LLaVA of transformers in toy size, with its own processor and chat template, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from dpn_model.processing.tokenizer import build_word_tokenizer

WORDS = [f"w{number}" for number in range(60)]
TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)


@pytest.fixture(scope="session")
def toy_llava(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights are drawn wide, so that answers differ from question to question."""
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer(WORDS)
    image = tokenizer.convert_tokens_to_ids("<image>")
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 96}
    text = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=2, pad_token_id=0, bos_token_id=1, **size)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **size)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_id=image))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    square = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=square, crop_size=square),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    )
    folder: Path = tmp_path_factory.mktemp("toy-llava")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
