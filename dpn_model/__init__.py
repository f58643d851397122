"""The Dynamic Pyramid Network and its rivals: torch and transformers, nothing else. Knows only tensors."""

from dpn_model.configuration import DpnConfig
from dpn_model.methods.dpn.calibration import calibrate
from dpn_model.methods.dpn.profiles import method_profile
from dpn_model.methods.method import Method, RoutingLoss
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
