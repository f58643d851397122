"""The stateful worker of an evaluation: loads a checkpoint once, answers batches of rows, notes cost and route."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from dpn_model.cost.flops import MAC_CONVENTIONS
from dpn_model.not_finite import NotFiniteError
from dpn_model.processing import picture_inputs
from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.schema import row_images
from dpn_platform.data.reading.collate import decode_image
from dpn_platform.evaluation.answering.loading import load_ours, local_folder
from dpn_platform.evaluation.answering.packed_model import sample_costs
from dpn_platform.evaluation.image_statistics import IMAGE_COLUMNS, image_statistics
from dpn_platform.evaluation.predictor_actor import PredictorSettings
from dpn_platform.evaluation.scoring import is_correct

PREDICTION_SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("id", pa.string()),
        ("family", pa.string()),
        ("difficulty", pa.string()),
        ("has_image", pa.bool_()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("has_router", pa.bool_()),  # whether the model chose the route itself
        ("route", pa.string()),  # one choice per site, joined by commas; empty for a model without sites
        ("sites", pa.list_(pa.int32())),  # 1-based layers after which a reduction ran
        ("visual_tokens", pa.list_(pa.int32())),  # before the first site and after each
        ("visual_tokens_mean", pa.float64()),  # over the layers
        ("text_tokens", pa.int32()),
        ("image_sha", pa.string()),  # tells which questions share a picture
        *IMAGE_COLUMNS,
        *((f"{convention}_{kind}", pa.int64()) for convention in MAC_CONVENTIONS for kind in ("macs", "dense")),
    ]
)


class Predictor:
    """Callable for `map_batches`: a table of data set rows to a table of predictions, in the order of the rows."""

    def __init__(self, settings: PredictorSettings) -> None:
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        self.settings = settings
        self.device = torch.device("cuda" if settings.use_gpu else "cpu")
        with local_folder(settings.checkpoint_uri) as folder:
            model, self.processor = load_ours(folder)
        self.model = model.to(self.device).eval()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer every row's first question."""
        rows = table.to_pylist()
        # Neighbours of similar length share a forward pass: right-padded ids stay short, and they finish together.
        by_length = sorted(range(len(rows)), key=lambda place: (rows[place]["has_image"], rows[place]["text_length"]))
        predictions: list[dict[str, Any]] = [{}] * len(rows)
        for start in range(0, len(by_length), self.settings.batch_size):
            places = by_length[start : start + self.settings.batch_size]
            for place, prediction in zip(places, self._answer([rows[place] for place in places]), strict=True):
                predictions[place] = prediction
        return pa.Table.from_pylist(predictions, schema=PREDICTION_SCHEMA)

    def _answer(self, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        turns = [_first_turn(row["conversations"]) for row in rows]
        images = [_images(row) for row in rows]
        samples = [
            self.processor.encode_prompt(question, shown, router=self.model.needs_router_token)
            for shown, (question, _) in zip(images, turns, strict=True)
        ]
        batch = self.processor.collate(samples)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        assert ids is not None
        assert mask is not None
        try:
            generated = self.model.generate(
                ids.to(self.device),
                mask.to(self.device),
                **picture_inputs(batch, self.device, self.model.lm_head.weight.dtype),
                max_new_tokens=self.settings.max_new_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=self.processor.end_ids,
                pad_token_id=self.processor.pad_id,
            )
        except NotFiniteError as error:
            raise DpnError(str(error.named([row["row_id"] for row in rows]))) from error
        new_ids = generated[:, ids.shape[1] :].tolist()
        routing = self.model.last_routing
        assert routing is not None
        costs = sample_costs(self.model, routing)
        for number, (row, (question, gold)) in enumerate(zip(rows, turns, strict=True)):
            answer = self.processor.decode(new_ids[number])
            yield {
                **{name: row[name] for name in ("row_id", "id", "difficulty", "has_image")},
                "family": row["source"],
                "question": question.replace("<image>", "").strip(),
                "gold": gold,
                "answer": answer,
                "correct": is_correct(answer, gold),
                "image_sha": hashlib.sha256(b"".join(row_images(row))).hexdigest()[:16] if row["has_image"] else None,
                **image_statistics(images[number][0] if images[number] else None),
                **costs[number],
            }


def _first_turn(conversations: str) -> tuple[str, str]:
    ask, reply = json.loads(conversations)[:2]
    return ask["value"], reply["value"]


def _images(row: dict[str, Any]) -> list[Image.Image]:
    return [decode_image(data) for data in row_images(row)]
