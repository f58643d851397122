"""Loading tensors into a model: missing, unexpected and misshapen keys are named and refused."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

import torch
from torch import Tensor, nn

from dpn_model.weights.names import fit_vision_names

#: keys of each kind that an error names
MAX_NAMED = 5


def load_checked(
    model: nn.Module, tensors: MutableMapping[str, Tensor], source: str, may_miss: Sequence[str] = ()
) -> list[str]:
    """Copy `tensors` into `model`, all or nothing, and let go of each: no second copy of the model stays in memory.

    Args:
        model: whose parameters and persistent buffers are set; types are converted. A weight that two modules share
            is one tensor, by its first name.
        tensors: by our names; empty afterwards.
        source: where they come from, for the error.
        may_miss: beginnings of names that may be absent and then stay as they are.

    Returns:
        The absent names.

    Raises:
        ValueError: what is missing, unexpected or of another shape, by name.
    """
    own = _own_tensors(model)
    given = fit_vision_names(tensors, own)
    tensors.clear()
    missing = [name for name in own if name not in given]
    refused = [name for name in missing if not name.startswith(tuple(may_miss))]
    unexpected = [name for name in given if name not in own]
    misshapen = [
        f"{name} {list(tensor.shape)} instead of {list(own[name].shape)}"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    ]
    told = misfits({"missing": refused, "unexpected": unexpected, "misshapen": misshapen})
    if told:
        raise ValueError(f"{source} does not fit the model; {told}")
    with torch.no_grad():
        for name in list(given):
            own[name].copy_(given.pop(name))
    return missing


def misfits(problems: Mapping[str, Sequence[str]]) -> str:
    """What does not fit, by kind, with the first names of each; empty where everything does."""
    return "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in problems.items() if names)


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each once."""
    once = dict(model.named_parameters())
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once.keys()
    return {name: tensor for name, tensor in model.state_dict().items() if name not in again}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(sorted(names)[:MAX_NAMED]) + more
