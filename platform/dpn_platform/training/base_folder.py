"""Where the weights that a run starts from lie. Imports no torch: drivers look here, too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: the base that is drawn from noise, with a vocabulary made of the data set's words
TINY = "tiny"


def find_folder(base: str) -> Path:
    """A relative path is meant from the place of `dpn_model`, with which the shipped bases travel, else from here."""
    package = find_spec("dpn_model")
    assert package is not None
    assert package.origin is not None
    beside_package = Path(package.origin).resolve().parents[1] / base
    return beside_package if beside_package.exists() else Path(base)
