"""Shared by the architecture tests: where the code is, and what its files import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def product_files():
    """Every Python file of the product, parsed: path relative to the root -> syntax tree."""
    folders = ("dpn_model", "platform/dpn_platform", "jobs")
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert len(paths) > 50
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths}


@pytest.fixture(scope="session")
def imports_of(product_files):
    """Dotted names a file imports anywhere, functions included."""

    def names(path):
        found = set()
        for node in ast.walk(product_files[path]):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        return found

    return names
