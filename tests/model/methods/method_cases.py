"""Settings with which every registered method is put through the property suite, on a toy of 8 layers and 8x8 patches.

A new method needs a line here, nothing else: `test_every_method.py` runs over this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One way of running a method.

    Attributes:
        settings: as a recipe's section, without the name.
        identity: settings with which the method changes nothing, so that logits are dense; None where there are none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] | None = None


#: by method; a method with several ways of working has several cases
CASES: dict[str, tuple[Case, ...]] = {
    "dense": (Case(identity={}),),
    "dpn": (Case({"temperature": 1.0, "routing_token": "first"}),),
    "static": (Case(identity={"kernel": "1x1"}), Case({"kernel": "1x2", "pool": "avg"})),
    "random_kernel": (Case(identity={"experts": ["1x1"]}),),
    "random_drop": (Case(identity={"keep_ratio": 1.0}),),
    "fastv": (Case(identity={"keep": 1.0}), Case({"query": "text", "positions": "contiguous"}), Case({"query": "all"})),
    "fastervlm": (Case(identity={"keep": 1.0}),),
}
