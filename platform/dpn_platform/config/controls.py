"""Names of a sweep's controls, and the method each of them is.

`dense`, `random_drop`, `static_2x2` (one kernel at every site), `static_1x1-2x2-2x2` (one per site: a fixed pyramid,
the control for a router that could as well have been a constant).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator

_KERNEL = r"[1-9]\d*x[1-9]\d*"


def method_of_control(name: str) -> dict[str, Any]:
    """What the control sets in the method's section."""
    kind, _, kernels = name.partition("_") if name.startswith("static_") else (name, "", "")
    if "-" in kernels:
        return {"name": kind, "site_kernels": kernels.split("-")}
    return {"name": kind, "kernel": kernels} if kernels else {"name": kind}


def _checked_control(name: str) -> str:
    if name not in ("dense", "random_drop") and not re.fullmatch(rf"static_{_KERNEL}(-{_KERNEL})*", name):
        raise ValueError(
            "must be dense, random_drop or static_<height>x<width>, for example static_2x2 "
            "(or one kernel per site: static_1x1-2x2-2x2)"
        )
    return name


Control = Annotated[str, AfterValidator(_checked_control)]
