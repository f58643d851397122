"""The Dynamic Pyramid Network and its rivals: torch and transformers, nothing else. Knows only tensors.

Names are imported when they are asked for: settings, costs and shapes need neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpn_model.configuration import DpnConfig
    from dpn_model.methods.dpn.calibration import calibrate
    from dpn_model.methods.dpn.profiles import method_profile
    from dpn_model.methods.dpn.settings import RoutingLoss
    from dpn_model.methods.registry import Method
    from dpn_model.modeling import DpnForConditionalGeneration
    from dpn_model.outputs import DpnOutput, RoutingReport

_HOMES = {
    "DpnConfig": "dpn_model.configuration",
    "DpnForConditionalGeneration": "dpn_model.modeling",
    "DpnOutput": "dpn_model.outputs",
    "Method": "dpn_model.methods.registry",
    "RoutingLoss": "dpn_model.methods.dpn.settings",
    "RoutingReport": "dpn_model.outputs",
    "calibrate": "dpn_model.methods.dpn.calibration",
    "method_profile": "dpn_model.methods.dpn.profiles",
}

__all__ = [
    "DpnConfig",
    "DpnForConditionalGeneration",
    "DpnOutput",
    "Method",
    "RoutingLoss",
    "RoutingReport",
    "calibrate",
    "method_profile",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
