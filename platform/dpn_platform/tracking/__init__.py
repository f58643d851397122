"""Tracking: runs, metrics, artifacts and models behind ten verbs, kept by MLflow, as JSON lines, or not.

Importing it does not import mlflow.
"""

from dpn_platform.tracking.memory import MemoryTracker
from dpn_platform.tracking.opening import open_tracker
from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.tracker import Status, Tracker

__all__ = ["DataInput", "MemoryTracker", "Status", "Tracker", "Version", "View", "open_tracker"]
