"""What `model.base: tiny` knows unless a data set says otherwise: every word of the demo set's generator.

Written down, because a small draw of the demo set does not use all of them and a base must not depend on the draw.
"""

from __future__ import annotations

TINY_WORDS: tuple[str, ...] = tuple(
    (
        ". ? a1 a2 a3 a4 above anything are at b1 b2 b3 b4 below blue c1 c2 c3 c4 circle circles colour d1 d2 d3 "
        "d4 digit eight everything five four from green how is left list many nine no one plus purple red right "
        "seven six square squares there three triangle triangles two what where which white yellow yes zero"
    ).split()
)
