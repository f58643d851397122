"""Teaching the tiny ChatRex's decoder to answer by numbers of boxes, on rows that the object lesson has made.

A decoder of this size finds retrieval in changes of phase, not on a slope, and everything at once from noise it never
finds (spec chatrex 9). What works is an order: first a list, in which every box is named by its number and
the answer follows at once (the nearest there is to copying), then questions about one box, then all boxes of all kinds,
then the set's own questions. Pictures stay as they are, so their boxes' rows are made once; visual tokens come in with
the training that follows.

Shape letters: T packed rows, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.decoder import run_decoder
from dpn_model.methods.contract import Parts
from dpn_model.objects.answers import write_group
from dpn_model.packed_ids import pack_ids
from dpn_model.packing import PackedSequence, TokenKind, contiguous_positions
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.special_texts import MAX_OBJECTS, OBJECT_TEXT, OBJECT_TOKENS
from dpn_platform.demo.detection.object_lesson import Drawn, draw, project
from dpn_platform.demo.detection.questions import FAMILIES, absent, boxes_of, content_of
from dpn_platform.demo.detection.scenes import Proposals

SEED, PICTURES, HELD_OUT, BATCH, LR = 12, 2048, 256, 64, 2e-3
#: text, and whether the decoder is to learn saying it
Piece = tuple[str, bool]
#: boxes that one sequence of the family "names" asks about
_NAMED = 9


@dataclass(frozen=True)
class Stage:
    """What is asked until the gate is passed.

    Attributes:
        mix: family -> how often.
        gate: family whose questions on other pictures decide.
        wanted: share of its tokens that count (words of names, numbers of boxes) which must be right.
        most: steps after which it goes on in any case.
    """

    name: str
    mix: dict[str, int]
    gate: str
    wanted: float
    most: int


STAGES = (
    Stage("list", {"list": 1}, "list", 0.88, 500),
    Stage("names", {"list": 1, "names": 3}, "names", 0.88, 800),
    Stage("all of a kind", {"list": 1, "names": 1, "all": 3}, "all", 0.7, 1200),
    Stage("as asked", {"names": 1, "name": 1, "all": 2, "detect": 3, "refer": 2, "count": 2}, "detect", 0.95, 1000),
)


@dataclass(frozen=True)
class Taught:
    """A scene with the rows of its boxes.

    Attributes:
        boxes_ND: float[N, D], proposals as they were drawn.
    """

    drawn: Drawn
    boxes_ND: Tensor


def teach_retrieval(
    model: DpnForConditionalGeneration,
    processor: ObjectProcessor,
    note: Callable[[str], None],
    stages: Sequence[Stage] = STAGES,
    pictures: int = PICTURES,
) -> dict[str, float]:
    """Train the decoder in place; towers and projectors stay as they are.

    Args:
        model: with towers and projectors that were taught.
        processor: of the model.
        note: called with a line for people now and then.
        stages: in this order.
        pictures: whose rows are made, beside those held out.

    Returns:
        By family of the last stage, the share of held-out tokens that count which are right.
    """
    taught = _taught(model, processor, pictures + HELD_OUT)
    train, held_out = taught[:pictures], taught[pictures:]
    decoder = model.model.language_model.train()
    optimiser = torch.optim.AdamW(decoder.parameters(), LR, betas=(0.9, 0.98), weight_decay=0.01)
    step = 0
    for stage in stages:
        families = [family for family, count in stage.mix.items() for _ in range(count)]
        for number in range(stage.most):
            rng = np.random.default_rng((SEED, step))
            asked = [families[int(one)] for one in rng.integers(0, len(families), BATCH)]
            chosen = [train[int(one)] for one in rng.integers(0, len(train), BATCH)]
            loss = _run(model, processor, chosen, asked, rng).losses_R.mean()
            # Warm-up once; the last stage ends on a falling rate.
            falls = 1 - number / stage.most if stage is stages[-1] else 1.0
            for group in optimiser.param_groups:
                group["lr"] = LR * min(1.0, (step + 1) / 50) * min(1.0, 2 * falls)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            if step % 50 == 0:
                right = measured(model, processor, held_out, stage.gate)
                note(f"retrieval lesson: {stage.name}, step {step}, loss {loss.item():.3f}, {stage.gate} {right:.1%}")
                if right >= stage.wanted and stage is not stages[-1]:
                    break
    decoder.eval()
    return {family: measured(model, processor, held_out, family) for family in stages[-1].mix}


def measured(
    model: DpnForConditionalGeneration, processor: ObjectProcessor, held_out: Sequence[Taught], family: str
) -> float:
    """Share of right ones among the tokens that count: numbers of boxes where answers have them, else words.

    The tokens that only give an answer its form would flatter it: of all tokens 84% were right where no box was.
    """
    rng = np.random.default_rng(SEED)
    with torch.no_grad():
        ran = _run(model, processor, held_out, [family] * len(held_out), rng)
    first = int(processor.tokenizer.convert_tokens_to_ids(OBJECT_TOKENS[0]))
    names = (ran.targets_R >= first) & (ran.targets_R < first + MAX_OBJECTS)
    counts = names if bool(names.any()) else ran.targets_R != processor.end_ids[0]
    return float((ran.logits_RC.argmax(dim=1) == ran.targets_R)[counts].float().mean())


@dataclass(frozen=True)
class _Ran:
    losses_R: Tensor
    logits_RC: Tensor
    targets_R: Tensor


def _run(
    model: DpnForConditionalGeneration,
    processor: ObjectProcessor,
    chosen: Sequence[Taught],
    families: Sequence[str],
    rng: np.random.Generator,
) -> _Ran:
    """One packed pass of the decoder over questions about scenes, boxes in an order of their own, without pictures."""
    ids, labels, rows = [], [], []
    for one, family in zip(chosen, families, strict=True):
        proposals = one.drawn.proposals
        order = rng.permutation(len(proposals.boxes))
        shuffled = Proposals(proposals.boxes[order], proposals.scores[order], proposals.objects[order])
        text, told = _encoded(processor, len(order), _pieces(one.drawn, shuffled, family, rng))
        ids.append(text)
        labels.append(told)
        rows.append(one.boxes_ND[order])
    width = max(map(len, ids))
    padded = torch.zeros(len(ids), width, dtype=torch.long)
    mask, targets = torch.zeros_like(padded), torch.full_like(padded, -100)
    for row, (text, told) in enumerate(zip(ids, labels, strict=True)):
        padded[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
        targets[row, : len(told)] = torch.tensor(told)
    packed = pack_ids(
        padded,
        mask,
        device=padded.device,
        image_token_id=model.image_token_id,
        router_token_id=None,
        pictures=(),
        positions=lambda lengths, _: contiguous_positions(lengths),
        object_token_id=model.object_token_id,
    )
    hidden_TD = model.model.get_input_embeddings()(packed.ids_T)
    hidden_TD = hidden_TD.masked_scatter((packed.kind_T == TokenKind.OBJECT)[:, None], torch.cat(rows))
    index_T = torch.arange(len(hidden_TD))
    state = PackedSequence(
        hidden_TD, packed.kind_T, index_T, packed.position_ids_T, packed.lengths, (), packed.router_rows_R
    )
    labels_T = targets.flatten()[packed.place_T]
    final = run_decoder(model.model.language_model, state, Parts()).final
    losses_R, _, logits_RC = model.token_losses(final, labels_T)
    behind_T = torch.cat([labels_T[1:], labels_T.new_full((1,), -100)])
    behind_T[torch.tensor(packed.lengths).cumsum(0) - 1] = -100
    return _Ran(losses_R, logits_RC, behind_T[behind_T != -100])


def _pieces(drawn: Drawn, proposals: Proposals, family: str, rng: np.random.Generator) -> list[Piece]:
    """What follows the rows of the objects; every box that a turn names is named in an order of its own."""
    scene = drawn.scene
    boxes = [int(box) for box in rng.permutation(len(proposals.boxes))]
    if family == "list":
        pieces: list[Piece] = [("list ASSISTANT:", False)]
        for box in boxes:
            pieces += [(f"<obj{box}>", False), (content_of(scene, proposals, box), True)]
        return pieces
    if family == "names":
        turns = [(f"what is <obj{box}>", content_of(scene, proposals, box)) for box in boxes[:_NAMED]]
    elif family == "all":
        here = sorted(set(scene.categories()))
        kinds = here + sorted({absent(here, rng) for _ in range(2)})
        kinds = [kinds[int(place)] for place in rng.permutation(len(kinds))]
        groups = [write_group(kind, boxes_of(scene, proposals, kind)) for kind in kinds]
        turns = [(f"detect {' ; '.join(kinds)}", "\n".join(groups))]
    else:
        asked = FAMILIES[family](scene, proposals, rng) or FAMILIES["detect"](scene, proposals, rng)
        assert asked is not None
        turns = [asked]
    pieces = []
    for number, (question, answer) in enumerate(turns):
        pieces += [(f"{'USER: ' if number else ''}{question} ASSISTANT:", False), (f"{answer}</s>", True)]
    return pieces


def _encoded(processor: ObjectProcessor, count: int, pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
    """Ids and labels, -100 where nothing is to be learned."""
    tokenizer = processor.tokenizer
    objects = "".join(f"<obj{number}>{OBJECT_TEXT}" for number in range(count))
    ids: list[int] = []
    labels: list[int] = []
    for text, is_said in ((f"<s>USER: {objects}", False), *pieces):
        found = tokenizer.encode(text, add_special_tokens=False)
        ids += found
        labels += found if is_said else [-100] * len(found)
    return ids, labels


def _taught(model: DpnForConditionalGeneration, processor: ObjectProcessor, count: int) -> list[Taught]:
    found: list[Taught] = []
    for first in range(0, count, BATCH):
        drawn = [draw((SEED, number)) for number in range(first, min(first + BATCH, count))]
        with torch.no_grad():
            rows = project(model, processor, drawn).boxes_ND
        split = rows.split([len(one.proposals.boxes) for one in drawn])
        found += [Taught(one, boxes_ND) for one, boxes_ND in zip(drawn, split, strict=True)]
    return found
