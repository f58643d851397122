"""Padded ids to packed ones: what every row is and where it came from, worked out on the host from one copy.

Shape letters: B samples, S columns of the padded ids, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import ImageSpan, Piece, TokenKind, find_image_spans

PADDING = -1  # an id that no token has
IGNORE_INDEX = -100


@dataclass(frozen=True)
class PackedIds:
    """A batch of ids without padding.

    Attributes:
        ids_T: int64[T]; 0 where features of an image or of an object go.
        place_T: int64[T], every token's place in the flattened padded ids.
        is_image_T: bool[T], image placeholders.
        kind_T: int8[T], a `TokenKind` per row.
        position_ids_T: int64[T] or int64[T, 3], rotary positions.
        lengths: tokens per sample, on the host.
        images: spans of the images.
        pictures: the first span of every picture.
        objects: per sample, rows of objects.
        router_rows_R: int64[R] on the host, rows of the routing tokens.
        asking_rows_R: int64[Q] on the host: the row before every answer, or every sample's last without labels.
    """

    ids_T: Tensor
    place_T: Tensor
    is_image_T: Tensor
    kind_T: Tensor
    position_ids_T: Tensor
    lengths: tuple[int, ...]
    images: tuple[ImageSpan, ...]
    pictures: tuple[ImageSpan, ...]
    objects: tuple[int, ...]
    router_rows_R: np.ndarray
    asking_rows_R: np.ndarray

    def columns_with_tokens(self, input_ids: Tensor) -> Tensor:
        """bool[B, S]: the tokens among the padded ids this was packed from."""
        is_token = torch.zeros(input_ids.numel(), dtype=torch.bool, device=self.place_T.device)
        is_token[self.place_T] = True
        return is_token.view_as(input_ids)


def pack_ids(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    *,
    device: torch.device,
    image_token_id: int,
    router_token_id: int | None,
    pictures: Sequence[Sequence[Piece]],
    positions: Callable[[Sequence[int], Sequence[ImageSpan]], np.ndarray],
    labels: Tensor | None = None,
    object_token_id: int | None = None,
) -> PackedIds:
    """Pack int64[B, S] ids, padded on either side.

    Args:
        input_ids: a visual token is an `image_token_id`. Best on the host: packing then copies nothing back from the
            device.
        device: of everything packed.
        attention_mask: [B, S], 0 for padding; default no padding.
        image_token_id: of image placeholders.
        router_token_id: of `<ROUTER>`; None where the tokenizer has none.
        pictures: pieces of every picture, in reading order.
        positions: rotary positions from lengths and spans (`vision.image_side`).
        labels: int64[B, S], -100 where not supervised: where answers begin.
        object_token_id: of placeholders of objects; None where the base takes none.

    Raises:
        ValueError: a mask of another shape, a sample without tokens, or placeholders that do not fit the images.
    """
    host_BS, is_token_BS, lengths = _tokens_on_host(input_ids, attention_mask)
    host_T = host_BS[is_token_BS]
    is_image = host_T == image_token_id
    spans = find_image_spans(is_image, lengths, pictures)
    images = tuple(span for picture in spans for span in picture)
    kind = np.where(is_image, TokenKind.VISION, TokenKind.TEXT).astype(np.int8)
    if router_token_id is not None:
        kind[host_T == router_token_id] = TokenKind.ROUTER
    is_object = np.zeros_like(is_image) if object_token_id is None else host_T == object_token_id
    kind[is_object] = TokenKind.OBJECT
    objects = np.add.reduceat(is_object, np.cumsum((0, *lengths[:-1])), dtype=np.int64)
    ids_T, place_T, is_image_T, kind_T, position_ids_T = (
        torch.from_numpy(array).to(device)
        for array in (
            np.where(is_image | is_object, 0, host_T),
            np.flatnonzero(is_token_BS),
            is_image,
            kind,
            positions(lengths, images),
        )
    )
    routers = np.flatnonzero(kind == TokenKind.ROUTER)
    firsts = tuple(picture[0] for picture in spans)
    asking = _asking_rows(labels, is_token_BS, lengths)
    spans_of = (images, firsts, tuple(objects.tolist()))
    return PackedIds(ids_T, place_T, is_image_T, kind_T, position_ids_T, lengths, *spans_of, routers, asking)


def _asking_rows(labels: Tensor | None, is_token_BS: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """The row before every answer; a sample without a label, and every one without labels, asks with its last row."""
    last_B = np.cumsum(lengths) - 1
    if labels is None:
        return last_B
    is_answer = labels.cpu().numpy()[is_token_BS] != IGNORE_INDEX
    begins = is_answer[1:] & ~is_answer[:-1]
    begins[last_B[:-1]] = False
    rows = np.flatnonzero(begins)
    silent = np.setdiff1d(np.arange(len(lengths)), np.searchsorted(last_B, rows))
    return np.sort(np.concatenate([rows, last_B[silent]]))


def _tokens_on_host(input_ids: Tensor, attention_mask: Tensor | None) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Ids and bool[B, S], which of them are tokens; tokens per sample."""
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; allowed: that of input_ids, "
            f"{tuple(input_ids.shape)}"
        )
    marked = input_ids
    if attention_mask is not None:
        marked = input_ids.masked_fill(attention_mask.to(input_ids.device) == 0, PADDING)
    host_BS = marked.cpu().numpy()
    is_token_BS = host_BS != PADDING
    lengths = tuple(is_token_BS.sum(axis=1).tolist())
    if min(lengths) == 0:
        raise ValueError(f"attention_mask: sample {lengths.index(0)} has no tokens; every sample needs one")
    return host_BS, is_token_BS, lengths


def boxes_by_picture(ids: PackedIds, boxes: Tensor | None) -> list[Tensor]:
    """float[n, 4] of every picture: a sample's boxes are on its one picture.

    Args:
        ids: packed.
        boxes: float[N, 4] of all samples, in the order of their placeholders; None: none.

    Raises:
        ValueError: boxes and placeholders differ in number, or stand beside no picture or several.
    """
    given = 0 if boxes is None else len(boxes)
    if sum(ids.objects) != given:
        raise ValueError(
            f"input_ids hold {sum(ids.objects)} object placeholders, boxes {given}; one for each is needed"
        )
    shown = [0] * len(ids.lengths)
    for picture in ids.pictures:
        shown[picture.sample] += 1
    for sample, (pictures, objects) in enumerate(zip(shown, ids.objects, strict=True)):
        if objects and pictures != 1:
            raise ValueError(
                f"sample {sample} has {objects} boxes and {pictures} pictures; allowed: boxes on one picture"
            )
    every = ids.place_T.new_zeros(0, 4).float() if boxes is None else boxes
    of_samples = every.split(ids.objects)
    return [of_samples[picture.sample] for picture in ids.pictures]
