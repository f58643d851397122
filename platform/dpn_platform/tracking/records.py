"""What a tracker is told besides numbers and files: data, versions of a registered model, a view of a study's runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataInput:
    """One split of a published data set, as a run used it.

    Attributes:
        name: of data set and split; with the digest it names the data.
        digest: fingerprint of the data set.
        uri: where it lies.
        rows: samples of the split.
    """

    name: str
    digest: str
    uri: str
    rows: int
    context: Literal["training", "evaluation"]


@dataclass(frozen=True)
class Version:
    """A model as a version of a registered one.

    Attributes:
        name: by which it is found again: the same name is never a second version.
        model_id: as `Tracker.log_model` returned it.
        description: for people; may be markdown.
        tags: for machines.
    """

    name: str
    model_id: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """A look at some runs of the experiment: a table of them, and where it says so one metric drawn against another.

    Attributes:
        key: the same key is the same view.
        title: what people see.
        tag: name and value that a run has to have.
        metrics: columns of the table, which is sorted by the first.
        tags: more columns.
        is_ascending: whether the smallest value of the first metric comes first.
        across, up: metrics on the two axes; None: nothing is drawn.
    """

    key: str
    title: str
    tag: tuple[str, str]
    metrics: tuple[str, ...]
    tags: tuple[str, ...] = ()
    is_ascending: bool = True
    across: str | None = None
    up: str | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether it has a chart."""
        return self.across is not None and self.up is not None
