"""What is raised where a sample's numbers have become NaN or infinite: it names the samples."""

from __future__ import annotations

from collections.abc import Sequence


class NotFiniteError(ValueError):
    """A ValueError that knows which samples it is about.

    Attributes:
        what: tensor that is not finite.
        places: of the samples, in their batch.
    """

    def __init__(self, what: str, places: Sequence[int], names: Sequence[object] = ()) -> None:
        self.what = what
        self.places = tuple(places)
        listed = ", ".join(str(name) for name in names or places)
        whose = ("row" if names else "sample") + ("s" if len(self.places) > 1 else "")
        super().__init__(
            f"{what} of {whose} {listed} hold NaN or infinity: pixel_values do, or the weights have diverged "
            "(allowed: finite numbers)"
        )

    def of(self, places: Sequence[int]) -> NotFiniteError:
        """The same about other places."""
        return NotFiniteError(self.what, places)

    def named(self, names: Sequence[object]) -> NotFiniteError:
        """The same with names instead of places; `names` are of the whole batch."""
        return NotFiniteError(self.what, self.places, [names[place] for place in self.places])
