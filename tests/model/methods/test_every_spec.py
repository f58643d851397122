"""Properties of every registered method's specification: settings, search, plans and budgets. No weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args

import pytest

from dpn_model.bases.catalogue import BASES, base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.registry import find_method, settings_of
from dpn_model.methods.settings import types_of
from dpn_model.methods.spec import Dimension, Training
from dpn_platform.config.method import method_config, method_section
from tests.model.methods.method_cases import CASES, Case

REAL = [(name, number, case) for name, cases in CASES.items() for number, case in enumerate(cases)]
each_real_case = pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, _, case in REAL], ids=[f"{name}-{number}" for name, number, _ in REAL]
)
each_method = pytest.mark.parametrize("name", CASES)


def described(owner: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting, those of sections too, and its help."""
    for each in fields(owner):
        kind = types_of(owner)[each.name]
        yield f"{prefix}{each.name}", each.metadata.get("help") or ""
        if isinstance(kind, type) and is_dataclass(kind):
            yield from described(kind, f"{prefix}{each.name}.")


def with_value(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {**values, first: with_value(values[first], rest, value) if rest else value}


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """What it gives, or None and why it is refused."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error)


@each_method
def test_it_says_what_it_is(name: str) -> None:
    spec = find_method(name)
    assert spec.name == name
    assert spec.label.strip() == spec.label != ""
    assert "\n" not in spec.label
    assert spec.needs_training in get_args(Training)
    assert (spec.settings.__doc__ or "").strip(), "settings without a docstring"
    assert not spec.settings.__doc__.startswith(f"{spec.settings.__name__}("), "the docstring is dataclass's own"
    helps = dict(described(spec.settings))
    sections = {key.rpartition(".")[0] for key in helps}
    assert [key for key, text in helps.items() if not text.strip() and key not in sections] == [], "no help"
    assert not spec.is_random or "seed" in helps


@each_real_case
def test_settings_survive_every_door(name: str, case: Case) -> None:
    for given in (case.settings, case.identity or {}, {}):
        settings = settings_of({"name": name, **given})
        plain = json.loads(json.dumps(settings.to_dict()))
        assert settings_of(plain) == settings
        section = method_config({"name": name, **given})
        assert section.settings == settings
        assert method_config(plain).settings == settings
        assert pickle.loads(pickle.dumps(section)) == section
        assert hash(settings) == hash(settings_of(plain))


@each_method
def test_a_setting_that_is_not_there_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} has no setting no_such_setting[^\n]*; allowed: [^\n]+$"):
        settings_of({"name": name, "no_such_setting": 1})


@each_method
def test_what_is_searched_can_be_set(name: str) -> None:
    spec = find_method(name)
    budget = {} if spec.budget is None else {"the budget": spec.budget}
    shape, plain = base_shape("llava-1.5-7b"), json.loads(json.dumps(spec.settings().to_dict()))
    assert set(method_section(name).model_fields) >= {one.setting.partition(".")[0] for one in spec.search.values()}
    for called, dimension in {**spec.search, **budget}.items():
        for value in values_of(called, dimension):
            settings = settings_of(with_value(plain, dimension.setting, value))
            spec.plan(settings, shape, 30)


def values_of(called: str, dimension: Dimension) -> tuple[Any, ...]:
    if dimension.choices:
        assert (dimension.low, dimension.high) == (None, None), f"{called}: a range and choices"
        assert len(set(dimension.choices)) == len(dimension.choices)
        return dimension.choices
    assert dimension.low is not None, called
    assert dimension.high is not None, called
    assert dimension.low < dimension.high, called
    assert not dimension.is_log or dimension.low > 0, called
    return dimension.low, dimension.high


@each_method
@pytest.mark.parametrize("base", BASES)
def test_a_plan_is_made_for_every_base_or_refused_in_one_line(name: str, base: str) -> None:
    spec, shape = find_method(name), base_shape(base)
    planned, refusal = attempt(lambda: spec.plan(spec.settings(), shape, 30))
    if planned is None:
        assert base != "llava-1.5-7b", refusal
        assert "\n" not in refusal
        return
    for ledger in planned:
        assert ledger.num_layers == shape.decoder.num_layers
        assert (ledger.packed, ledger.num_images) == (planned.dearest.packed, 1)
        assert all(min(load.stream) >= 0 for _, load in ledger.stages)
        assert all(load.stream.text == 30 for _, load in ledger.stages), "text is never dropped"
    low, high = (ledger.prefill(shape.decoder, "swiglu").total for ledger in planned)
    assert low <= high


@each_method
def test_a_budget_is_met_or_its_reach_told(name: str) -> None:
    spec, shape, third = find_method(name), base_shape("llava-1.5-7b"), 1 / 3
    if spec.budget is None:
        with pytest.raises(ValueError, match=f"method {name} has no setting that turns its cost"):
            at_budget(spec, spec.settings(), shape, third)
        return
    values = values_of("the budget", spec.budget)
    shares = [share_of(spec, replace(spec.settings(), **{spec.budget.setting: value}), shape) for value in values]
    assert shares == sorted(shares), "cost rises with the setting"
    found, refusal = attempt(lambda: at_budget(spec, spec.settings(), shape, third))
    if found is None:
        assert refusal.startswith(
            f"budget = 0.333333 is out of reach of method {name}: its {spec.budget.setting} reaches "
        )
        return
    # Half a visual token in every layer; what moves in steps, the nearest of them.
    missed = abs(share_of(spec, found, shape) - third)
    turned = getattr(found, spec.budget.setting)
    near = [] if spec.budget.choices else [turned * 0.98, min(turned * 1.02, float(spec.budget.high or 1))]
    others = [share_of(spec, replace(found, **{spec.budget.setting: value}), shape) for value in near]
    assert missed * 576 <= 0.5 or missed <= min((abs(one - third) for one in others), default=third / 4), found
    assert settings_of(found.to_dict()) == found
