"""Activations: what autograd keeps between forward and backward pass, traced on the model's own modules.

Modules run on fake tensors (shapes without memory) under `saved_tensors_hooks`, each storage counted once; all that is
kept is proportional to tokens, pictures or supervised rows, so one call of each kind tells all. Attention is the fused
kernel of SDPA, which keeps queries, keys, values, output and a number per head and token, as flash kernels do on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy
from transformers.modeling_layers import GradientCheckpointingLayer

from dpn_model import DpnForConditionalGeneration
from dpn_model.attention.layout import AttentionLayout

_TOKENS = 64
_INDEX_BYTES = 8


@dataclass(frozen=True)
class UnitBytes:
    """Bytes kept per unit of work.

    Attributes:
        layer: one decoder layer, per token.
        layer_input: the input of a decoder layer, all that checkpointing keeps of it, per token.
        width: elements of that input.
        norm: the decoder's final norm, per token.
        head: lm_head and cross entropy, per supervised token.
        image: vision tower and projector, per picture.
        image_checkpointed: the same with the tower's layers recomputed, where they can be.
        image_layer: the largest of those layers, per picture.
    """

    layer: float
    layer_input: float
    width: int
    norm: float
    head: float
    image: float
    image_checkpointed: float
    image_layer: float


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes on one device at the end of a micro-batch's forward pass, and while one layer is recomputed."""

    vision: int
    decoder: int
    sites: int
    head: int
    recomputed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.vision + self.decoder + self.sites + self.head + self.recomputed


def activation_bytes(
    unit: UnitBytes,
    tokens_per_layer: Sequence[int],
    visual_per_stage: Sequence[int],
    *,
    images: int,
    supervised: int,
    checkpointed: bool,
) -> ActivationBytes:
    """Activations of one micro-batch.

    Args:
        unit: of the model, see `trace`.
        tokens_per_layer: tokens that enter each decoder layer, of all samples together.
        visual_per_stage: visual tokens before the first site and after each, of all samples together.
        images: pictures of all samples.
        supervised: rows that the head runs on.
        checkpointed: layers keep their input alone, and are recomputed one at a time.
    """
    tokens, largest = sum(tokens_per_layer), max(tokens_per_layer)
    head = round(unit.norm * tokens_per_layer[-1] + unit.head * supervised)
    sites = sum(_site_bytes(unit, before, after) for before, after in pairwise(visual_per_stage))
    if not checkpointed:
        return ActivationBytes(round(unit.image * images), round(unit.layer * tokens), sites, head, 0)
    recomputed = max(unit.layer * largest, unit.image_layer * images)
    kept = round(unit.image_checkpointed * images), round(unit.layer_input * tokens)
    return ActivationBytes(*kept, sites, head, round(recomputed))


def _site_bytes(unit: UnitBytes, before: int, after: int) -> int:
    """What a site keeps: its visual rows, and where rows were pooled by maximum, results and int64 indices."""
    elements = unit.width * after if after < before else 0
    return round(unit.layer_input * before + (unit.layer_input / unit.width + _INDEX_BYTES) * elements)


def trace(model: DpnForConditionalGeneration) -> UnitBytes:
    """Bytes per unit of a model on the meta device, in the precision and with the trained parameters it has.

    The model is used up: one of its layers stands for all, and is all that is left of them. Pictures of a base that has
    no size of its own for them are left out.
    """
    dtype, width = model.lm_head.weight.dtype, model.lm_head.in_features
    model.model.language_model.layers = model.model.language_model.layers[:1]
    for (
        layer
    ) in model.model.language_model.layers:  # a method's FFN may run what its values say, which nothing has here
        vars(getattr(layer, "mlp", layer)).pop("forward", None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = model.to_empty(device="cpu")
        hidden_TD = torch.empty(_TOKENS, width, dtype=dtype, requires_grad=True)
        decoder = fake.model.language_model
        layer = _Kept(fake).of(lambda kept: _run_layer(decoder, hidden_TD, kept))
        norm = _Kept(fake).of(lambda kept: decoder.norm(hidden_TD))
        head = _Kept(fake).of(lambda kept: _run_head(fake.lm_head, hidden_TD))
        image = _Kept(fake)
        if fake.model_shape.image_grid is not None:  # else nobody knows the size of a picture
            pixels, _ = fake.image_side.blank(hidden_TD.detach())
            image.of(lambda kept: kept.encode(fake, pixels))
    return UnitBytes(
        layer=layer.total / _TOKENS,
        layer_input=hidden_TD.element_size() * width,
        width=width,
        norm=norm.total / _TOKENS,
        head=head.total / _TOKENS,
        image=image.total,
        image_checkpointed=image.total - sum(image.inside) + sum(image.inputs),
        image_layer=max(image.inside, default=0),
    )


class _Kept:
    """Storages that autograd keeps, those of parameters and buffers left out.

    Attributes:
        inside, inputs: bytes kept by each of the tower's layers that can be recomputed, and the size of its input.
    """

    def __init__(self, model: nn.Module) -> None:
        self._ignored = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        self._tensors: dict[int, Tensor] = {}
        self.inside: list[int] = []
        self.inputs: list[int] = []

    def of(self, run: Callable[[_Kept], Any]) -> _Kept:
        """This, after `run` has been traced."""
        with saved_tensors_hooks(self._keep, lambda tensor: tensor):
            run(self)
        return self

    @property
    def total(self) -> int:
        """Bytes of all storages."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._tensors.values())

    def ignore(self, tensors: Sequence[Tensor]) -> None:
        """Leave out what others keep as well."""
        self._ignored |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def encode(self, model: DpnForConditionalGeneration, pixels: Any) -> None:
        """One picture through tower and projector, the tower's layers watched."""
        before: list[int] = []

        def enter(_: Any, arguments: tuple[Tensor, ...]) -> None:
            before.append(self.total)

        def leave(_: Any, arguments: tuple[Tensor, ...], output: Any) -> None:
            self.inside.append(self.total - before.pop())
            self.inputs.append(arguments[0].untyped_storage().nbytes() if self.inside[-1] else 0)

        for module in model.model.vision_tower.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.register_forward_pre_hook(enter)
                module.register_forward_hook(leave)
        model.image_side.encode(model.model, pixels, {})

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in self._ignored:
            self._tensors[storage] = tensor
        return tensor


def _run_layer(decoder: Any, hidden_TD: Tensor, kept: _Kept) -> None:

    positions = torch.arange(len(hidden_TD))[None]
    tables = decoder.rotary_emb(hidden_TD[None], position_ids=positions)
    kept.ignore(tables)  # all layers share them
    decoder.layers[0](
        hidden_TD[None],
        position_ids=positions,
        position_embeddings=tables,
        use_cache=False,
        layout=AttentionLayout((len(hidden_TD),), hidden_TD.device),
    )


def _run_head(lm_head: nn.Module, hidden_TD: Tensor) -> None:

    targets = torch.zeros(len(hidden_TD), dtype=torch.long)
    cross_entropy(lm_head(hidden_TD).float(), targets, reduction="none").mean()
