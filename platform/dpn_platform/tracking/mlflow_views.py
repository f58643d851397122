"""How MLflow's UI keeps a view that is shared by its address: a tag of the experiment, in the UI's own words.

Read from the UI of MLflow 3.17, which documents none of it. What another UI does not know it leaves out; the runs
are there all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dpn_platform.tracking.records import View
from dpn_platform.tracking.tracker import NOTE_TAG

_VIEW_TAG = "mlflow.sharedViewState."
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
_MOST_LINKS = 30
_CHART_HEIGHT = 460  # pixels


def view_address(experiment_url: str, key: str) -> str:
    """Where the UI shows a view: as charts, and not in the rooms it has for chat programs."""
    return f"{experiment_url}/runs?viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"


def tags_of_experiment(view: View, present: Mapping[str, str], experiment_id: str, now_ms: int) -> dict[str, str]:
    """The tags to set for a view to be there, and to be found by who opens the experiment; those that differ.

    Args:
        view: to be kept.
        present: the experiment's tags. A description that somebody else wrote stays as it is.
        experiment_id: of the experiment.
        now_ms: time of the view, if it is new.
    """
    key = _VIEW_TAG + view.key
    created = _envelope(present.get(key)).get("createdAt", now_ms)
    kept = {"name": view.title, "createdAt": created, "updatedAt": created, "state": json.dumps(_state(view))}
    wanted = {key: json.dumps(kept)}
    if present.get(NOTE_TAG, "") in ("", _note(present, experiment_id)):
        wanted[NOTE_TAG] = _note({**present, **wanted}, experiment_id)
    if _KIND_TAG not in present:
        wanted[_KIND_TAG] = _KIND
    return {name: value for name, value in wanted.items() if present.get(name) != value}


def _note(tags: Mapping[str, str], experiment_id: str) -> str:
    """Links to the views, the newest first."""
    views = [(name.removeprefix(_VIEW_TAG), _envelope(tags[name])) for name in tags if name.startswith(_VIEW_TAG)]
    ours = [(key, view) for key, view in views if view]
    newest = sorted(ours, key=lambda one: (-int(one[1]["createdAt"]), one[0]))[:_MOST_LINKS]
    links = (f"[{view['name']}]({view_address(f'#/experiments/{experiment_id}', key)})" for key, view in newest)
    return " · ".join(links)


def _envelope(value: str | None) -> dict[str, Any]:
    """A named view as the UI keeps it; empty for anything else."""
    try:
        document = json.loads(value or "")
    except ValueError:
        return {}
    return document if isinstance(document, dict) and {"name", "createdAt", "state"} <= set(document) else {}


def _state(view: View) -> dict[str, Any]:
    section = "dpn"
    chart = {
        "uuid": "dpn-scatter",
        "type": "SCATTER",
        "metricSectionId": section,
        "xaxis": {"key": view.across, "type": "METRIC"},
        "yaxis": {"key": view.up, "type": "METRIC"},
        "runsCountToCompare": 500,
        "deleted": False,
        "isGenerated": False,
    }
    room = {
        "uuid": section,
        "name": view.title,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": 1,
        "cardHeight": _CHART_HEIGHT,
    }
    name, value = view.tag
    return {
        "searchFilter": f"tags.`{name}` = '{value}'",
        "orderByKey": f"metrics.`{view.across}`",
        "orderByAsc": True,
        "selectedColumns": [*(f"metrics.`{key}`" for key in view.metrics), *(f"tags.`{key}`" for key in view.tags)],
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "compareRunSections": [room],
        "compareRunCharts": [chart],
    }
