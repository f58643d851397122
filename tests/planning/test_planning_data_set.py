"""What a plan reads of a published data set: rows, pictures, and tokens as training would encode them."""

import io
import json

import pytest
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, build_shard
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of, publish_manifest
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.planning.compute import SampleMeans
from dpn_platform.planning.data_set import ASSUMED_TEXT_TOKENS, look_at, sample_means
from dpn_platform.storage import write_bytes

WORDS = 8


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Four rows, three with a picture; each asks WORDS words and is answered with one."""
    folder = tmp_path_factory.mktemp("set")
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12)).save(buffer, "JPEG")
    write_bytes(folder / "raw/x.jpg", buffer.getvalue())
    rows = []
    for number in range(4):
        lead, picture = ("<image>\n", {"image": "x.jpg"}) if number else ("", {})
        turns = [{"from": "human", "value": lead + "what " * WORDS}, {"from": "gpt", "value": "yes"}]
        record = {"id": f"r{number}", "conversations": turns} | picture
        rows.append(SourceRow(number, json.dumps(record).encode()))
    options = BuildOptions((str(folder / "raw"),))
    built = build_shard(Slice(str(folder / "out"), "train", 0, 0, tuple(rows), options=options))
    split = Split(rows=4, images=3, text_only=1, sources=built["sources"], shards=(Shard(**built["shard"]),))
    content = {"schema_version": SCHEMA_VERSION, "name": "tiny", "source": "memory", "splits": {"train": split}}
    fingerprint = fingerprint_of({"train": split})
    publish_manifest(str(folder / "out"), Manifest(**content, quarantine=Quarantine(), fingerprint=fingerprint))
    return str(folder / "out")


def experiment(uri, **sections):
    return parse_config({"name": "x", "data": {"uri": uri}, "model": {"base": "tiny"}, **sections})


def test_rows_and_pictures_come_from_the_manifest(published):
    facts, _ = look_at(experiment(published))
    assert json.loads(json.dumps(facts.__dict__)) == {
        "uri": published, "rows": 4, "eval_rows": None, "images": 3, "missing": None
    }  # fmt: skip


def test_tokens_are_those_training_encodes(published):
    """BOS, "USER:", the words, "ASSISTANT:", answer and EOS; the dense model's questions have no routing token."""
    means = {}
    for method in ("dense", "dpn"):
        config = experiment(published, method={"name": method})
        means[method], source = sample_means(config, *look_at(config), None)
        assert source.startswith("mean of")
    assert means["dpn"].text_tokens - means["dense"].text_tokens == pytest.approx(3 / 4)
    assert means["dense"].supervised_tokens == 2
    assert means["dense"].images_per_sample == 3 / 4
    assert WORDS < means["dense"].text_tokens < WORDS + 8


def test_the_users_figure_and_the_assumption(published):
    config = experiment(published, model={"base": "llava-1.5-7b"})
    given, _ = sample_means(config, *look_at(config), 33)
    assert given == SampleMeans(33, 33, 3 / 4)
    assumed, source = sample_means(config, *look_at(config), None)
    assert (assumed.text_tokens, source) == (ASSUMED_TEXT_TOKENS, "assumed; set it with --text-tokens")


def test_a_sweep_needs_the_split_it_evaluates_on(published):
    with pytest.raises(DpnError, match="data set tiny has no split 'test'; it has: train"):
        look_at(experiment(published, sweep={}))
