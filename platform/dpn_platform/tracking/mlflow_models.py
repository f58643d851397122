"""MlflowModels: checkpoints as models of their runs, and as versions of registered models, as plain MLflow requests."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.models.utils import get_external_mlflow_model_spec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.mlflow_runs import MlflowRuns, valid_key
from dpn_platform.tracking.mlflow_views import quoted
from dpn_platform.tracking.records import Version
from dpn_platform.tracking.tracker import CURRENT_TAG, VERSION_TAG, no_such_version

log = logging.getLogger(__name__)

_MODEL_NAME_CHARACTERS = re.compile(r"[/:.%\"']")
_EXPERIMENT_TAG = "dpn.experiment"


class MlflowModels(MlflowRuns):
    """The models of one experiment, beside its runs."""

    def log_model(
        self,
        run_id: str,
        name: str,
        uri: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        timestamp: int,
        step: int = 0,
    ) -> str:
        """Register the checkpoint at `uri` as an external model of the run; an older one of this name is returned.

        The steps are those of `mlflow.create_external_model`, which works on the global tracking address only. The
        model becomes READY last, so one that was interrupted is found and finished.
        """
        model = self._find_model(run_id, model_name(name))
        if model is not None and str(model.status) == "READY":
            return str(model.model_id)
        if model is None:
            model = self.client.create_logged_model(
                self.experiment_id,
                model_name(name),
                run_id,
                tags={MLFLOW_MODEL_IS_EXTERNAL: "true", "dpn.uri": uri},
                params={**params, "uri": uri},
                model_type="checkpoint",
            )
        with tempfile.TemporaryDirectory() as folder:
            get_external_mlflow_model_spec(model).save(str(Path(folder) / MLMODEL_FILE_NAME))
            self.client.log_model_artifacts(model.model_id, folder)
        entities = [
            Metric(valid_key(key), float(value), timestamp, step, model_id=model.model_id)
            for key, value in metrics.items()
        ]
        if entities:
            self.client.log_batch(run_id, metrics=entities)
        self._log_outputs(run_id, [model.model_id], step)
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def find_model(self, run_id: str, name: str) -> str | None:
        """Id of the model of this name that the run has logged."""
        model = self._find_model(run_id, model_name(name))
        return None if model is None else str(model.model_id)

    def _find_model(self, run_id: str, name: str) -> Any | None:
        filter_string = f"source_run_id = '{quoted(run_id)}' AND name = '{quoted(name)}'"
        models = self.client.search_logged_models([self.experiment_id], filter_string, max_results=1)
        return models[0] if models else None

    def _log_outputs(self, run_id: str, model_ids: Sequence[str], step: int = 0) -> None:
        """Those that the run has not yet: MLflow refuses the second of two that are alike."""
        outputs = self.client.get_run(run_id).outputs
        known = {one.model_id for one in (outputs.model_outputs if outputs else [])}
        new = [LoggedModelOutput(model_id, step=step) for model_id in model_ids if model_id not in known]
        if new:
            self.client.log_outputs(run_id, new)

    def register_models(
        self,
        run_id: str,
        name: str,
        versions: Sequence[Mapping[str, Any]],
        description: str,
        aliases: Mapping[str, str | None],
    ) -> None:
        """See `Tracker.register_models`; `versions` have the fields of `records.Version`."""
        wanted = {version["name"]: Version(**version) for version in versions}
        self._log_outputs(run_id, list(dict.fromkeys(one.model_id for one in wanted.values())))
        if (registered := self._registered(name)) is None:
            registered = self.client.create_registered_model(name, {_EXPERIMENT_TAG: self.experiment}, description)
        elif registered.tags.get(_EXPERIMENT_TAG) != self.experiment:
            text = (
                "MLflow: the registered model '%s' is another experiment's and stays as it is, nothing of '%s' is in it"
            )
            log.warning(text, name, self.experiment)
            return
        elif registered.description != description:
            self.client.update_registered_model(name, description)
        known = self._versions(name)
        for version in wanted.values():
            known[version.name] = self._keep_version(name, version, known.get(version.name))
        for left in known.keys() - wanted.keys():
            self._renew_tags(name, known[left], {CURRENT_TAG: "false"})
        for alias, chosen in aliases.items():
            self._point(registered, known, alias, chosen)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Tracker.set_alias`."""
        registered = self._registered(name)
        if registered is None or registered.tags.get(_EXPERIMENT_TAG) != self.experiment:
            raise DpnError(f"no registered model '{name}' in experiment '{self.experiment}'")
        self._point(registered, self._versions(name), alias, version)

    def _registered(self, name: str) -> Any | None:
        try:
            return self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _versions(self, name: str) -> dict[str, Any]:
        """The versions by name; somebody else's, without one, are left out."""
        found = self.client.search_model_versions(f"name = '{quoted(name)}'")
        return {version.tags[VERSION_TAG]: version for version in found if VERSION_TAG in version.tags}

    def _keep_version(self, name: str, version: Version, known: Any | None) -> Any:
        tags = {**version.tags, VERSION_TAG: version.name, CURRENT_TAG: "true"}
        if known is None:
            source = f"models:/{version.model_id}"
            return self.client.create_model_version(
                name,
                source,
                tags=tags,
                description=version.description,
                await_creation_for=0,
                model_id=version.model_id,
            )
        self._renew_tags(name, known, tags)
        if known.description != version.description:
            self.client.update_model_version(name, known.version, version.description)
        return known

    def _renew_tags(self, name: str, version: Any, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if version.tags.get(key) != value:
                self.client.set_model_version_tag(name, version.version, key, value)

    def _point(self, registered: Any, known: Mapping[str, Any], alias: str, chosen: str | None) -> None:
        """Lets an alias stand for a version, if it does not yet."""
        present = registered.aliases.get(alias)
        if chosen is None:
            if present is not None:
                self.client.delete_registered_model_alias(registered.name, alias)
            return
        if chosen not in known:
            raise no_such_version(registered.name, chosen, known)
        if present is None or str(present) != str(known[chosen].version):
            self.client.set_registered_model_alias(registered.name, alias, str(known[chosen].version))


def model_name(name: str) -> str:
    """A name that MLflow takes for a model."""
    return _MODEL_NAME_CHARACTERS.sub("-", name)
