"""Recipes and documents: every YAML loads and says how to run it; every command in the documents exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from dpn_platform.cli.main import build_app
from dpn_platform.config.load import load_config

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "jobs/configs").glob("*.yaml"))
DOCUMENTS = [
    ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "platform/README.md", "docs/objects.md")
]
MAKE_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`((?:dpn|make) [^`]+)`")


def commands_of(document):
    """The `dpn ...` and `make ...` commands of a document, in blocks and in the text."""
    text = document.read_text()
    lines = [line for block in CODE_BLOCK.findall(text) for line in block.splitlines()]
    lines += INLINE_CODE.findall(CODE_BLOCK.sub("", text))
    for line in lines:
        command = line.strip().removeprefix("$ ").removeprefix(".venv/bin/").split("#")[0].strip()
        if command.startswith(("dpn ", "make ")):
            yield command


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipe_loads_and_is_named_after_its_file(path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipe_says_command_hardware_and_time(path):
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert all(f"# {word}:" in header for word in ("Command", "Hardware", "Expected"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_the_document_exist(document):
    targets = set(MAKE_TARGET.findall((ROOT / "Makefile").read_text()))
    group = typer.main.get_command(build_app())
    for command in commands_of(document):
        words = shlex.split(command.replace("...", ""))
        if words[0] == "make":
            assert words[1] in targets, f"{document.name}: {command}"
        elif "|" not in words and not words[1].startswith("-"):
            check_verb(group, words[1:], f"{document.name}: {command}")


def check_verb(group, words, where):
    command = group
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"{where}: no verb {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in options | {"--help"}, f"{where}: no option {word}"
        elif word.endswith(".yaml") and "/" in word:
            assert (ROOT / word).is_file(), f"{where}: no file {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document):
    text = CODE_BLOCK.sub("", document.read_text())
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (document.parent / link).exists()] == []
