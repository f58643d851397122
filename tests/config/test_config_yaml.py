"""YAML: 1.2 scalars, no key twice, nothing but plain values."""

import pytest

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.yaml_text import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("1e-3", 0.001),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("010", 10),
        ("0x10", 16),
        ("-3", -3),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1x2", "1x2"),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


def test_repeated_key_is_refused_with_its_place():
    with pytest.raises(ConfigError, match=r"^recipe, line 4, column 3: key 'steps' twice$"):
        parse_yaml("train:\n  steps: 1\n  lr: 2\n  steps: 3\n", "recipe")


@pytest.mark.parametrize(
    "text", ["a: [1", "a: !!python/object/apply:os.getcwd []", "a: 1\n b: 2", "\x00", "a: 1\n---\nb: 2"]
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "recipe")
    assert str(caught.value).startswith("recipe")
    assert "\n" not in str(caught.value)
