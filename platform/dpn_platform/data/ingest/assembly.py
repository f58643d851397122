"""From the slices' results to the manifest: sums, the quarantine table, and whether the set is fit to be published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.shards import BuildOptions, quarantine_lines
from dpn_platform.data.ingest.tokens import ESTIMATE, TEMPLATE
from dpn_platform.data.published.manifest import (
    Annotations,
    Manifest,
    Quarantine,
    Shard,
    Split,
    Tokens,
    fingerprint_of,
    sum_counts,
)
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import join_uri, write_bytes

#: of the kinds of a refused set, and of each one's first row, what the message shows
_SHOWN_KINDS, _SHOWN_CHARACTERS = 3, 300

Results = Sequence[dict[str, Any]]
Files = dict[str, tuple[Annotations, ...]]


@dataclass(frozen=True)
class Origin:
    """What the manifest says of where a set comes from.

    Attributes:
        name: of the data set.
        source: of the raw set.
        recipe: how the raw set was made, if that is known.
        files: the annotation files of every split.
        tokenizer: folder of the tokenizer that counted, None for an estimate.
    """

    name: str
    source: str
    recipe: dict[str, Any] | None
    files: Files
    tokenizer: str | None


def assemble(results: Results, target_uri: str, origin: Origin, build: BuildOptions) -> Manifest:
    """The manifest of these slices, whatever the order in which they came; writes the quarantine table.

    Raises:
        DpnError: the table could not be written.
    """
    ordered = sorted(results, key=lambda result: (result["split"], result["index"]))
    splits = {
        split: _split([result for result in ordered if result["split"] == split], files)
        for split, files in sorted(origin.files.items())
    }
    rejected = [row for result in ordered for row in result["rejected"]]
    quarantine = Quarantine()
    if rejected:
        data = quarantine_lines(rejected)
        path = f"quarantine/{hashlib.sha256(data).hexdigest()[:16]}.jsonl"
        write_bytes(join_uri(target_uri, path), data)
        reasons = sum_counts({row["reason"]: 1} for row in rejected)
        quarantine = Quarantine(rows=len(rejected), reasons=reasons, path=path)
    rule = f"tokenizer {origin.tokenizer}, template {TEMPLATE}" if origin.tokenizer else ESTIMATE
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=origin.name,
        source=origin.source,
        recipe=origin.recipe,
        splits=splits,
        quarantine=quarantine,
        policy=dict(build.policy.overrides),
        tokens=Tokens(rule=rule, tokenizer=build.tokenizer, visual_tokens_per_image=build.visual_tokens),
        fingerprint=fingerprint_of(splits),
    )


def check_quarantined(manifest: Manifest, results: Results, target_uri: str, limit: float) -> None:
    """Refuses a set of which too much was refused: the source is more likely to be wrong than the rows.

    Args:
        manifest: of the set, not yet published.
        results: of its slices.
        target_uri: where its quarantine table lies.
        limit: fraction of them that may be quarantined.

    Raises:
        DpnError: more rows were, or nothing is left; the message counts them by reason, shows the first row of the most
            frequent ones, and names the table.
    """
    quarantine, total = manifest.quarantine, sum(result["num_rows"] for result in results)
    is_empty = quarantine.rows == total
    if quarantine.path is None or (quarantine.rows <= limit * total and not is_empty):
        return
    ranked = sorted(quarantine.reasons.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{kind} {rows}" for kind, rows in ranked)
    shown = "; ".join(_first_of(kind, results) for kind, _ in ranked[:_SHOWN_KINDS])
    allowed, advice = f"--max-quarantined allows {limit:.2%}", "; run again with a higher one to leave them out"
    if is_empty:
        allowed, advice = "no row is left", ""
    raise DpnError(
        f"{quarantine.rows} of {total} rows ({quarantine.rows / total:.2%}) quarantined, {allowed}; nothing was "
        f"published. By kind: {reasons}. {shown}. `dpn data quarantine {join_uri(target_uri, quarantine.path)}` shows "
        f"the rows{advice}"
    )


def _first_of(kind: str, results: Results) -> str:
    """The first row refused for this kind, in words: what was found, and what is wanted."""
    rows = [row for result in results for row in result["rejected"] if row["reason"] == kind]
    first = min(rows, key=lambda row: (row["split"], row["source_row"]))
    return f"{kind}, as in record {first['source_row']} of {first['split']}: {first['detail'][:_SHOWN_CHARACTERS]}"


def _split(results: Results, files: tuple[Annotations, ...]) -> Split:
    shards = tuple(Shard(**result["shard"]) for result in results if result["shard"])
    counts = sum_counts(result["counts"] for result in results)
    rows = sum(shard.rows for shard in shards)
    return Split(
        rows=rows,
        images=counts["has_image"],
        text_only=rows - counts["has_image"],
        objects=counts["objects"],
        sources=sum_counts(result["sources"] for result in results),
        unknown=sum_counts(result["unknown"] for result in results),
        repairs=sum_counts(result["repairs"] for result in results),
        kept=sum_counts(result["kept"] for result in results),
        prompt_tokens=counts["prompt_tokens"],
        answer_tokens=counts["answer_tokens"],
        expected_cost=counts["expected_cost"],
        annotations=files,
        shards=shards,
    )
