"""Loading: overrides, refusals in one line with the nearest name, fingerprint, difference, dump."""

import pytest

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import difference, dump_config, fingerprint, load_config, parse_config


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: demo\ntrain:\n  steps: 10\n")
    return path


def refusal(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_load_config_fills_defaults_and_keeps_what_is_written(recipe):
    config = load_config(recipe)
    assert (config.name, config.train.steps, config.method.name) == ("demo", 10, "dpn")
    assert config.sweep is None


def test_overrides_are_yaml_and_the_last_one_wins(recipe):
    config = load_config(
        recipe,
        [
            "train.steps=20",
            "train.steps=30",
            "train.lr=1e-4",
            "method.experts=[1x1, 2x2]",
            "method.scaling=on",
            "eval.limit=",
        ],
    )
    assert config.train.steps == 30
    assert config.train.lr == 1e-4
    assert config.method.experts == ("1x1", "2x2")
    assert config.method.scaling == "on"
    assert config.eval.limit is None


def test_override_value_may_hold_an_equals_sign(recipe):
    assert load_config(recipe, ["data.uri=s3://dpn/a=b/c"]).data.uri == "s3://dpn/a=b/c"


def test_override_opens_an_absent_section(recipe):
    config = load_config(recipe, ["sweep.num_trials=3"])
    assert config.sweep is not None
    assert config.sweep.num_trials == 3


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.stpes=3", ["unknown key 'train.stpes'", "did you mean 'train.steps'?"]),
        ("steps=3", ["unknown key 'steps'", "did you mean 'train.steps'?"]),
        ("method.routing_loss.wieght=1", ["did you mean 'method.routing_loss.weight'?"]),
        ("sweep.nmu_trials=1", ["did you mean 'sweep.num_trials'?"]),
        ("zzz=3", ["unknown key 'zzz'", "allowed here: name, data, model"]),
        (
            "method.name=dnp",
            [
                "method.name = 'dnp'",
                "allowed: dense, dpn, static, random_kernel, random_drop",
                "did you mean 'dpn'?",
            ],
        ),
        ("train.zero_stage=5", ["train.zero_stage = 5", "allowed are 0, 1, 2, 3"]),
        ("train.optimizer=adamax", ["train.optimizer = 'adamax'", "allowed are adamw, sgd", "did you mean 'adamw'?"]),
        ("train.offload=optimizer", ["offload optimizer needs zero_stage 2 or 3, this is 1"]),
        ("train={zero_stage: 2, offload: all}", ["offload all needs zero_stage 3, this is 2"]),
        ("train={lr: 0, lora: {}}", ["lora trains adapters of the language model at lr, which is 0"]),
        ("train.lora.rank=0", ["train.lora.rank = 0", "must be greater than 0"]),
        ("model.template=plain", ["model.template plain has no question that <ROUTER> could end"]),
        ("train.steps=0", ["train.steps = 0", "must be greater than 0"]),
        ("train.steps=many", ["train.steps = 'many'", "must be a valid integer"]),
        ("train.steps=true", ["train.steps = True", "must not be true or false"]),
        ("train.lr=.inf", ["train.lr = inf", "finite"]),
        ("train=3", ["train = 3", "must be a section of keys"]),
        ("train.global_batch_size=33", ["global_batch_size 33 is not a multiple"]),
        ("sweep.controls=[{name: static, kernel: 2by2}]", ["unknown kernel '2by2'", "height x width"]),
        ("method.experts=[1x1, 1x0]", ["method.experts[1] = '1x0'", "height x width"]),
        ("method.sites=[-1]", ["method.sites[0] = -1", "greater than or equal to 0"]),
        ("method.min_tokens=0", ["method.min_tokens = 0", "greater than or equal to 1"]),
        ("sweep.controls=[dense, statik]", ["sweep.controls[1] = 'statik'", "static_2x2"]),
        ("sweep.controls=[static_1x1-2x]", ["sweep.controls[0] = 'static_1x1-2x'", "static_1x1-2x2-2x2"]),
        ("sweep.controls=[static_1x1-2x2]", ["control static_1x1-2x2 has 2 kernels for 3 sites"]),
        ("sweep.search.routing_loss_weight=[0, 1]", ["sweep.search.routing_loss_weight", "above 0"]),
        ("sweep.search.routing_loss_target=[2, 1]", ["sweep.search.routing_loss_target", "low <= high"]),
        ("name=a b", ["name = 'a b'"]),
    ],
)
def test_bad_values_are_refused_in_one_line(recipe, override, parts):
    message = refusal(recipe, override)
    assert message.startswith(str(recipe))
    for part in parts:
        assert part in message


