"""What may be wrong with a row, and what ingest does about each kind: repair it, quarantine it or keep it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from dpn_platform.config.errors import DpnError

Action = Literal["repair", "quarantine", "keep"]


@dataclass(frozen=True)
class Kind:
    """One kind of defect: what it is, and the actions allowed (the first is the default)."""

    meaning: str
    allowed: tuple[Action, ...] = ("quarantine",)

    @property
    def default(self) -> Action:
        """What happens unless the user says otherwise."""
        return self.allowed[0]


#: in the order in which a row is looked at; a row is quarantined for the first kind that demands it
KINDS: dict[str, Kind] = {
    "duplicate": Kind("same id, image, boxes and conversation as an earlier record", ("quarantine", "keep")),
    "not_json": Kind("a line of a JSON-lines file that is not JSON"),
    "not_an_object": Kind("a record that is not a JSON object"),
    "not_utf8": Kind("text that is not valid UTF-8 (or holds lone surrogates)"),
    "bad_id": Kind("'id' is neither a text nor an integer"),
    "leading_answer": Kind("starts with a gpt turn; repair drops it, as LLaVA does", ("repair", "quarantine")),
    "trailing_question": Kind("ends with a human turn; repair drops it: it teaches nothing", ("repair", "quarantine")),
    "bad_turns": Kind("turns missing, malformed or not alternating"),
    "empty_question": Kind("a question without text", ("quarantine", "keep")),
    "empty_answer": Kind("an answer without text"),
    "placeholder_mismatch": Kind("number of <image> placeholders differs from that of images"),
    "bad_image_path": Kind("absolute path, '..', a URI, or no plain relative path"),
    "control_text": Kind(
        "a turn that spells </s> or <ROUTER>, which the template sets (LLaVA masks such a sample)",
        ("quarantine", "keep"),
    ),
    "bad_boxes": Kind("boxes, scores, truth or proposals of another form, without area or outside the picture"),
    "boxes_picture": Kind("boxes in a record without a picture, or with several"),
    "bad_object_index": Kind("<objK> that names none of the record's boxes"),
    "stray_object_tag": Kind("<objK> or <objects> in a record without boxes, or <objfeat>, which the model sets"),
    "image_missing": Kind("no such file under any image root"),
    "image_empty": Kind("a file of zero bytes"),
    "image_undecodable": Kind("not an image"),
    "image_truncated": Kind("an image that ends too early"),
    "image_format": Kind(
        "an image that is not JPEG, PNG, GIF or WebP; repair re-encodes it as PNG", ("quarantine", "repair")
    ),
    "image_extension": Kind("content of another format than the name says; decoded by content", ("keep", "quarantine")),
    "image_small": Kind("a side below 8 pixels", ("quarantine", "keep")),
    "image_huge": Kind("over 64 million pixels (decompression bombs included); never decoded"),
    "image_elongated": Kind(
        "a side above 8000 pixels: padded to a square it would have over 64 million", ("quarantine", "keep")
    ),
    "image_metadata": Kind("metadata that keep a JPEG from being opened; repair drops them", ("repair", "quarantine")),
    "image_rotated": Kind(
        "EXIF asks for a rotation; repair rotates the pixels, and refuses a record with boxes: they may be of either",
        ("repair", "quarantine", "keep"),
    ),
    "image_cmyk": Kind("CMYK; repair re-encodes it as RGB JPEG, quality 95", ("repair", "quarantine", "keep")),
    "image_16bit": Kind("16 bits per grey value; repair scales to 8 bits, PNG", ("repair", "quarantine")),
    "image_palette": Kind(
        "a PNG with a palette (a GIF always has one); repair re-encodes it as RGB PNG", ("keep", "repair", "quarantine")
    ),
}


@dataclass(frozen=True)
class Policy:
    """What to do about each kind; `overrides` lists what differs from the defaults, sorted by kind."""

    overrides: tuple[tuple[str, Action], ...] = ()

    @staticmethod
    def parse(settings: Iterable[str]) -> Policy:
        """From `kind=action` texts; of two for one kind the later one holds.

        Raises:
            DpnError: no such kind (with the nearest name), or an action that the kind does not allow.
        """
        chosen: dict[str, Action] = {}
        for setting in settings:
            kind, _, action = setting.partition("=")
            require_kind(kind, f"--on {setting}")
            allowed = {str(name): name for name in KINDS[kind].allowed}
            if action not in allowed:
                raise DpnError(f"--on {setting}: allowed for {kind} are {', '.join(allowed)}")
            chosen[kind] = allowed[action]
        return Policy(tuple(sorted((kind, action) for kind, action in chosen.items() if action != KINDS[kind].default)))

    def action(self, kind: str) -> Action:
        """What to do about a kind of `KINDS`."""
        return dict(self.overrides).get(kind, KINDS[kind].default)


def require_kind(kind: str, where: str) -> None:
    """Refuses what is no kind of `KINDS`.

    Raises:
        DpnError: naming `where` it was given, and the nearest kind or all of them.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed are {', '.join(KINDS)}"
        raise DpnError(f"{where}: there is no kind '{kind}' ({hint})")


class RejectedError(Exception):
    """The row must not be trained on.

    Attributes:
        reason: a kind of `KINDS`, for counting.
        detail: one line for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass
class Findings:
    """What was met in one row and did not refuse it: kinds that were repaired, and kinds that were kept as they are."""

    policy: Policy = field(default_factory=Policy)
    repaired: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def meet(self, kind: str, detail: str) -> bool:
        """Notes a defect.

        Returns:
            Whether the caller has to repair it; otherwise it stays.

        Raises:
            RejectedError: the policy quarantines this kind.
        """
        action = self.policy.action(kind)
        if action == "quarantine":
            raise RejectedError(kind, detail)
        (self.repaired if action == "repair" else self.kept).append(kind)
        return action == "repair"
