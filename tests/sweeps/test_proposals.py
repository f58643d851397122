"""What is proposed: any key, several methods, grids, named points, seeds and dials; each once, told as one result."""

import math

import optuna
import pytest

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import parse_config
from dpn_platform.config.objectives import constraint
from dpn_platform.sweeps.proposals import Proposals, by_proposal, values_of
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.trials import Trial, trial_config

GOOD = {"accuracy": 0.9, "flops_ratio": 0.5}
TWO = {"methods": {"random_drop": {"keep_ratio": [0.2, 0.9]}, "static": {"kernel": ["1x2", "2x2"]}}}


def fresh(sweep, known=(), others=(), reference=None):
    return Proposals(sweep, known, others, reference or {})


def drain(proposals, values=GOOD):
    found = []
    while (params := proposals.next()) is not None:
        found.append(params)
        proposals.tell(params, values)
    return found


def test_keys_of_the_training_beside_the_methods_own(make_config):
    search = {
        "method": "random_drop",
        "keep_ratio": [0.2, 0.9],
        "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "train.steps": {"low": 2, "high": 8, "step": 2},
        "data.grouping": ["mixed", "modality"],
    }
    config = make_config(search=search, num_trials=8)
    found = drain(fresh(config.sweep))
    assert len(found) == 8
    assert {one["train.steps"] for one in found} <= {2, 4, 6, 8}
    assert all(1e-4 <= one["train.lr"] <= 1e-2 for one in found)
    trial = trial_config(config, Trial("a", found[0]))
    assert (trial.train.lr, trial.train.steps) == (found[0]["train.lr"], found[0]["train.steps"])


def test_each_method_has_its_own_space(make_config):
    found = drain(fresh(make_config(search=TWO, num_trials=12).sweep))
    names = {one["method.name"] for one in found}
    assert names == {"random_drop", "static"}
    for one in found:
        own = {"random_drop": "method.keep_ratio", "static": "method.kernel"}[one["method.name"]]
        assert set(one) == {"method.name", own}


def test_a_space_that_is_exhausted_ends_the_search(make_config):
    found = drain(fresh(make_config(search={"method": "static", "kernel": ["1x2", "2x2"]}, num_trials=9).sweep))
    assert sorted(one["method.kernel"] for one in found) == ["1x2", "2x2"]


def test_a_grid_is_run_whole_and_once(make_config):
    search = {"methods": {**TWO["methods"], "random_drop": {"keep_ratio": {"low": 0.2, "high": 0.8, "levels": 3}}}}
    sweep = make_config(search={**search, "train.steps": [2, 4]}, sampler="grid", num_trials=1).sweep
    assert sweep.num_proposals == 10
    found = drain(fresh(sweep))
    assert len(found) == 10
    assert {one.get("method.keep_ratio") for one in found} == {0.2, 0.5, 0.8, None}
    half = [(params, GOOD) for params in found[:4]]
    rest = drain(fresh(sweep, half))
    assert rest == found[4:]


def test_named_points_come_first_and_teach_the_sampler(make_config):
    points = [{"routing_loss_weight": 0.07}, {"method": "static", "kernel": "2x2", "train.lr": 0.5}]
    sweep = make_config(points=points, num_trials=2).sweep
    proposals = fresh(sweep)
    assert proposals.num_open == 4
    found = drain(proposals)
    assert found[0] == {"method.name": "dpn", "method.routing_loss.weight": 0.07}
    assert found[1] == {"method.name": "static", "method.kernel": "2x2", "train.lr": 0.5}
    assert fresh(sweep, [(params, GOOD) for params in found]).num_open == 0
    assert fresh(sweep, [(params, GOOD) for params in found[1:3]]).num_open == 2


def test_the_search_learns_from_other_studies(make_config):
    sweep = make_config().sweep
    known = {
        "method.name": "dpn",
        "method.routing_loss.weight": 0.1,
        "method.routing_loss.target": 1.0,
        "method.experts": ["1x1", "1x2", "2x2"],
    }
    outside = {**known, "method.routing_loss.target": 99.0}
    elsewhere = {**known, "train.lr": 0.1}
    proposals = fresh(sweep, others=[(known, GOOD), (outside, GOOD), (elsewhere, GOOD)])
    assert [trial.values for trial in proposals.study.trials] == [[0.9, 0.5]]
    assert proposals.num_open == 3, "what others tried is no trial of this study"


@pytest.mark.parametrize("sampler", ["random", "nsga2", "nsga3", "optuna.samplers:QMCSampler"])
def test_samplers(make_config, sampler, monkeypatch):
    monkeypatch.setattr(optuna.samplers, "QMCSampler", lambda seed: optuna.samplers.RandomSampler(seed=seed))
    assert len(drain(fresh(make_config(sampler=sampler, constraints=["flops_ratio <= 0.4"]).sweep))) == 3


