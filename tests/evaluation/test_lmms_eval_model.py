"""The adapter for lmms-eval against its protocol: base class and requests as lmms-eval 0.7 has them, a made task."""

import abc
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np
import pytest
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation import lmms_eval_model
from dpn_platform.evaluation.answering.loading import load_ours


class Lmms(abc.ABC):
    """What lmms-eval 0.7.3's `api.model.lmms` asks of a model (read from its source)."""

    is_simple = True

    def __init__(self):
        self.task_dict = {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...

    @classmethod
    def create_from_arg_string(cls, arg_string, additional_config=None):
        args = dict(pair.split("=") for pair in arg_string.split(",") if pair)
        return cls(**args, **{name: value for name, value in (additional_config or {}).items() if value is not None})


@dataclass
class Instance:
    """A request; `args` as `ConfigurableTask.construct_requests` makes them for generate_until."""

    args: tuple


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(3)]
    return [{"question": f"what colour is row {'one ' * (n % 4)} ?", "image": images[n % 3]} for n in range(7)]


def requests(task, **settings):
    def doc_to_visual(doc):
        return [doc["image"]] if doc["image"] else []

    settings = {"max_new_tokens": 4, "temperature": 0, "until": ["\n\n"], **settings}
    return [Instance((doc["question"], settings, doc_to_visual, n, "made", "test")) for n, doc in enumerate(task)]


def make(checkpoint, task, batch_size=3):
    model_class = lmms_eval_model.model_class(Lmms)
    config = {"batch_size": batch_size, "max_batch_size": 8, "device": "cpu"}
    model = model_class.create_from_arg_string(f"checkpoint={checkpoint}", config)
    model.task_dict["made"] = {"test": task}
    return model


def test_a_task_is_answered_as_the_model_answers(save_checkpoint, task):
    checkpoint = save_checkpoint(name="dpn")
    task[5]["image"] = None
    answers = make(checkpoint, task).generate_until(requests(task))
    assert answers == make(checkpoint, task, batch_size=1).generate_until(requests(task))
    model, processor = load_ours(checkpoint)
    for doc, answer in zip(task, answers, strict=True):
        inputs = processor([doc["question"].strip()], [doc["image"]], router=True)
        ids = model.generate(**inputs, max_new_tokens=4, eos_token_id=processor.tokenizer.eos_token_id)
        assert answer == processor.decode(ids[0, inputs["input_ids"].shape[1] :].tolist())


def test_stops_cut_answers(save_checkpoint, task):
    model = make(save_checkpoint(name="dense"), task)
    whole = model.generate_until(requests(task))
    stop = whole[0].split()[1]
    cut = model.generate_until(requests(task, until=stop))
    assert cut[0] == whole[0].partition(stop)[0].strip()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"temperature": 0.7}, "temperature = 0.7: answers are greedy"), ({"num_beams": 4}, "num_beams = 4")],
)
def test_what_is_not_greedy_is_refused(save_checkpoint, task, settings, message):
    with pytest.raises(DpnError, match=message):
        make(save_checkpoint(name="dense"), task).generate_until(requests(task, **settings))


def test_other_refusals(save_checkpoint, task):
    checkpoint = save_checkpoint(name="dense")
    model_class = lmms_eval_model.model_class(Lmms)
    with pytest.raises(DpnError, match="'batchsize' is unknown; allowed are checkpoint, batch_size"):
        model_class(checkpoint, batchsize=3)
    with pytest.raises(DpnError, match="batch_size 'auto': a whole number"):
        model_class(checkpoint, batch_size="auto")
    model = make(checkpoint, task)
    with pytest.raises(NotImplementedError, match="loglikelihood"):
        model.loglikelihood([])
    task[0]["image"] = "clip.mp4"
    with pytest.raises(DpnError, match="a task shows str; this model takes pictures"):
        model.generate_until(requests(task))


def test_lmms_eval_finds_it_and_is_not_imported_for_it():
    code = "import sys, dpn_platform.evaluation.lmms_eval_model; assert 'lmms_eval' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    found = [entry.value for entry in entry_points(group="lmms_eval.models") if entry.name == "dpn"]
    if not found:
        pytest.skip("the package is not installed, only on the path")
    assert found == ["dpn_platform.evaluation.lmms_eval_model:manifest"]
