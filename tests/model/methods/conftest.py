"""Toy methods are registered for as long as a test of this folder runs."""

from __future__ import annotations

import pytest

from dpn_model.methods import registry
from tests.model.methods.toys import TOYS


class Point:
    """What an installed package's entry point is to the registry."""

    def __init__(self, name: str) -> None:
        self.name, self.value = name, f"toys:{name}"

    def load(self) -> object:
        return TOYS[self.name]


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_plugins", lambda: {name: Point(name) for name in TOYS})
