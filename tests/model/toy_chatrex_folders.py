"""ChatRex checkpoints at toy size, in each naming they come in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, ConvNextConfig, LlamaConfig, PreTrainedConfig, Qwen2Config

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_model.bases.chatrex.model import ChatRexConfig
from dpn_model.special_texts import OBJECT_TOKENS
from dpn_model.weights.tensors import write_folder

WORDS = 20
#: rows of a checkpoint: words, then the tokens of objects
ROWS = WORDS + len(OBJECT_TOKENS)
ROUTER, IMAGE, OBJECT = ROWS, ROWS + 1, ROWS + 2
LLM: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CLIP: dict[str, Any] = {
    "hidden_size": 40,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 2, 1], "layer_norm_eps": 1e-6}
#: channels of what the projectors take in
IMAGE_WIDTH, OBJECT_WIDTH = 40 + 24, 8 + 8 + 16 + 24

_TIMM = (
    (r"embeddings\.patch_embeddings\.", "vision_stem.0."),
    (r"embeddings\.layernorm\.", "vision_stem.1."),
    (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"vision_stages.\1.downsample."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.", r"vision_stages.\1.blocks.\2.conv_dw."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"vision_stages.\1.blocks.\2.norm."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv(\d)\.", r"vision_stages.\1.blocks.\2.mlp.fc\3."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter", r"vision_stages.\1.blocks.\2.ramma"),
)
#: what stands before the names of CLIP, of ConvNeXt, of both projectors' layers, of the decoder and of its head
SCHEMES: dict[str, tuple[str, str, str, str, str, str]] = {
    "released": (
        "vision_tower.vision_model.",
        "vision_tower_aux.",
        "multi_modal_projector.linear_",
        "multi_modal_object_projector.linear_",
        "language_model.model.",
        "language_model.",
    ),
    "rexseek": (
        "vision_tower.vision_tower.vision_model.",
        "vision_tower_aux.",
        "mm_projector.",
        "mm_object_projector.",
        "model.",
        "",
    ),
    "xtuner": (
        "visual_encoder.vision_model.",
        "visual_encoder_aux.",
        "projector.model.",
        "bbox_projector.model.",
        "llm.model.",
        "llm.",
    ),
    "ours": (
        "model.vision_tower.fast.",
        "model.vision_tower.slow.",
        "model.multi_modal_projector.",
        "model.object_projector.",
        "model.language_model.",
        "",
    ),
}


def text_config(kind: str, rows: int = ROWS + 1, **fields: Any) -> PreTrainedConfig:
    """Of the decoder: llama or qwen2."""
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](**LLM, vocab_size=rows, **fields)


def build(kind: str, *, tied: bool = False) -> DpnForConditionalGeneration:
    """A model as an import would configure it; every parameter is drawn, those that start as ones and zeros too."""
    base = ChatRexConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        slow_vision_config=ConvNextConfig(**CONVNEXT),
        text_config=text_config(kind, tie_word_embeddings=tied),
        image_size=128,
        image_token_index=IMAGE,
        object_token_index=OBJECT,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = DpnForConditionalGeneration(DpnConfig(base_config=base, router_token_id=ROUTER))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def checkpoint_tensors(model: DpnForConditionalGeneration) -> dict[str, Tensor]:
    """A model's tensors without `<ROUTER>`'s row, and without a head that is the embedding."""
    rows = len(model.lm_head.weight) - 1
    return {
        name: tensor[:rows] if name.endswith(("embed_tokens.weight", "lm_head.weight")) else tensor
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    }


def renamed(tensors: dict[str, Tensor], scheme: str, layer_scale: str = "ramma") -> dict[str, Tensor]:
    """Tensors by our names under those of a scheme."""
    return {scheme_name(name, scheme).replace("ramma", layer_scale): tensor for name, tensor in tensors.items()}


def scheme_name(name: str, scheme: str) -> str:
    """The name that a tensor of ours has in a scheme."""
    fast, slow, image, objects, decoder, head = SCHEMES[scheme]
    for ours, theirs in (("fast", fast), ("slow", slow)):
        if name.startswith(f"model.vision_tower.{ours}."):
            inner = name.removeprefix(f"model.vision_tower.{ours}.")
            return theirs + (inner if ours == "fast" or scheme == "ours" else _timm(inner))
    for module, theirs in (("multi_modal_projector", image), ("object_projector", objects)):
        if name.startswith(f"model.{module}."):
            inner = name.removeprefix(f"model.{module}.")
            return theirs + (inner.replace("2.", "2.").replace("0.", "1.") if theirs.endswith("linear_") else inner)
    return head + name if name == "lm_head.weight" else decoder + name.removeprefix("model.language_model.")


def _timm(name: str) -> str:
    for old, new in _TIMM:
        name = re.sub("^" + old, new, name)
    return name


def config_json(scheme: str, kind: str, *, tied: bool = False, **fields: Any) -> dict[str, Any]:
    """A config.json of the scheme: RexSeek's has the decoder's fields among its own, the others a `text_config`."""
    decoder = {**LLM, "tie_word_embeddings": tied, "vocab_size": ROWS}
    towers = {"vision_config": CLIP, "slow_vision_config": CONVNEXT}
    if scheme == "rexseek":
        mm = {"mm_hidden_size": IMAGE_WIDTH, "object_hidden_size": OBJECT_WIDTH, "mm_vision_select_layer": -2}
        named = {"model_type": f"rexseek_{kind.rstrip('2')}", "tokenizer_model_max_length": 2048}
        return {**decoder, **towers, **mm, "mm_vision_select_feature": "patch", **named, **fields}
    others = {"ignore_index": -100, "projector_depth": 2}  # beside the parts, only what matters is looked at
    return {"model_type": "chatrex", "text_config": {"model_type": kind, **decoder}, **towers, **others, **fields}


def write(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], files: str = "one") -> None:
    """config.json and weights: `one` safetensors file, `shards` with an index, a `pickle`, or a `training` file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    if files == "one":
        save_file(copies, folder / "model.safetensors")
    elif files == "shards":
        write_folder(folder, copies, max_shard_bytes=50_000)
    else:
        whole = copies if files == "pickle" else {"state_dict": copies, "meta": {"epoch": 1, "seed": 0}}
        torch.save(whole, folder / "pytorch_model.bin")
