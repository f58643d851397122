"""What `dpn evaluate` refuses before anything runs: one line that says what, where and what is allowed."""

import json

import pytest
import typer

from dpn_platform import storage
from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.cli.main import run
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
from dpn_platform.evaluation.runner.outcome import label_of, write_outcome
from dpn_platform.evaluation.runner.plan import Request

CONFIG = parse_config({"name": "refused"}, "test")


@pytest.fixture
def gqa(small_set, tmp_path):
    """A miniature GQA in LLaVA's layout."""
    small_set("gqa", "llava")
    return tmp_path / "set"


def refused(checkpoint, message, benchmark="gqa", **request):
    wanted = Wanted(**{name: request.pop(name) for name in Wanted.__dataclass_fields__ if name in request})
    with pytest.raises(DpnError, match=message) as error:
        evaluate_benchmark(Request(checkpoint, benchmark, wanted=wanted, **request), CONFIG)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "gqqa"], "benchmark 'gqqa' is unknown (did you mean 'gqa'?); allowed are vqav2, gqa"),
        (["--benchmark", "gqa", "--variant", "harnes"], "variant 'harnes' is unknown (did you mean 'harness'?)"),
    ],
)
def test_names_are_checked_before_services_start(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("dpn_platform.services.connect", lambda **_: pytest.fail("services were started"))
    assert run(["evaluate", "somewhere", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_places_that_are_missing(save_checkpoint, gqa, tmp_path):
    folder = save_checkpoint(name="dense")
    refused(folder, "say where the questions are: --data ROOT .gqa/llava_gqa")
    refused(folder, "split 'testdef' is unknown .did you mean 'testdev_balanced'", data=str(gqa), split="testdef")
    refused(folder, "layout 'lava' is unknown .did you mean 'llava'", data=str(gqa), layout="lava")
    refused(folder, "layout 'llava' is unknown; allowed are parquet", "mmmu", data=str(gqa), layout="llava")
    refused(folder, "--images is needed", questions=str(gqa / "gqa/llava_gqa_testdev_balanced.jsonl"))
    refused(folder, "--questions .*nothing is there", "pope", data=str(gqa), layout="llava")
    refused(folder, "dtype 'half' is unknown; allowed are auto", data=str(gqa), dtype="half")
    refused(folder, "its answers are public", data=str(gqa), for_server=True)
    refused(str(tmp_path), "no checkpoint there", data=str(gqa))


def test_missing_pictures_are_counted(save_checkpoint, gqa):
    (gqa / "gqa/data/images/n1.jpg").unlink()
    refused(save_checkpoint(name="dense"), r"1 of the 2 pictures of .* are missing \('n1\.jpg'\)", data=str(gqa))


def test_annotations_of_another_split_are_refused_before_the_first_answer(save_checkpoint, gqa):
    gold = {"77": {"question": "?", "answer": "no", "imageId": "n1"}}
    other = gqa / "val.json"
    other.write_text(json.dumps(gold))
    message = (
        "testdev_balanced.jsonl: 4 answered questions are not in .*val.json .*none of them is: the annotations are of"
    )
    refused(save_checkpoint(name="dense"), message, data=str(gqa), annotations=str(other))


@pytest.mark.parametrize(("method", "name"), [({"name": "dense"}, "dense"), ({"name": "static"}, "static")])
def test_routing_statistics_of_a_model_without_routers(save_checkpoint, gqa, method, name):
    refused(save_checkpoint(**method), f"method {name} has no routers", data=str(gqa), needs_routing=True)


def test_proxies_are_labelled_and_parts_are_not_scored(small_set, lines_of):
    run, questions, right = small_set("vqav2", "parquet")
    outcome = write_outcome(run, lines_of(questions, right), questions)
    assert "proxy" in outcome["caution"]
    assert label_of(run, outcome["reports"][""]["scores"]) == "vqav2-val"
    run, questions, right = small_set("vqav2", "parquet", for_server=True)
    outcome = write_outcome(run, lines_of(questions, right), questions)
    assert not outcome["reports"]
    sent = storage.read_json(outcome["submission_uri"])
    assert [row["answer"] for row in sent] == ["red", "2", "yes"], "normalised, and of this split alone"


def test_every_option_of_the_verb_has_help():
    from dpn_platform.cli.main import build_app

    command = typer.main.get_command(build_app()).commands["evaluate"]
    assert all(parameter.help for parameter in command.params)
