"""A model from its parts, as instruction tuning starts: an LLM folder, a CLIP folder and the projector of stage 1.

LLaVA-1.5: Vicuna, CLIP ViT-L/14-336 and `mm_projector.bin`. LLaVA-HR adds a ConvNeXt file; its `mm_projector.bin` also
holds the final merge, and the adapters start as the identity (spec base-models A.3, B.6, C).
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from dpn_model.bases.llava_hr.model import LlavaHrConfig
from dpn_model.bases.llava_hr.shape import ADAPTER_LAYERS, IMAGE_SIZE
from dpn_model.configuration import DpnConfig
from dpn_model.modeling import DpnForConditionalGeneration
from dpn_model.weights.check import load_checked
from dpn_model.weights.files import read_json
from dpn_model.weights.names import canonical_names
from dpn_model.weights.original import base_config, one_head
from dpn_model.weights.original_fields import check_fields, text_config
from dpn_model.weights.router_row import EMBEDDING, tokenizer_ids, with_rows
from dpn_model.weights.tensors import read_file, read_folder

_FAST, _SLOW = (
    "model.vision_tower.fast_vision_tower.vision_tower.",
    "model.vision_tower.slow_vision_tower.vision_tower.",
)
#: what comes before timm's own names in open_clip's and timm's files
_TIMM_PREFIX = re.compile(r"^(?:visual\.)?(?:trunk\.)?(?=(?:stem|stages)\.)")


def assemble(
    language_model: Path,
    vision_tower: Path,
    mm_projector: Path | None = None,
    slow_vision_tower: Path | None = None,
    *,
    image_size: int = IMAGE_SIZE,
    fresh_projector: bool = False,
) -> DpnForConditionalGeneration:
    """Build a dense model; routers are fresh once a method is configured.

    Args:
        language_model: from_pretrained folder of a LLaMA (Vicuna), or of a LLaVA that was saved without its tower.
        vision_tower: from_pretrained folder of CLIP; its text half is not used.
        mm_projector: the projector's file, with the final merge for LLaVA-HR; None where the LLM's folder has it.
        slow_vision_tower: file of a ConvNeXt in timm's or open_clip's names; with it, the model is a LLaVA-HR.
        image_size: of LLaVA-HR, in pixels.
        fresh_projector: draw the projector (and the final merge) from torch's generator, for stage 1.

    Raises:
        FileNotFoundError: a part is not there.
        ValueError: parts that do not fit each other, by the keys that are missing, unexpected or misshapen.
    """
    llm = read_json(language_model / "config.json")
    check_fields(llm)
    fields = {**llm, "is_multipath_encoder": slow_vision_tower is not None, "input_image_size": image_size}
    tensors = read_folder(language_model) | ({} if mm_projector is None else read_file(mm_projector))
    clip = {name: tensor for name, tensor in read_folder(vision_tower).items() if name.startswith("vision_model.")}
    if slow_vision_tower is None:
        tensors |= {f"model.vision_tower.vision_tower.{name}": tensor for name, tensor in clip.items()}
    else:
        fields["vision_tower_slow"] = slow_vision_tower.name
        tensors |= {_FAST + name: tensor for name, tensor in clip.items()} | _timm_tower(slow_vision_tower)
    tensors = one_head(llm, canonical_names(tensors))
    router, image = tokenizer_ids(language_model) or (len(tensors[EMBEDDING]), len(tensors[EMBEDDING]) + 1)
    tensors = with_rows(tensors, router + 1)
    base = base_config(fields, tensors, text_config(llm, len(tensors[EMBEDDING])), image)
    if isinstance(base, LlavaHrConfig):
        base.adapter_layers = list(ADAPTER_LAYERS)
    model = DpnForConditionalGeneration(DpnConfig(base_config=base, router_token_id=router))
    drawn = ("model.multi_modal_projector.", "model.vision_tower.merge.") if fresh_projector else ()
    load_checked(model, tensors, str(language_model), may_miss=("model.vision_tower.adapters.", *drawn))
    return model.eval()


def _timm_tower(file: Path) -> dict[str, Tensor]:
    """Stem and stages of a ConvNeXt; heads and a text tower are left behind."""
    return {
        _SLOW + _TIMM_PREFIX.sub("", name): tensor
        for name, tensor in read_file(file).items()
        if _TIMM_PREFIX.match(name)
    }
