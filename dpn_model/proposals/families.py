"""Which models of transformers propose, by the `model_type` of their config.json; loads no framework."""

from __future__ import annotations

#: a softmax over the classes, the last of which is none; or a sigmoid for each
SOFTMAX = frozenset({"detr"})
SIGMOID = frozenset({"d_fine", "deformable_detr", "lw_detr", "rf_detr", "rt_detr", "rt_detr_v2"})
DETECTORS = SOFTMAX | SIGMOID
#: asked in words what to look for
GROUNDING = frozenset({"grounding-dino", "mm-grounding-dino"})
