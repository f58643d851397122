"""From a folder of another project, as it is: built, trained a step, exported, evaluated."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from dpn_platform.benchmarks.files.questions import Question
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.reading.collate import SampleCollator, decode_image, parse_turns
from dpn_platform.evaluation.answering.contract import Answered, Picture
from dpn_platform.evaluation.answering.loading import load_ours
from dpn_platform.evaluation.answering.packed_model import PackedModel
from dpn_platform.evaluation.runner.actor import batches
from dpn_platform.planning.base_model import meta_model, parameters_by_part
from dpn_platform.planning.methods import method_cost, method_plan
from dpn_platform.training.base import build_model, reading_processor
from dpn_platform.training.base_config import base_config
from dpn_platform.training.loop import to_device
from dpn_platform.training.optimizer import part_of
from tests.evaluation.conftest import _row as row
from tests.model.toy_folders import llava_hf, original, qwen_vl

WRITERS = {
    "llava_hf": llava_hf,
    "qwen2_vl": lambda folder: qwen_vl(folder, "qwen2_vl"),
    "qwen2_5_vl": lambda folder: qwen_vl(folder, "qwen2_5_vl"),
    "original": lambda folder: original(folder, "llava", image_aspect_ratio="pad"),
    "llava_hr": lambda folder: original(folder, "llava_hr"),
}


def config(base: Path, **method: object) -> ExperimentConfig:
    return parse_config({"name": "test", "model": {"base": str(base)}, "method": method}, "test")


@pytest.fixture(params=list(WRITERS))
def base(request, tmp_path: Path) -> Path:
    WRITERS[request.param](tmp_path / "base")
    return tmp_path / "base"


def rows() -> pa.Table:
    table = pa.Table.from_pylist([row(number) for number in range(6)])
    return table.append_column("sample_key", table.column("row_id"))


def answered(folder: Path, batch_size: int) -> list[Answered]:
    """The rows' first questions, as an evaluation asks them."""
    model = PackedModel(*load_ours(str(folder)), torch.device("cpu"), torch.float32)
    asked, encoded = [], []
    for place, one in enumerate(rows().to_pylist()):
        question, _ = parse_turns(one["conversations"])[0]
        pictures = [Picture(str(place), decode_image(one["image"]))] if one["has_image"] else []
        asked.append(Question(place, place, question, question, 3, (), str(place), "f"))
        encoded.append(model.encode(question, pictures))
    found: dict[int, Answered] = {}
    for places in batches(asked, encoded, batch_size):
        found |= zip(places, model.answer([encoded[place] for place in places], 3)[0], strict=True)
    return [found[place] for place in sorted(found)]


def test_a_folder_as_it_is_becomes_a_trained_and_evaluated_checkpoint(base: Path, tmp_path: Path) -> None:
    model, processor = build_model(config(base, name="dpn", sites=[1]))
    table = rows()
    batch = SampleCollator(processor, router=model.needs_router_token)(table)
    router = processor.tokenizer.convert_tokens_to_ids("<ROUTER>")
    assert ((batch["input_ids"] == router).sum(dim=1) > 0).tolist() == table.column("has_image").to_pylist()
    out = model.train()(**to_device(batch, torch.device("cpu"), torch.float32))
    out.loss.backward()
    assert {part_of(name) for name, weight in model.named_parameters() if weight.grad is not None} == {
        "vision",
        "projector",
        "llm",
        "router",
    }
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad
    model.save_pretrained(tmp_path / "export")
    processor.save_pretrained(tmp_path / "export")

    answers = answered(tmp_path / "export", batch_size=3)
    assert [answer.visual_tokens[0] > 0 for answer in answers] == table.column("has_image").to_pylist()
    assert [one.text for one in answers] == [one.text for one in answered(tmp_path / "export", batch_size=1)]
    assert len(answered(base, batch_size=3)) == 6  # and the base as it is


def test_a_folder_as_it_is_can_be_planned(base: Path) -> None:
    planned, wanted = base_config(str(base)), config(base, name="static", kernel="2x2", sites=[1])
    assert method_cost(planned, method_plan(planned, wanted.method, text_tokens=10))["flops_ratio_eq8"].low < 1
    sizes = parameters_by_part(meta_model(planned, wanted.method, wanted.train))
    real, _ = build_model(config(base, name="dense"))
    assert sum(sizes.values()) == sum(weight.numel() for weight in real.parameters())
    assert min(sizes["vision tower"], sizes["projector"], sizes["language model"]) > 0


def test_captions_are_refused_for_a_base_with_a_chat_template(tmp_path: Path) -> None:
    llava_hf(tmp_path)
    wanted = config(tmp_path, name="dense").model.model_copy(update={"template": "plain"})
    _, processor = build_model(config(tmp_path, name="dense"))
    with pytest.raises(DpnError, match="template plain is LLaVA's own"):
        reading_processor(processor, wanted)


def test_what_is_wrong_with_a_base_s_processor_is_one_line(tmp_path: Path) -> None:
    llava_hf(tmp_path, "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(DpnError, match="takes texts only") as refusal:
        build_model(config(tmp_path, name="dense"))
    assert "\n" not in str(refusal.value)
