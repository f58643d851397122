"""The Dynamic Pyramid Network and its rivals: torch and transformers, nothing else. Knows only tensors."""

from dpn_model.configuration import DpnConfig
from dpn_model.dial import calibrate
from dpn_model.method import Method, RoutingLoss
from dpn_model.modeling import DpnForConditionalGeneration
from dpn_model.outputs import DpnOutput, RoutingReport
from dpn_model.pyramid.profiles import method_profile

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