def test_all_errors_are_told_at_once(recipe):
    message = refusal(recipe, "train.stpes=3", "train.lr=-1", "foo=1")
    assert all(part in message for part in ("train.stpes", "train.lr = -1", "'foo'"))


def test_kernels_per_site_are_for_runs_not_for_sweeps(recipe):
    message = refusal(recipe, "method.site_experts=[[1x1], [1x2], [2x2]]", "sweep.num_trials=1")
    assert "method.site_experts cannot be set in a sweep" in message


@pytest.mark.parametrize("override", ["steps", "=3", "train.=3", ".=1", ""])
def test_malformed_override_is_refused_with_an_example(recipe, override):
    assert "write key=value, for example train.steps=100" in refusal(recipe, override)


def test_override_inside_a_value_is_refused(recipe):
    assert "'name' is not a section" in refusal(recipe, "name.first=x")


def test_override_that_is_not_yaml_is_refused(recipe):
    assert "override 'method.experts=[1x1'" in refusal(recipe, "method.experts=[1x1")


def test_unusable_files_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.yaml")
    assert "cannot be read" in refusal(tmp_path)
    empty, listed, binary = tmp_path / "empty.yaml", tmp_path / "list.yaml", tmp_path / "binary.yaml"
    empty.write_text("# nothing\n")
    listed.write_text("- a\n")
    binary.write_bytes(b"\xff\xfe\x00")
    assert "the file is empty" in refusal(empty)
    assert "holds a list" in refusal(listed)
    assert "cannot be read" in refusal(binary)


def test_missing_name_is_named():
    with pytest.raises(ConfigError, match=r"^here: 'name' is required$"):
        parse_config({}, "here")


def test_dump_is_read_back_equal(recipe, tmp_path):
    config = load_config(recipe, ["sweep.num_trials=3", "train.lr=1e-4", "method.scaling=on"])
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_dump_and_difference_mask_credentials(recipe):
    plain = load_config(recipe)
    config = load_config(recipe, ["tracking.uri=http://someone:hunter2@host:5000"])
    assert "hunter2" not in dump_config(config)
    assert "http://***@host:5000" in dump_config(config)
    assert "hunter2" not in " ".join(difference(plain, config))


def test_fingerprint_is_of_the_computation_not_of_its_name_or_place():
    config = parse_config({"name": "a"})
    assert len(fingerprint(config)) == 16
    assert fingerprint(config) == fingerprint(parse_config({"name": "b", "storage": {"runs_uri": "s3://x/y"}}))
    assert fingerprint(config) == fingerprint(parse_config({"name": "a", "train": {"lr": 0.001}}))
    assert fingerprint(config) != fingerprint(parse_config({"name": "a", "train": {"lr": 0.002}}))


def test_fingerprint_exclude_takes_sections_and_dotted_keys():
    config, other = parse_config({"name": "a"}), parse_config({"name": "a", "train": {"lr": 0.5}, "eval": {"limit": 3}})
    assert fingerprint(config, ("train.lr", "eval")) == fingerprint(other, ("train.lr", "eval"))
    assert fingerprint(config, ("train.l", "eval")) != fingerprint(other, ("train.l", "eval"))


def test_difference_names_leaves_and_absent_sections():
    old = parse_config({"name": "a"})
    new = parse_config({"name": "a", "train": {"steps": 7}, "sweep": {}})
    lines = difference(old, new)
    assert "train.steps: 200 -> 7" in lines
    assert "sweep.num_trials: absent -> 6" in lines
    assert difference(old, old) == []
