"""From conversations and pictures to ids, labels and pixels, and the processors that a folder holds."""

from dpn_model.processing.chat_processor import ChatProcessor
from dpn_model.processing.contract import EncodedSample, Processor, picture_inputs
from dpn_model.processing.processor import DpnProcessor, load_processor

__all__ = ["ChatProcessor", "DpnProcessor", "EncodedSample", "Processor", "load_processor", "picture_inputs"]
