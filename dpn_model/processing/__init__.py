"""From conversations and pictures to ids, labels and pixels. Pure functions, no I/O."""

from dpn_model.processing.processor import DpnProcessor, EncodedSample

__all__ = ["DpnProcessor", "EncodedSample"]
