"""Pictures as a detector's own image processor gives them, in batches in which nothing is padded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.image_processing_utils import ImageProcessingMixin
from transformers.models.deformable_detr.image_processing_pil_deformable_detr import DeformableDetrImageProcessorPil
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

from dpn_model.proposals.folders import in_short

#: a picture as a model takes it: `pixel_values` float32[1, 3, H, W], and a mask of its own padding where it has one
Prepared = Mapping[str, Tensor]
Prepare = Callable[[Image], Prepared]


def load_pictures(folder: Path) -> Prepare:
    """The folder's image processor, as a function of one picture.

    It is the one of transformers that works with Pillow, also where torchvision is installed: the same folder gives the
    same proposals on every machine.

    Raises:
        ValueError: the folder has none, or one that is no detector's.
    """
    try:
        fields, _ = ImageProcessingMixin.get_image_processor_dict(folder, local_files_only=True)
        kind = str(fields.get("image_processor_type") or fields.get("feature_extractor_type"))
        name = kind.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
        if name not in _PROCESSORS:
            raise ValueError(f"it is of type {kind}; those of detectors are {', '.join(sorted(_PROCESSORS))}")
        processor = _PROCESSORS[name].from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no image processor that can be used: {in_short(error)}") from error

    def prepare(image: Image) -> Prepared:
        inputs = processor(images=[image.convert("RGB")], return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "pixel_mask") if name in inputs}

    return prepare


def batches(prepared: Sequence[Prepared], batch_size: int) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """(places, their inputs together): pictures of one shape, so that none sees another's padding.

    A mask keeps a detector from looking at padding, and yet convolutions and windows at the picture's edge see it.
    """
    by_shape: dict[torch.Size, list[int]] = {}
    for place, inputs in enumerate(prepared):
        by_shape.setdefault(inputs["pixel_values"].shape, []).append(place)
    for places in by_shape.values():
        for first in range(0, len(places), batch_size):
            here = places[first : first + batch_size]
            yield here, {name: torch.cat([prepared[place][name] for place in here]) for name in prepared[here[0]]}


class _UnsmoothedProcessor(DetrImageProcessorPil):
    """RF-DETR's: DETR's, but pictures are resized as numbers, bilinearly and without smoothing.

    transformers has it for torchvision alone. Rescaling before or after is the same: both are linear.
    """

    def resize(self, image: np.ndarray, size: Any, resample: Any = None, **_: Any) -> np.ndarray:
        """The picture, float32[3, H, W], at the size that its folder names."""
        if not (size.height and size.width):
            raise ValueError(f"size is {dict(size)}; an RF-DETR folder names height and width")
        pixels = torch.from_numpy(np.array(image, dtype=np.float32))[None]
        return interpolate(pixels, (size.height, size.width), mode="bilinear", align_corners=False)[0].numpy()


#: by the name a folder gives; LW-DETR's folders have Deformable DETR's, D-FINE's have RT-DETR's
_PROCESSORS: dict[str, Any] = {
    "DeformableDetrImageProcessor": DeformableDetrImageProcessorPil,
    "DetrImageProcessor": DetrImageProcessorPil,
    "GroundingDinoImageProcessor": GroundingDinoImageProcessorPil,
    "RTDetrImageProcessor": RTDetrImageProcessorPil,
    "RfDetrImageProcessor": _UnsmoothedProcessor,
}
