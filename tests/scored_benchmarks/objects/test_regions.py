"""Names of regions: shared words, and a sentence model in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from dpn_platform.benchmarks.objects.regions import RegionAnswer, region_report, s_iou, said_of
from dpn_platform.benchmarks.objects.sentence_model import SentenceModel
from dpn_platform.config.errors import DpnError

WORDS = "[PAD] [UNK] dog brown cat red circle a".split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sentence model with eight words."""
    torch.manual_seed(0)
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, initializer_range=0.5, **sizes)
    BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_shared_words() -> None:
    assert s_iou("Brown dog", "a brown dog") == pytest.approx(2 / 3)
    assert s_iou("dog dog", "dog") == 1.0
    assert s_iou("", "dog") == 0.0
    assert s_iou("stop-sign", "stop sign") == 0.0


@pytest.mark.parametrize(
    ("text", "index", "wanted"),
    [
        ("<ground>brown dog</ground><objects><obj3></objects>", 3, "brown dog"),
        ("<ground>dog</ground><objects><obj0></objects>; <ground>cat</ground><objects><obj1></objects>", 1, "cat"),
        ("<ground>dog</ground><objects><obj0></objects>", 1, ""),
        ("<obj0> shows a brown dog", 0, "shows a brown dog"),
        ("brown dog.", 2, "brown dog."),
    ],
)
def test_what_is_said_of_a_region(text: str, index: int, wanted: str) -> None:
    assert said_of(text, index, 5) == wanted


def test_names_without_a_sentence_model() -> None:
    answers = [RegionAnswer("a", "Brown dog.", "brown dog"), RegionAnswer("a", "cat", "red circle")]
    report = region_report(answers)
    assert (report.s_iou.value, report.exact.value, report.each, report.ss) == (0.5, 0.5, (1.0, 0.0), None)
    assert report.to_json()["estimates"].keys() == {"s_iou", "exact"}
    assert report.to_json()["estimates"]["s_iou"]["value"] == 50.0
    with pytest.raises(DpnError, match="a: a region's true name is empty"):
        region_report([RegionAnswer("a", "cat", " ")])
    with pytest.raises(DpnError, match="nothing to score"):
        region_report([])


def test_sentences_are_means_over_their_own_tokens(folder: Path) -> None:
    """A short text beside a long one: what fills it up must not count."""
    model = SentenceModel.of_folder(str(folder))
    encoder = BertModel.from_pretrained(folder).eval()

    def vector(text: str) -> np.ndarray:
        ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            return encoder(ids).last_hidden_state[0].mean(dim=0).numpy()

    first, second = ["dog", "a brown dog a red circle", "cat"], ["a red cat", "dog", "cat"]
    wanted = [
        float(vector(one) @ vector(other) / np.linalg.norm(vector(one)) / np.linalg.norm(vector(other)))
        for one, other in zip(first, second, strict=True)
    ]
    assert model.similarities(first, second) == pytest.approx(wanted, abs=1e-5)  # measured: 2e-7
    assert wanted[2] == pytest.approx(1.0)
    assert max(wanted[:2]) < 0.95


def test_names_with_a_sentence_model(folder: Path) -> None:
    model = SentenceModel.of_folder(str(folder))
    report = region_report([RegionAnswer("a", "dog.", "dog"), RegionAnswer("b", "", "cat")], model)
    assert report.ss is not None
    assert report.ss.value == pytest.approx(0.5, abs=1e-6)
    assert report.ss.n == 2
    assert report.to_json()["estimates"]["ss"]["n"] == 2


def test_folders_without_a_whole_model_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="no folder of a sentence model: wanted config.json"):
        SentenceModel.of_folder(str(tmp_path / "nowhere"))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(DpnError, match="not read as a sentence model") as refusal:
        SentenceModel.of_folder(str(folder))
    assert "\n" not in str(refusal.value)


def test_an_encoder_with_layers_missing_is_refused_and_one_without_pooler_is_not(folder: Path) -> None:
    config = BertConfig.from_pretrained(folder)
    BertForMaskedLM(config).save_pretrained(folder)
    assert SentenceModel.of_folder(str(folder)).similarities(["dog"], ["dog"]) == pytest.approx([1.0], abs=1e-6)
    config.num_hidden_layers = 1
    BertModel(config).save_pretrained(folder)
    config.num_hidden_layers = 2
    config.save_pretrained(folder)
    with pytest.raises(DpnError, match="its weights lack encoder.layer.1"):
        SentenceModel.of_folder(str(folder))
