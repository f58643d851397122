"""InstructBLIP, IDEFICS and a model that brings its own code, in toy size, in folders as transformers saves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BlipImageProcessorPil,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessorPil,
    Idefics2Processor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessorPil,
    IdeficsProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlamaConfig,
    OPTConfig,
    T5Config,
)

from tests.model.toy_folders import word_tokenizer

WORDS = [*(f"w{number}" for number in range(60)), *"Question: Short answer: Answer: Assistant: User: is 0? 1?".split()]
_WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_IDEFICS2_TEMPLATE = (
    "{% for message in messages %}User:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def instructblip(folder: Path, decoder: str = "llama") -> None:
    """Four queries; `decoder` is llama, opt or t5."""
    tokenizer = word_tokenizer("<image>", "<pad>", words=WORDS, pad_token="<pad>")
    asking = word_tokenizer("<pad>", words=WORDS, pad_token="<pad>")
    ids: dict[str, Any] = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 4}
    text = {
        "llama": lambda: LlamaConfig(**_WIDE, **ids),
        "opt": lambda: OPTConfig(**_WIDE, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=128, **ids),
        "t5": lambda: T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=4, **ids),
    }[decoder]()
    config = InstructBlipConfig(
        vision_config=_WIDE | {"image_size": 32, "patch_size": 8},
        qformer_config=_WIDE | {"vocab_size": len(asking), "encoder_hidden_size": 32, "cross_attention_frequency": 1},
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    _save(folder, InstructBlipForConditionalGeneration, config, InstructBlipProcessor(pictures, tokenizer, asking, 4))


def idefics(folder: Path, *, instructed: bool) -> None:
    """Pictures are seen by cross-attention in every layer, which is as good as shut in a fresh model: it is opened."""
    special = ("<image>", "<fake_token_around_image>", "<pad>", *(["<end_of_utterance>"] if instructed else []))
    tokenizer = word_tokenizer(*special, words=WORDS, pad_token="<pad>")
    vision = {"embed_dim": 32, "image_size": 32, "patch_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = IdeficsConfig(
        **_WIDE,
        vocab_size=len(tokenizer),
        additional_vocab_size=0,
        cross_layer_interval=1,
        vision_config=vision | {"intermediate_size": 48},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = IdeficsProcessor(IdeficsImageProcessorPil(image_size=32), tokenizer, image_size=32)
    _save(folder, IdeficsForVisionText2Text, config, processor)


def idefics2(folder: Path) -> None:
    """Four latents a picture, pictures of unequal size."""
    special = ("<image>", "<fake_token_around_image>", "<pad>", "<end_of_utterance>")
    tokenizer = word_tokenizer(*special, words=WORDS, pad_token="<pad>")
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": tokenizer.pad_token_id}
    text = {"model_type": "mistral", "num_key_value_heads": 4, "head_dim": 8, **_WIDE, **ids}
    latents = {
        "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 4, "num_key_value_heads": 2,
        "resampler_head_dim": 8, "hidden_size": 32,
    }  # fmt: skip
    config = Idefics2Config(
        vision_config=_WIDE | {"image_size": 32, "patch_size": 8},
        perceiver_config=latents,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    pictures = Idefics2ImageProcessorPil(size={"shortest_edge": 16, "longest_edge": 32}, do_image_splitting=False)
    processor = Idefics2Processor(pictures, tokenizer, image_seq_len=4, chat_template=_IDEFICS2_TEMPLATE)
    _save(folder, Idefics2ForConditionalGeneration, config, processor)


def with_own_code(folder: Path, llava: str) -> None:
    """A LLaVA whose configuration, model and processor are classes of the folder, unknown to transformers.

    Importing its code leaves the file `ran` beside it, so that a test sees whether it was.
    """
    shutil.copytree(llava, folder, dirs_exist_ok=True)
    names = ("LlavaConfig", "LlavaForConditionalGeneration", "LlavaProcessor")
    (folder / "modelling_toy.py").write_text(
        f"from pathlib import Path\n\nfrom transformers import {', '.join(names)}\n\n"
        f"Path({str(folder / 'ran')!r}).touch()\n\n\n"
        "class ToyConfig(LlavaConfig):\n    model_type = 'toy_vlm'\n\n\n"
        "class ToyModel(LlavaForConditionalGeneration):\n    config_class = ToyConfig\n\n\n"
        "class ToyProcessor(LlavaProcessor):\n    pass\n"
    )
    auto_map = {"AutoConfig": "modelling_toy.ToyConfig", "AutoModelForCausalLM": "modelling_toy.ToyModel"}
    edit(folder / "config.json", model_type="toy_vlm", architectures=["ToyModel"], auto_map=auto_map)
    own = {"AutoProcessor": "modelling_toy.ToyProcessor"}
    edit(folder / "processor_config.json", processor_class="ToyProcessor", auto_map=own)
    edit(folder / "tokenizer_config.json", processor_class="ToyProcessor")


def edit(file: Path, **fields: Any) -> None:
    """Changes fields of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _save(folder: Path, kind: Any, config: Any, processor: Any) -> None:
    """Matrices are drawn wide, and gates opened, so that answers differ by question and by picture."""
    torch.manual_seed(0)
    model = kind(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or "alpha" in name:
            torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
