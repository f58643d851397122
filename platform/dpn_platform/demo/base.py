"""Making the shipped bases again: data, training, evaluation, card. Behind `make base`, `make chatrex-base`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.demo.card import write_card
from dpn_platform.demo.detection.base import ensure_taught_chatrex
from dpn_platform.demo.prepare import ensure_demo
from dpn_platform.demo.recipe import DEMO_RAW_URI, DemoKind, DemoRecipe, detection_recipe
from dpn_platform.demo.tower import ensure_tower_base
from dpn_platform.evaluation.run import evaluate
from dpn_platform.storage import download_folder, join_uri, read_json
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run import run_training

#: by kind of set, what the base is trained on; the demos' own sets are drawn from other seeds, so that trials see new
#: pictures
BASE_RECIPES: dict[DemoKind, DemoRecipe] = {
    "demo": DemoRecipe(num_train=24_000, num_test=2_000, seed=100, captions=True),
    "detection": detection_recipe(num_train=16_000, num_test=1_000, seed=100),
}
#: what makes the model that training starts from: a tower that sees, or also a decoder that retrieves
_LESSONS: dict[DemoKind, Callable[[str, Callable[[str], None]], None]] = {
    "demo": ensure_tower_base,
    "detection": ensure_taught_chatrex,
}


def make_base(
    config: ExperimentConfig, folder: str, run_name: str, note: Callable[[str], None], kind: DemoKind = "demo"
) -> float:
    """Teach, then train by the recipe, and write the from_pretrained folder with its card. Ray must be initialised.

    Args:
        config: the recipe; `model.base` is where the model with a trained tower goes, or is.
        folder: where the base goes; what is there is replaced only once everything has succeeded.
        run_name: identity of the training run: the same name continues.
        note: called with a line for people now and then.
        kind: of the set, and so of the base.

    Returns:
        Accuracy on the held-out split.

    Raises:
        DpnError: the data set cannot be made, or the run failed.
    """
    note("data: drawing and ingesting what is not there yet")
    manifest = ensure_demo(BASE_RECIPES[kind], uri=config.data.uri, raw_uri=DEMO_RAW_URI)
    _LESSONS[kind](config.model.base, note)
    note(f"training: {config.train.steps} steps")
    outcome = run_training(
        config,
        run_name=run_name,
        on_report=lambda line: note(f"step {line['step']:.0f}  loss {line['train/loss_lm']:.3f}"),
    )
    result = evaluate(outcome.export_uri, config)
    Path(folder).mkdir(parents=True, exist_ok=True)
    download_folder(outcome.export_uri, folder)
    write_card(
        folder,
        kind,
        config=config,
        result=result,
        metrics=read_metrics(outcome.run_uri),
        data_fingerprint=manifest.fingerprint,
        provenance=read_json(join_uri(outcome.run_uri, "provenance.json")),
    )
    return result.accuracy
