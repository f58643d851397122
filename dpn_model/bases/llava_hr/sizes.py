"""LLaVA-HR-7B and LLaVA-HR-X-13B at their published sizes (spec base-models C.1, C.2).

Vocabulary as in the authors' checkpoints: LLaMA's 32000 pieces, then `<ROUTER>`. The id of `<image>` comes after the
embedding's last row, because placeholders are never embedded.
"""

from __future__ import annotations

from transformers import ConvNextConfig, LlamaConfig

from dpn_model.bases.llava import VICUNA_7B, VICUNA_13B, clip_large_336_config, vicuna_config
from dpn_model.bases.llava_hr.config import LlavaHrConfig
from dpn_model.configuration import DpnConfig

ROUTER_TOKEN_ID = 32000
IMAGE_TOKEN_ID = 32001
VOCAB_SIZE = 32001
PAD_TOKEN_ID = 0


def llava_hr_7b_config() -> DpnConfig:
    """CLIP ViT-L/14 at 448 px beside ConvNeXt-L at 1024 px, Vicuna-7B; 32x32 = 1024 visual tokens."""
    slow = _convnext((192, 384, 768, 1536), (3, 3, 27, 3), norm_eps=1e-6)
    return _llava_hr(slow, vicuna_config(**VICUNA_7B, vocab_size=VOCAB_SIZE, pad_token_id=PAD_TOKEN_ID))


def llava_hr_x_13b_config() -> DpnConfig:
    """The same grid with ConvNeXt-XXL and Vicuna-13B."""
    slow = _convnext((384, 768, 1536, 3072), (3, 4, 30, 3), norm_eps=1e-5)
    return _llava_hr(slow, vicuna_config(**VICUNA_13B, vocab_size=VOCAB_SIZE, pad_token_id=PAD_TOKEN_ID))


def _convnext(widths: tuple[int, ...], depths: tuple[int, ...], *, norm_eps: float) -> ConvNextConfig:
    return ConvNextConfig(hidden_sizes=list(widths), depths=list(depths), layer_norm_eps=norm_eps)


def _llava_hr(slow: ConvNextConfig, text: LlamaConfig) -> DpnConfig:
    base = LlavaHrConfig(clip_large_336_config(), slow, text, image_token_index=IMAGE_TOKEN_ID)
    return DpnConfig(base_config=base, router_token_id=ROUTER_TOKEN_ID)
