"""Counts what makes a device wait for the host: values read from tensors, and operations whose size depends on values.

On a CPU nothing waits, but the same calls are made, so the count is the one a CUDA device would have. Tensors that are
on the host by design (ids, lengths) must stay out of the counted block.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: operations that copy a value, or the size of their result, to the host
WAITING_OPERATIONS = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.bincount.default",
    "aten.masked_select.default",
    "aten.repeat_interleave.Tensor",
    "aten._unique2.default",
    "aten.unique_consecutive.default",
}
#: methods that read a tensor without an operation of their own
WAITING_METHODS = ("tolist", "numpy", "cpu")


class HostCopies(TorchDispatchMode):
    """`with HostCopies() as copies: ...`, then `copies.total` and `copies.by_name`."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()
        self._patches = [mock.patch.object(Tensor, name, self._counted(name)) for name in WAITING_METHODS]

    @property
    def total(self) -> int:
        """All copies."""
        return self.by_name.total()

    def _counted(self, name: str) -> Any:
        original = getattr(Tensor, name)

        def method(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.by_name[name] += 1
            return original(tensor, *args, **kwargs)

        return method

    def __enter__(self) -> HostCopies:
        for patch in self._patches:
            patch.start()
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        for patch in self._patches:
            patch.stop()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation."""
        name = str(function)
        indexed_by_mask = name == "aten.index.Tensor" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITING_OPERATIONS or indexed_by_mask:
            self.by_name[name] += 1
        return function(*args, **(kwargs or {}))
