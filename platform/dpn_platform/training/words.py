"""The words of a run's data set: those its base does not know, and the vocabulary of a base made for them."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.ingest.unknown_words import count_unknown_of_split, words_of_split
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.storage import exists, join_uri
from dpn_platform.training.base_folder import TINY, find_folder
from dpn_platform.training.tiny_words import TINY_WORDS


def training_words(config: ExperimentConfig) -> Sequence[str]:
    """The vocabulary of `model.base: tiny`: the words of the training split, the same on all ranks and after a restart.

    A set that uses only words of `TINY_WORDS` gets them all: a base must not depend on how many rows were drawn.

    Raises:
        DpnError: no such data set or split, or a shard cannot be read.
    """
    if config.model.base != TINY:
        return TINY_WORDS
    words = words_of_split(load_manifest(config.data.uri), config.data.train_split)
    return TINY_WORDS if set(words) <= set(TINY_WORDS) else words


def check_words(config: ExperimentConfig, manifest: Manifest) -> str | None:
    """Looks for words of the training split that the base's tokenizer does not know.

    Returns:
        A line about them; None when every word is known, or the base has no tokenizer.json.

    Raises:
        DpnError: answers hold such words: `<unk>` would be taught in their place. `data.allow_unknown_answers` lets
            them pass.
    """
    base, split = config.model.base, config.data.train_split
    uri = join_uri(base if "://" in base else str(find_folder(base)), "tokenizer.json")
    if base == TINY or not exists(uri):
        return None
    found = count_unknown_of_split(manifest, split, uri)
    if found is None or found.is_empty:
        return None
    told = f"{manifest.root}, split '{split}': to model.base {base}, {found.told()}"
    if found.unknown_answers and not config.data.allow_unknown_answers:
        raise DpnError(
            f"{told}. Such an answer would be taught as <unk>; model.base=tiny makes a vocabulary of the data, a base "
            "whose tokenizer falls back to bytes knows every word, data.allow_unknown_answers=true trains all the same"
        )
    return told
