"""Tracking: runs, metrics, artifacts and models behind a five-verb interface. Importing it does not import mlflow."""

from dpn_platform.tracking.memory import MemoryTracker
from dpn_platform.tracking.tracker import Status, Tracker, open_tracker

__all__ = ["MemoryTracker", "Status", "Tracker", "open_tracker"]
