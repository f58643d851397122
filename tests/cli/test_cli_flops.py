"""`dpn flops`: the document machines read, the tables people read, and one line for bad input."""

import json

import pytest

from dpn_platform.cli import main
from dpn_platform.training.base_config import base_config

KEYS = {"model", "route", "text_tokens", "visual_tokens", "visual_tokens_mean", "eq8", "swiglu", "true"}


def account(capsys, *arguments):
    assert main.run(["flops", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_document_holds_absolute_counts(capsys):
    document = account(capsys, "--model", "llava-1.5-7b", "--route", "4,2,1", "--text-tokens", "30")
    assert set(document) == KEYS
    assert document["visual_tokens"] == [576, 144, 72, 72]
    assert document["visual_tokens_mean"] == 216
    # Spec peer-methods 1: a 7B layer costs 157 286 400 n + 8192 n^2.
    assert document["eq8"]["total"] == 8 * sum(157_286_400 * n + 8192 * n * n for n in (576, 144, 72, 72))
    assert document["eq8"]["dense"] == 32 * 93_314_875_392
    assert document["eq8"]["ratio"] == pytest.approx(0.3720, abs=0.00005)
    assert document["swiglu"]["dense"] == 32 * 125_647_749_120  # spec base-models A.2.1, n = 606
    for kind in ("total", "dense"):
        assert document["true"][kind] == 2 * document["swiglu"][kind]


def test_eq8_ignores_text(capsys):
    none, many = (
        account(capsys, "--model", "llava-1.5-7b", "--route", "2,2,2", "--text-tokens", n) for n in ("0", "900")
    )
    assert none["eq8"] == many["eq8"]
    assert none["swiglu"]["total"] < many["swiglu"]["total"]


@pytest.mark.parametrize("model", ["tiny", "llava-1.5-7b", "llava-1.5-13b", "llava-hr-7b", "llava-hr-x-13b"])
def test_every_named_base_has_an_account(capsys, model):
    document = account(capsys, "--model", model, "--route", "1x2,2x1,1", "--parts")
    first = document["visual_tokens"][0]
    assert document["visual_tokens"] == [first, first // 2, first // 4, first // 4]
    assert set(document) == KEYS | {"sites", "parts", "kv"}
    parts = document["parts"]["swiglu"]
    assert parts["prefill"] == document["swiglu"]["total"]
    assert parts["total"] == sum(parts[part] for part in ("vision", "projector", "prefill", "method", "lm_head"))
    assert len(document["kv"]) == 4


def test_people_get_tables(capsys):
    assert main.run(["flops", "--model", "llava-1.5-7b", "--route", "4,2,2"]) == 0
    printed = capsys.readouterr().out
    for part in ("1,065.4", "2,986.1", "0.3568", "vision", "decode per token", "25-32", "133.5"):
        assert part in printed


def test_tiny_is_costed_as_it_is_built(capsys):
    from dpn_model.bases.catalogue import base_shape
    from dpn_model.bases.shapes import llava_shape

    assert base_shape("tiny") == llava_shape(base_config("tiny").base)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model", "llava", "--route", "1,1,1"], ["model = 'llava'", "llava-1.5-7b", "llava-hr-x-13b"]),
        (["--model", "tiny", "--route", "1,1"], ["route", "2 entries", "allowed: 3"]),
        (["--model", "tiny", "--route", "8,1,1"], ["route[0] = '8'", "areas 1, 2, 4"]),
        (["--model", "tiny", "--route", "4x4,4x4,1"], ["route[1]", "2x2 grid is too small"]),
        (["--model", "tiny", "--route", "1,1,1", "--text-tokens", "-1"], ["--text-tokens"]),
        (["--model", "tiny", "--route", "1,1,1", "--text-tokens", "few"], ["--text-tokens"]),
        (["--model", "tiny"], ["neither of --route and --method"]),
        (["--model", "tiny", "--route", "1,1,1", "--method", "dense"], ["both of --route and --method"]),
        (["--model", "tiny", "--route", "1,1,1", "method.keep=0.5"], ["method.keep=0.5", "--method"]),
        (["--model", "tiny", "--route", "1,1,1", "--budget", "0.5"], ["--budget", "--method"]),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, parts):
    assert main.run(["flops", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err
