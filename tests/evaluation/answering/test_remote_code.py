"""A folder that brings its own code: refused in one line, run only where that is allowed, and then recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.cli.main import run
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.evaluation.answering.loading import find_checkpoint, load_model
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
from dpn_platform.evaluation.runner.plan import Request
from tests.evaluation.answering.toy_references import edit, with_own_code
from tests.scored_benchmarks.small_llava_sets import gqa_llava


@pytest.fixture
def own(toy_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """transformers keeps copies of such code, here not in the user's own folder."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    with_own_code(tmp_path / "own", toy_llava)
    return tmp_path / "own"


def evaluated(folder: Path, *, trusts: bool) -> EvaluationResult:
    root = folder.parent
    gqa_llava(root / "set")
    wanted, output = Wanted(data=str(root / "set")), str(root / "out")
    request = Request(str(folder), "gqa", "harness", wanted, output, trust_remote_code=trusts)
    return evaluate_benchmark(request, parse_config({"name": "e"}, "test"), in_this_process=True)


def refusal(folder: Path, *, trusts: bool = True) -> str:
    with pytest.raises(DpnError) as refused:
        load_model(find_checkpoint(str(folder)), use_gpu=False, trust_remote_code=trusts)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_its_code_runs_only_where_that_is_allowed_and_the_result_says_so(own):
    with pytest.raises(DpnError, match=r"modelling_toy.ToyConfig, modelling_toy.ToyModel.*--trust-remote-code"):
        evaluated(own, trusts=False)
    assert not (own / "ran").exists()
    result = evaluated(own, trusts=True)
    assert (own / "ran").exists()
    document = json.loads((own.parent / "out" / "result.json").read_text())
    assert (result.n, document["key"]["trust_remote_code"], document["about"]["trust_remote_code"]) == (4, True, True)
    assert document["cost"]["flops_ratio_swiglu"] is None
    answers = (own.parent / "out").glob("shards/*.jsonl")
    assert all(json.loads(line)["metadata"]["new_tokens"] for file in answers for line in file.read_text().splitlines())


def test_where_transformers_has_the_model_its_own_code_runs(own):
    edit(own / "config.json", model_type="llava", architectures=["LlavaForConditionalGeneration"])
    edit(own / "processor_config.json", processor_class="LlavaProcessor", auto_map={})
    edit(own / "tokenizer_config.json", processor_class="LlavaProcessor")
    load_model(find_checkpoint(str(own)), use_gpu=False, trust_remote_code=True)
    assert not (own / "ran").exists()


def test_folders_that_cannot_be_run_in_any_case(own):
    auto_map = {
        "AutoConfig": "someone/else--modelling_toy.ToyConfig",
        "AutoModel": "someone/else--modelling_toy.ToyModel",
    }
    edit(own / "config.json", auto_map=auto_map)
    assert "its code is not in the folder (someone/else--modelling_toy.ToyConfig)" in refusal(own)
    edit(own / "config.json", auto_map={"AutoConfig": "modelling_toy.ToyConfig"})
    assert "its auto_map has no model that answers (found: AutoConfig)" in refusal(own)
    edit(own / "config.json", auto_map={"AutoConfig": "modelling_toy.ToyConfig", "AutoModel": "gone.ToyModel"})
    assert "transformers cannot load it: " in refusal(own)
    assert not (own / "gone.py").exists()


def test_a_tokenizer_alone_shows_no_picture(own):
    """Qwen-VL's first version has no more than that: its tokenizer writes the picture's address into the text."""
    for name in ("processor_config.json", "chat_template.jinja"):
        (own / name).unlink()
    edit(own / "tokenizer_config.json", processor_class=None)
    assert "is all it has for a processor, which takes no pictures" in refusal(own)


def test_vila_is_not_taken_for_llava(tmp_path):
    """Its config.json has LLaVA's `mm_` fields; without code of its own, transformers has no such model."""
    vila = {"model_type": "llava_llama", "llm_cfg": {"hidden_size": 8}, "mm_hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(vila))
    assert find_checkpoint(str(tmp_path)).method is None
    assert "transformers cannot load it: " in refusal(tmp_path)
    edit(tmp_path / "config.json", auto_map={"AutoModel": "modeling_vila.VILAForCausalLM"})
    assert "--trust-remote-code" in refusal(tmp_path, trusts=False)


def test_the_flag_reaches_the_request_of_a_benchmark_and_is_refused_elsewhere(capsys, monkeypatch, toy_llava):
    asked = []
    monkeypatch.setattr("dpn_platform.cli.evaluate.run_benchmark", lambda _, options, *__, **___: asked.append(options))
    for flags in ([], ["--trust-remote-code"]):
        assert run(["evaluate", toy_llava, "--benchmark", "gqa", *flags]) == 0
    assert [options.request(toy_llava, None).trust_remote_code for options in asked] == [False, True]
    assert run(["evaluate", toy_llava, "--trust-remote-code"]) == 2
    assert "--trust-remote-code needs --benchmark NAME" in capsys.readouterr().err
