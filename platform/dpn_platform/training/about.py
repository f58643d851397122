"""`about.md` of a run's folder: what lies there, how to go on with the run, how to use what it made."""

from __future__ import annotations

from dpn_platform.config.schema import ExperimentConfig

ABOUT = "about.md"

#: everything a run's folder may hold, in the order of its life
CONTENTS = {
    "config.yaml": "the resolved configuration",
    "provenance.json": "fingerprints, seed, versions of code and packages, the command",
    "batches.json": "rows, steps and epochs that were planned, rows left out, how pictures are decoded",
    "metrics.jsonl": "one line per log step: losses, rates, speed, routers",
    "step_*/": "checkpoints: engine state, data position; numbers are steps",
    "checkpoint_manager_snapshot.json": "Ray Train's list of complete checkpoints",
    ".validate_storage_marker": "Ray Train's proof that every node reaches this folder",
    "export/": "the trained model and its processor, a from_pretrained folder",
    "first_answers.npy": "of a dense control beside rungs: log-probabilities of held-out rows' first answers",
    "routing.json": "per site over time: share of each expert, entropy of the router, tokens kept",
    "evaluation/": "predictions, scores and cost of a sweep's trial",
    "outcome.json": "how the run ended; written last",
}

_TEXT = """# Run {name}

Method `{method}` on `{base}`, {steps} steps, data set `{data}`. Everything of the run is in this folder:

{contents}

A run is its name: while `outcome.json` is missing it can be continued, on any machine that reaches this storage, from
its latest checkpoint.

    {resume}

Once `export/` is there:

    dpn evaluate {uri}/export --config config.yaml

```python
from dpn_model import DpnForConditionalGeneration
from dpn_model.processing import DpnProcessor
from dpn_platform.storage import download_folder

download_folder("{uri}/export", "{name}")
model = DpnForConditionalGeneration.from_pretrained("{name}")
processor = DpnProcessor.from_pretrained("{name}")
```
"""


def about_run(run_uri: str, config: ExperimentConfig) -> str:
    """The text for the run at `run_uri`."""
    name = run_uri.rpartition("/")[2]
    resume = f"dpn train config.yaml --name {name}     # config.yaml: this folder's"
    if config.sweep is not None:
        resume = "dpn sweep CONFIG --name STUDY --resume     # a trial continues with its study"
    return _TEXT.format(
        name=name,
        method=config.method.name,
        base=config.model.base,
        steps=config.train.steps,
        data=config.data.uri,
        contents="\n".join(f"- `{path}`: {what}" for path, what in CONTENTS.items()),
        resume=resume,
        uri=run_uri,
    )
