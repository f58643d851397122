"""Tiny random detectors of every family, as from_pretrained folders; none needs timm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import BertTokenizer, PreTrainedModel

QUERIES, CLASSES = 12, 3
#: places that Grounding DINO's code knows by number
_BERT = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}
WORDS = "red blue circle square dog cat how many are there what colour is the".split()

_SIDES = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
_LABELS = {"num_queries": QUERIES, "num_labels": CLASSES}
_ASPECT = {"size": {"shortest_edge": 48, "longest_edge": 80}}
_SQUARE = {"size": {"height": 64, "width": 64}}


def _made(name: str, **values: Any) -> Any:
    return getattr(transformers, name)(**values)


def _resnet(*stages: str) -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return _made("ResNetConfig", **sizes, out_features=list(stages))


def _detr() -> tuple[PreTrainedModel, dict[str, Any]]:
    layers = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 16}
    config = _made("DetrConfig", backbone_config=_resnet("stage4"), **layers, **_SIDES, **_LABELS)
    return _made("DetrForObjectDetection", config=config), {"image_processor_type": "DetrImageProcessor", **_ASPECT}


def _deformable() -> tuple[PreTrainedModel, dict[str, Any]]:
    layers = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 32}
    stages = {"two_stage": True, "with_box_refine": True, "two_stage_num_proposals": QUERIES}
    backbone = _resnet("stage2", "stage3", "stage4")
    config = _made(
        "DeformableDetrConfig", backbone_config=backbone, num_feature_levels=3, **layers, **stages, **_SIDES, **_LABELS
    )
    fields = {"image_processor_type": "DeformableDetrImageProcessor", **_ASPECT}
    return _made("DeformableDetrForObjectDetection", config=config), fields


def _real_time(name: str, backbone: Any, **more: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    widths = {"d_model": 16, "encoder_hidden_dim": 16, "encoder_in_channels": [8, 16, 16]}
    layers = {"decoder_in_channels": [16, 16, 16], "decoder_layers": 2, "num_denoising": 0}
    config = _made(f"{name}Config", backbone_config=backbone, **widths, **layers, **_SIDES, **_LABELS, **more)
    fields = {"image_processor_type": "RTDetrImageProcessor", **_SQUARE}
    return _made(f"{name}ForObjectDetection", config=config), fields


def _rt_detr(name: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return _real_time(name, _made("RTDetrResNetConfig", **sizes, out_indices=[2, 3, 4]))


def _d_fine() -> tuple[PreTrainedModel, dict[str, Any]]:
    backbone = _made(
        "HGNetV2Config",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 8, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 8, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_indices=[2, 3, 4],
    )
    return _real_time("DFine", backbone, hidden_expansion=0.5, depth_mult=0.34)


def _light(name: str, backbone: str, processor: str, **more: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    windows = {"image_size": 64, "patch_size": 16, "num_windows": 4, "out_indices": [1, 2]}
    config = _made(
        f"{name}Config",
        backbone_config=_made(backbone, **(sizes | windows | more)),
        projector_scale_factors=[1.0],
        d_model=16,
        decoder_ffn_dim=16,
        decoder_layers=2,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2,
        decoder_n_points=2,
        group_detr=2,
        **_LABELS,
    )
    return _made(f"{name}ForObjectDetection", config=config), {"image_processor_type": processor, **_SQUARE}


def _lw_detr() -> tuple[PreTrainedModel, dict[str, Any]]:
    more = {"window_block_indices": [0], "pretrain_image_size": 64}
    return _light("LwDetr", "LwDetrViTConfig", "DeformableDetrImageProcessor", **more)


def _rf_detr() -> tuple[PreTrainedModel, dict[str, Any]]:
    return _light("RfDetr", "RfDetrDinov2Config", "RfDetrImageProcessor", num_windows=2)


DETECTORS: dict[str, Callable[[], tuple[PreTrainedModel, dict[str, Any]]]] = {
    "detr": _detr,
    "deformable_detr": _deformable,
    "rt_detr": lambda: _rt_detr("RTDetr"),
    "rt_detr_v2": lambda: _rt_detr("RTDetrV2"),
    "d_fine": _d_fine,
    "lw_detr": _lw_detr,
    "rf_detr": _rf_detr,
}
GROUNDING = {"grounding-dino": "GroundingDino", "mm-grounding-dino": "MMGroundingDino"}


def save_detector(folder: Path, family: str) -> Path:
    """A random detector of the family and its image processor."""
    torch.manual_seed(3)
    model, fields = DETECTORS[family]()
    return _save(folder, model, fields)


def save_grounding(folder: Path, family: str, max_text_len: int = 32) -> Path:
    """A random Grounding DINO, its image processor and a tokenizer of a few words."""
    torch.manual_seed(3)
    backbone = _made(
        "SwinConfig",
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    bert = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}
    config = _made(
        f"{GROUNDING[family]}Config",
        backbone_config=backbone,
        text_config=_made("BertConfig", vocab_size=1100, hidden_size=16, **bert),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        max_text_len=max_text_len,
        num_queries=QUERIES,
        **_SIDES,
    )
    names = [_BERT.get(place, f"[unused{place}]") for place in range(1100)]
    names[200 : 200 + len(WORDS)] = WORDS
    BertTokenizer(vocab={name: place for place, name in enumerate(names)}).save_pretrained(folder)
    fields = {"image_processor_type": "GroundingDinoImageProcessor", **_ASPECT}
    return _save(folder, _made(f"{GROUNDING[family]}ForObjectDetection", config=config), fields)


def _save(folder: Path, model: PreTrainedModel, fields: dict[str, Any]) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():  # as initialised, most heads give every query the same
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    return folder


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Noise of these (width, height), each another."""
    draw = np.random.default_rng(5)
    return [Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8)) for width, height in sizes]
