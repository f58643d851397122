"""Static pyramid: one fixed kernel for every sample, no router, no scaling (paper table 3; spec A.4 row 30)."""

from __future__ import annotations

from dpn_model.method import Method, parse_kernel
from dpn_model.packing import PackedSequence
from dpn_model.pyramid.experts import pool_image
from dpn_model.reduction import ReductionRecord, TokenReducer, replace_image_rows


class StaticPooling(TokenReducer):
    """Pools every image with `method.kernel`."""

    def __init__(self, layer: int, method: Method, hidden_size: int) -> None:
        super().__init__(layer)
        self.method = method
        self.kernel = parse_kernel(method.kernel)

    def forward(self, state: PackedSequence) -> tuple[PackedSequence, ReductionRecord]:
        """Pool every image with the one kernel."""
        tokens_in = state.visual_tokens()
        rows = [pool_image(image, self.kernel) for image in state.images]
        after, _ = replace_image_rows(state, rows, keep_positions=self.method.positions == "keep")
        choices = tuple(self.method.kernel if tokens else "-" for tokens in tokens_in)
        return after, ReductionRecord(self.layer, tokens_in, after.visual_tokens(), choices)
