"""A visual question-answering set drawn on the spot, so that the whole path runs without a download."""

from dpn_platform.demo.build import DemoSummary, make_demo
from dpn_platform.demo.families import FAMILIES, VISUAL_FAMILIES, VOCABULARY

__all__ = ["FAMILIES", "VISUAL_FAMILIES", "VOCABULARY", "DemoSummary", "make_demo"]