@pytest.mark.parametrize(
    ("sampler", "told"), [("json:no_such", "no attribute"), ("json:dumps", "is no sampler of Optuna")]
)
def test_a_sampler_that_cannot_be_had(make_config, sampler, told):
    with pytest.raises(ConfigError, match=f"sweep.sampler = '{sampler}'.*{told}"):
        fresh(make_config(sampler=sampler).sweep)


def test_objectives_and_constraints_reach_the_sampler(make_config):
    sweep = make_config(
        objectives=["accuracy", "kv_mib", "train_hours"], constraints=["accuracy >= dense - 1", "kv_mib <= dense * 0.5"]
    ).sweep
    proposals = fresh(sweep, reference={"accuracy": 0.95, "kv_mib": 100.0})
    params = proposals.next()
    proposals.tell(params, {"accuracy": 0.93, "kv_mib": 40.0, "train_hours": 0.1})
    [trial] = proposals.study.trials
    assert trial.values == [0.93, 40.0, 0.1]
    assert list(trial.constraints.values()) == pytest.approx([0.01, -10.0])
    assert [one.name for one in proposals.study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    proposals.tell(proposals.next(), {"accuracy": 0.9})
    assert proposals.study.trials[-1].state.name == "FAIL", "an objective was not measured"


@pytest.mark.parametrize(
    ("text", "values", "excess"),
    [
        ("accuracy >= 95", {"accuracy": 0.96}, -0.01),
        ("accuracy >= dense", {"accuracy": 0.96}, -0.06),
        ("accuracy >= dense + 8", {"accuracy": 0.96}, 0.02),
        ("accuracy >= dense * 0.5", {"accuracy": 0.96}, -0.51),
        ("flops_ratio/eq8 <= 0.5", {"flops_ratio/eq8": 0.6}, 0.1),
        ("kv_mib <= 3", {}, math.nan),
    ],
)
def test_what_a_constraint_says(text, values, excess):
    assert constraint(text).excess(values, {"accuracy": 0.9}) == pytest.approx(excess, nan_ok=True)


@pytest.mark.parametrize(
    "text", ["accuracy > 3", "speed <= 3", "accuracy >= dense / 2", "curve >= 1", "flops_ratio/x <= 1"]
)
def test_what_a_constraint_does_not_say(text):
    with pytest.raises(ValueError, match="write NAME|allowed|objective"):
        constraint(text)


def run_all(search, result=GOOD):
    keys = []
    while (suggestion := search.suggest(f"t{len(keys)}")) != "FINISHED":
        keys.append(suggestion["key"])
        search.on_trial_complete(f"t{len(keys) - 1}", result(keys[-1]) if callable(result) else result)
    return keys


def put(trial, known):
    return trial


def test_replicates_are_one_result(make_config):
    search = StudySearch(make_config(controls=[], num_trials=2, replicates=3).sweep, [], put)
    assert search.num_open == 6
    scores = iter([0.6, 0.7, 0.8, 0.9, 0.9, 0.9])
    keys = run_all(search, lambda key: {"accuracy": next(scores), "flops_ratio": 0.5})
    assert keys == [f"dpn-0{n}{end}" for n in (0, 1) for end in ("", "-seed-1", "-seed-2")]
    assert [trial.values for trial in search.study.trials] == [pytest.approx([0.7, 0.5]), pytest.approx([0.9, 0.5])]
    assert search.trials["dpn-01-seed-2"].params["seed"] == 2


def test_an_extension_by_seeds_completes_what_is_there(make_config):
    config = make_config(controls=[], num_trials=1)
    first = StudySearch(config.sweep, [], put)
    run_all(first)
    more = StudySearch(make_config(controls=[], num_trials=1, replicates=2).sweep, list(first.trials.values()), put)
    assert run_all(more) == ["dpn-00-seed-1"]


def test_a_dial_makes_a_curve_and_the_curve_is_what_is_told(make_config):
    config = make_config(
        controls=[],
        num_trials=1,
        dial=[0.4, 0.6],
        objectives=["curve"],
        search={"routing_loss_weight": [0.1, 1.0]},
        method={"scaling": "off", "sandwich": {"drawn": 1}, "route_fit": {"samples": 10}},
    )
    search = StudySearch(config.sweep, [], put)
    results = {"dpn-00": (0.9, 0.8), "dpn-00-dial-0.4": (0.5, 0.4), "dpn-00-dial-0.6": (0.8, 0.6)}
    keys = run_all(search, lambda key: dict(zip(("accuracy", "flops_ratio"), results[key], strict=True)))
    assert keys == list(results)
    assert search.trials["dpn-00-dial-0.4"].on == "dpn-00"
    [trial] = search.study.trials
    assert trial.values == [pytest.approx(0.6 * 0.5 + 0.4 * 0.3 + 0.2 * 0.1)]


def test_a_seed_that_failed_leaves_the_others(make_config):
    members = [
        Trial("dpn-00", {}, state="finished", values={"accuracy": 0.8, "flops_ratio": 0.5, "kv_mib": 1.0}),
        Trial("dpn-00-seed-1", {}, state="finished", values={"accuracy": 0.6, "flops_ratio": 0.5}),
        Trial("dpn-00-seed-2", {}, state="failed"),
    ]
    assert values_of(members) == {"accuracy": 0.7, "flops_ratio": 0.5, "curve": pytest.approx(0.35)}
    assert list(by_proposal(reversed(members))) == ["dpn-00"]
    assert by_proposal(reversed(members))["dpn-00"][0].key == "dpn-00"


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"search": {"train.leaning": [1, 2]}}, "there is no key train.leaning"),
        ({"search": {"train.lr": [-1.0, 2.0]}}, "low, high"),
        ({"search": {"train.steps": {"low": 1, "hi": 2}}}, "of which low and high are needed"),
        ({"search": {"train.steps": {"low": 0, "high": 4, "log": True}}}, "scale is logarithmic"),
        ({"search": {"train.optimizer": ["adamw", "adam"]}}, "sweep.search.train.optimizer: 'adam'"),
        ({"search": {"data.uri": ["a", "b"]}}, "must answer the same questions"),
        ({"search": {**TWO, "keep_ratio": [0.1, 0.2]}}, "settings stand under their method's name"),
        ({"search": TWO, "sampler": "grid"}, "levels or step must say"),
        ({"sampler": "best"}, "sweep.sampler = 'best': allowed: tpe, random, grid, nsga2, nsga3, or module:function"),
        ({"objectives": []}, ": names nothing to look for"),
        ({"sampler": "no.such:thing"}, "there is no module no.such"),
        ({"objectives": ["accuracy", "accuracy"]}, "name each once"),
        ({"objectives": ["accuracy/pope"]}, "pope is not among eval.benchmarks"),
        ({"search": {"eval.limit": [1, 2]}}, "must answer the same questions"),
        ({"points": [{"keep_ratio": 0.5}]}, "has no setting of that name"),
        ({"points": [{"train.lr": "high"}]}, "sweep.points"),
        ({"objectives": ["speed"]}, "speed"),
        ({"objectives": ["curve"]}, "needs sweep.dial"),
        ({"dial": [0.5]}, "no calibrated dial"),
        ({"constraints": ["accuracy >= dense"], "controls": ["static_2x2"]}, "measured by the control 'dense'"),
        ({"limits": {"currency": 3}}, "price_per_hour"),
        ({"limits": {"until": "tomorrow"}}, "sweep.limits.until"),
        ({"limits": {"until": 5}}, "sweep.limits.until = 5: must be a date and time as 2026-11-26T06:00"),
        ({"limits": {"until": "20261126"}}, "sweep.limits.until = '20261126': must be a date and time as"),
        ({"limits": {"until": "2026-13-01"}}, "sweep.limits.until = '2026-13-01'"),
        ({"search": {"methods": {}}}, "sweep.search.methods names none; allowed: {NAME: {SETTING: values}}"),
        ({"search": {"methods": {}, "train.lr": [1e-4, 1e-3]}}, "sweep.search.methods names none"),
        ({"replicates": 0}, "sweep.replicates"),
    ],
)
def test_what_a_study_refuses(make_config, sweep, told):
    with pytest.raises(ConfigError, match=told) as refused:
        make_config(**sweep)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("until", ["2026-11-26T06:00", "2026-11-26 06:00", "2026-11-26T06:00+01:00", "2026-11-26"])
def test_a_study_ends_at_a_date(make_config, until):
    config = make_config(limits={"until": until})
    assert config.sweep.limits.until.year == 2026
    assert parse_config(config.model_dump(mode="json")).sweep == config.sweep


def test_a_setting_that_may_be_left_out_is_a_number_all_the_same(make_config):
    [target] = make_config(search={"route_fit.target": [0.4, 0.6]}).sweep.search.of_method("dpn")[-1:]
    assert (target.low, target.high, target.choices) == (0.4, 0.6, ())


def test_sections_may_be_nested_as_an_override_writes_them(make_config):
    search = {"method": "static", "train": {"lr": [1e-4, 1e-3], "early": {"low": 1, "high": 2}}}
    with pytest.raises(ConfigError, match="there is no key train.early"):
        make_config(search=search)
    del search["train"]["early"]
    assert list(make_config(search=search).sweep.search.axes("static")) == ["method.kernel", "train.lr"]


def test_a_resolved_study_reads_back_as_it_is(make_config):
    config = make_config(search={**TWO, "train.lr": [1e-4, 1e-3]}, points=[{"method": "static", "kernel": "1x2"}])
    assert parse_config(config.model_dump(mode="json")).sweep == config.sweep
