"""Which bases' pictures are known here, and the image side of each (`vision.contract`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig

from dpn_model.bases.chatrex.shape import image_grid as chatrex_grid
from dpn_model.bases.families import why_not
from dpn_model.bases.llava_hr.shape import image_grid as llava_hr_grid
from dpn_model.bases.vision.anyres_images import AnyresImages, OneVisionImages
from dpn_model.bases.vision.clip_images import ClipImages
from dpn_model.bases.vision.contract import ImageSide
from dpn_model.bases.vision.fixed_images import FixedImages, HighResolutionImages, IdeficsTiles
from dpn_model.bases.vision.gridded_images import GriddedImages, LayeredImages
from dpn_model.bases.vision.object_images import ObjectImages

#: by `model_type` of the base
IMAGE_SIDES: dict[str, Callable[[Any], ImageSide]] = {
    "llava": ClipImages,
    "llava_hr": lambda base: HighResolutionImages(base.image_size, llava_hr_grid(base)),
    "llava_next": AnyresImages,
    "llava_onevision": OneVisionImages,
    "internvl": FixedImages.of_internvl,
    "idefics3": IdeficsTiles,
    "smolvlm": IdeficsTiles,
    "qwen2_vl": GriddedImages,
    "qwen2_5_vl": GriddedImages,
    "qwen3_vl": LayeredImages,
    "qwen3_vl_moe": LayeredImages,
    "chatrex": lambda base: ObjectImages(base.image_size, chatrex_grid(base)),
}


def image_side_of(base: PreTrainedConfig) -> ImageSide:
    """The image side of a base's configuration.

    Raises:
        ValueError: a kind of base whose pictures nobody has described here, or settings that they cannot have.
    """
    if base.model_type not in IMAGE_SIDES:
        allowed = ", ".join(IMAGE_SIDES)
        raise ValueError(f"base_config.model_type = {base.model_type!r} ({why_not(base)}); allowed: {allowed}")
    return IMAGE_SIDES[base.model_type](base)
