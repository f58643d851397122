"""What `from_pretrained` may be asked beside a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

ALLOWED = ("dtype", "torch_dtype")
_DTYPES = ("float32", "float16", "bfloat16", "float64")

#: a type of numbers, or the one in which the folder's weights are stored
WantedDtype = torch.dtype | Literal["auto"]


def wanted_dtype(given: Sequence[Any], named: Mapping[str, Any]) -> WantedDtype:
    """The type of the weights that the arguments ask for; float32 where they do not ask.

    Args:
        given: positional arguments behind the folder.
        named: keyword arguments; `torch_dtype` is the older name of `dtype`.

    Raises:
        ValueError: any other argument, a type that weights cannot have, or two types.
    """
    unknown = [name for name in named if name not in ALLOWED]
    if given or unknown:
        what = unknown[0] if unknown else f"positional argument {given[0]!r}"
        raise ValueError(f"from_pretrained: {what} means nothing here; allowed: {', '.join(ALLOWED)}")
    asked = [_as_dtype(name, named[name]) for name in ALLOWED if named.get(name) is not None]
    if len(set(asked)) > 1:
        raise ValueError(f"from_pretrained: dtype = {asked[0]} and torch_dtype = {asked[1]}; allowed: one of them")
    return asked[0] if asked else torch.float32


def _as_dtype(name: str, value: Any) -> WantedDtype:
    if value == "auto":
        return "auto"
    dtype = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    allowed = [getattr(torch, each) for each in _DTYPES]
    if dtype not in allowed:
        raise ValueError(f"from_pretrained: {name} = {value!r}; allowed: auto, {', '.join(_DTYPES)}")
    assert isinstance(dtype, torch.dtype)
    return dtype
