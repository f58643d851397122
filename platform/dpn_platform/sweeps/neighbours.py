"""What other studies in storage have found out that this one may learn from."""

from __future__ import annotations

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import difference
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.storage import list_files
from dpn_platform.sweeps.header import HOW_IT_IS_RUN, is_among
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.proposals import Known, by_proposal, values_of

#: what studies may differ in and still be comparable, trial by trial
_MAY_DIFFER = (*HOW_IT_IS_RUN, "name", "storage", "tracking", "sweep")


def comparable_proposals(ledger: Ledger, config: ExperimentConfig, data_fingerprint: str) -> list[Known]:
    """Proposals, with what they came to, of studies of the same data, recipe, base and questions.

    A study that cannot be read, damaged or of another version, teaches nothing.
    """
    found: list[Known] = []
    for uri in list_files(f"{ledger.runs_uri}/studies", ".json", recursive=False):
        other = Ledger(ledger.runs_uri, uri.rpartition("/")[2].removesuffix(".json"))
        if other.study == ledger.study:
            continue
        try:
            header = other.header()
            if header.data_fingerprint != data_fingerprint:  # at the same address there may have been other data
                continue
            if any(not is_among(line, _MAY_DIFFER) for line in difference(other.config(header), config)):
                continue
            groups = by_proposal(other.trials().values())
        except DpnError:
            continue
        found += [(members[0].params, values_of(members)) for members in groups.values()]
    return found
