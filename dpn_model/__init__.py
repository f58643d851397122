"""The Dynamic Pyramid Network and its rivals: torch and transformers, nothing else. Knows only tensors.

The public names are imported when they are first asked for: costs, settings and named shapes need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpn_model.configuration import DpnConfig
    from dpn_model.methods.dpn.calibration import calibrate
    from dpn_model.methods.dpn.profiles import method_profile
    from dpn_model.methods.dpn.settings import RoutingLoss
    from dpn_model.methods.registry import Method
    from dpn_model.modeling import DpnForConditionalGeneration
    from dpn_model.outputs import DpnOutput, RoutingReport

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

_HOMES = {
    "DpnConfig": "configuration",
    "DpnForConditionalGeneration": "modeling",
    "DpnOutput": "outputs",
    "Method": "methods.registry",
    "RoutingLoss": "methods.dpn.settings",
    "RoutingReport": "outputs",
    "calibrate": "methods.dpn.calibration",
    "method_profile": "methods.dpn.profiles",
}

if not TYPE_CHECKING:  # to a type checker, a module with `__getattr__` has every name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'dpn_model' has no attribute {name!r}")
        return getattr(import_module(f"dpn_model.{_HOMES[name]}"), name)
