"""Loading tensors into a model: missing, unexpected and misshapen keys are named and refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dpn_model.weights.names import fit_vision_names

#: keys of each kind that an error names
MAX_NAMED = 5


def load_checked(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str, may_miss: Sequence[str] = ()
) -> list[str]:
    """Copy `tensors` into `model`, all or nothing.

    Args:
        model: whose parameters and persistent buffers are set; types are converted.
        tensors: by our names.
        source: where they come from, for the error.
        may_miss: beginnings of names that may be absent and then stay as they are.

    Returns:
        The absent names.

    Raises:
        ValueError: what is missing, unexpected or of another shape, by name.
    """
    own = model.state_dict()
    tensors = fit_vision_names(tensors, own)
    missing = [name for name in own if name not in tensors]
    refused = [name for name in missing if not name.startswith(tuple(may_miss))]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [
        f"{name} {list(tensor.shape)} instead of {list(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems = (("missing", refused), ("unexpected", unexpected), ("misshapen", misshapen))
    told = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in problems if names]
    if told:
        raise ValueError(f"{source} does not fit the model; {'; '.join(told)}")
    model.load_state_dict(tensors, strict=False)
    return missing


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(sorted(names)[:MAX_NAMED]) + more
