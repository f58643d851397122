"""Parameter names of the ChatRex family: every part is found by one tensor, whatever its prefix is (spec chatrex 7).

Meant for ChatRex's release, RexSeek, the training files of their ancestor (xtuner), and ours. The prefixes of the first
are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from dpn_model.weights.names import COMPUTED, canonical_names, convnext_name
from dpn_model.weights.router_row import HEAD

FAST, SLOW, DECODER = "model.vision_tower.fast.", "model.vision_tower.slow.", "model.language_model."
IMAGE_PROJECTOR, OBJECT_PROJECTOR = "model.multi_modal_projector.", "model.object_projector."


@dataclass(frozen=True)
class _Part:
    """A part of the model that one tensor gives away.

    Attributes:
        what: for people.
        ours: what stands before its names in our model.
        anchors: how that tensor's name ends, in every spelling, and the modules of the part in that spelling.
    """

    what: str
    ours: str
    anchors: Mapping[str, Sequence[str]]


_PARTS = (
    _Part("CLIP", FAST, {"embeddings.class_embedding": ("embeddings", "pre_layrnorm", "encoder", "post_layernorm")}),
    _Part(
        "ConvNeXt",
        SLOW,
        {
            "vision_stem.0.weight": ("vision_stem", "vision_stages"),
            "embeddings.patch_embeddings.weight": ("embeddings", "encoder"),
        },
    ),
    _Part("the decoder", DECODER, {"embed_tokens.weight": ("embed_tokens", "layers", "norm")}),
)
#: layers of a projector, in an `nn.Sequential` or as transformers names them
_LAYERS = {"0": "0", "linear_1": "0", "2": "2", "linear_2": "2"}
_FIRST_LAYER = re.compile(r"(?P<module>(?:.+\.)?)(?:0|linear_1)\.weight")


def part_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Towers, decoder and head under our names; whatever belongs to none of them keeps its own.

    Raises:
        ValueError: a part that is not there, that more than one tensor could be the anchor of, or two tensors that
            would get the same name.
    """
    prefixes: dict[str, tuple[str, str]] = {}
    for part in _PARTS:
        anchor, ending = _anchor(part, tensors)
        prefix = anchor.removesuffix(ending)
        prefixes |= {f"{prefix}{module}.": (prefix, part.ours) for module in part.anchors[ending]}
    heads = [name for name in tensors if _ends(name, HEAD)]
    _check_one(heads, "the decoder's head")

    def name_of(name: str) -> str | None:
        if COMPUTED.search(name):
            return None
        if name in heads:
            return HEAD
        found = next((prefix for module, prefix in prefixes.items() if name.startswith(module)), None)
        if found is None:
            return name
        prefix, ours = found
        return ours + convnext_name(name.removeprefix(prefix).removeprefix("vision_"))

    return canonical_names(tensors, name_of)


def projector_names(tensors: Mapping[str, Tensor], image_width: int, object_width: int) -> dict[str, Tensor]:
    """Both projectors under our names, found by the width of what they take in.

    Args:
        tensors: of `part_names`.
        image_width: channels of both towers' last maps together.
        object_width: channels of all of ConvNeXt's stages together.

    Raises:
        ValueError: as `part_names`.
    """
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith((FAST, SLOW, DECODER, HEAD))}
    modules = {
        _projector(others, width, what): ours
        for width, what, ours in (
            (image_width, "the image projector", IMAGE_PROJECTOR),
            (object_width, "the object projector", OBJECT_PROJECTOR),
        )
    }

    def name_of(name: str) -> str:
        module = next((module for module in modules if name in others and name.startswith(module)), None)
        if module is None:
            return name
        layer, _, inner = name.removeprefix(module).partition(".")
        return f"{modules[module]}{_LAYERS.get(layer, layer)}.{inner}"

    return canonical_names(tensors, name_of)


def _anchor(part: _Part, tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    """The name of a part's anchor, and how it ends."""
    found = [(name, ending) for name in tensors for ending in part.anchors if _ends(name, ending)]
    if not found:
        endings = " or ".join(part.anchors)
        raise ValueError(f"{part.what} is not in the checkpoint: no name ends with {endings}")
    _check_one([name for name, _ in found], part.what)
    return found[0]


def _projector(tensors: Mapping[str, Tensor], width: int, what: str) -> str:
    """The prefix of the one module whose first layer takes `width` channels."""
    first = {
        name: (match["module"], list(tensor.shape))
        for name, tensor in tensors.items()
        if tensor.ndim == 2 and (match := _FIRST_LAYER.fullmatch(name))
    }
    found = {name: module for name, (module, shape) in first.items() if shape[1] == width}
    if not found:
        others = ", ".join(f"{name} {shape}" for name, (_, shape) in sorted(first.items()))
        raise ValueError(
            f"{what} is not in the checkpoint: no first layer (0.weight or linear_1.weight) of a module takes {width} "
            f"channels, the towers' widths together; found: {others or 'none'}"
        )
    _check_one(list(found), what)
    return next(iter(found.values()))


def _check_one(names: Sequence[str], what: str) -> None:
    if len(names) > 1:
        raise ValueError(
            f"{len(names)} tensors of the checkpoint could begin {what}; allowed: one of {', '.join(names)}"
        )


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith("." + ending)
