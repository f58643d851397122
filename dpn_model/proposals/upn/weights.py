"""UPN's weights from the file of its authors: a PyTorch pickle whose key `model` holds tensors (spec chatrex 7)."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dpn_model.proposals.upn.network import UpnNetwork
from dpn_model.proposals.upn.shape import shape_of
from dpn_model.weights.check import load_checked
from dpn_model.weights.files import check_weight_file

_BLOCK = r"^backbone\.model\.backbone\.layers\.(\d+)\.blocks\.(\d+)\."
_OUR_BLOCK = r"backbone.swin.encoder.layers.\1.blocks.\2."
_DECODER = r"^transformer\.decoder\.layers\.(\d+)\."
#: what runs of a UPN, by the authors' names; the rest of a file is left out, as their own loading does
_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.model\.backbone\.patch_embed\.proj\.", "backbone.swin.embeddings.patch_embeddings.projection."),
    (r"^backbone\.model\.backbone\.patch_embed\.norm\.", "backbone.swin.embeddings.norm."),
    (_BLOCK + r"norm1\.", _OUR_BLOCK + "layernorm_before."),
    (_BLOCK + r"norm2\.", _OUR_BLOCK + "layernorm_after."),
    (_BLOCK + r"attn\.qkv\.", _OUR_BLOCK + "attention.{qkv}_proj."),
    (_BLOCK + r"attn\.proj\.", _OUR_BLOCK + "attention.o_proj."),
    (_BLOCK + r"attn\.(relative_position_bias_table)$", _OUR_BLOCK + r"attention.relative_position_bias.\3"),
    (_BLOCK + r"mlp\.", _OUR_BLOCK + "mlp."),
    (r"^backbone\.model\.backbone\.layers\.(\d+)\.downsample\.", r"backbone.swin.encoder.layers.\1.downsample."),
    # transformers counts stages from one: its stage 0 is what comes before them.
    *((rf"^backbone\.model\.backbone\.norm{n}\.", f"backbone.hidden_states_norms.stage{n + 1}.") for n in range(4)),
    (r"^input_proj\.", "input_proj."),
    (r"^transformer\.level_embed$", "level_embed"),
    (r"^transformer\.tgt_embed\.weight$", "queries"),
    (r"^transformer\.(enc_output|enc_output_norm)\.", r"\1."),
    (r"^transformer\.enc_out_bbox_embed\.", "enc_bbox_embed."),
    (r"^transformer\.(fine|coarse)_grained_prompt\.weight$", r"prompts.\1"),
    (r"^transformer\.encoder\.layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.self_attn."),
    (r"^transformer\.encoder\.layers\.(\d+)\.norm1\.", r"encoder.layers.\1.self_attn_layer_norm."),
    (r"^transformer\.encoder\.layers\.(\d+)\.linear(\d)\.", r"encoder.layers.\1.mlp.fc\2."),
    (r"^transformer\.encoder\.layers\.(\d+)\.norm2\.", r"encoder.layers.\1.final_layer_norm."),
    # The first norm of a decoder layer stands behind its second attention, and the other way round.
    (_DECODER + r"cross_attn\.", r"layers.\1.encoder_attn."),
    (_DECODER + r"norm1\.", r"layers.\1.encoder_attn_layer_norm."),
    (_DECODER + r"self_attn\.in_proj_", r"layers.\1.self_attn.{qkv}_proj."),
    (_DECODER + r"self_attn\.out_proj\.", r"layers.\1.self_attn.o_proj."),
    (_DECODER + r"norm2\.", r"layers.\1.self_attn_layer_norm."),
    (_DECODER + r"linear(\d)\.", r"layers.\1.mlp.fc\2."),
    (_DECODER + r"norm3\.", r"layers.\1.final_layer_norm."),
    (r"^transformer\.decoder\.norm\.", "norm."),
    (r"^transformer\.decoder\.ref_point_head\.", "ref_point_head."),
    (r"^(?:transformer\.decoder\.)?bbox_embed\.\d+\.", "bbox_embed."),
)
_COMPILED = tuple((re.compile(pattern), new) for pattern, new in _RULES)


def load_upn(file: Path) -> UpnNetwork:
    """The network of a file, whole, in float32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds other things than a UPN's tensors, or not all of them.
    """
    tensors = read_upn(file)
    try:
        network, renamed = UpnNetwork(shape_of(tensors)), our_names(tensors)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    load_checked(network, renamed, str(file))
    return network.eval()


def read_upn(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by the authors' names. Nothing but tensors is unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or has no key `model` with tensors.
    """
    check_weight_file(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} holds more than tensors and is refused: {str(error).splitlines()[0]}") from error
    except (EOFError, RuntimeError, OSError) as error:
        raise ValueError(f"{file} holds no weights that can be read: {' '.join(str(error).split())[:200]}") from error
    tensors = content.get("model") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{file} has no key 'model' with tensors by name, as UPN's file has")
    return tensors


def our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `UpnNetwork` has, by its names.

    Raises:
        ValueError: the box heads of the decoder's layers differ, though they are one.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for new, part in _named_parts(name, tensor):
            if new in renamed and not torch.equal(renamed[new], part):
                raise ValueError(f"{name} differs from the other layers' box head; a UPN has one for all layers")
            renamed[new] = part
    return renamed


def _named_parts(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor by our name; queries, keys and values, one tensor there, are three here; none that does not run."""
    for pattern, new in _COMPILED:
        renamed, found = pattern.subn(new, name, count=1)
        if found and "{qkv}" in renamed:
            return [(renamed.format(qkv=letter), part) for letter, part in zip("qkv", tensor.chunk(3), strict=True)]
        if found:
            return [(renamed, tensor)]
    return []
