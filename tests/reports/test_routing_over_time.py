"""The picture of a run's routing: every site and expert is named, gaps are allowed, the text is reproducible."""

from dpn_platform.reports.routing.over_time import routing_history_svg

HISTORY = {
    "steps": [10, 20, 30],
    "keep_ratio": [0.9, 0.5, None],
    "sites": [
        {
            "after_layer": 8,
            "expert_shares": {"1x1": [1.0, 0.25, None], "2x2": [0.0, 0.75, None]},
            "entropy": [0.9, 0.2, None],
            "keep_ratio": [1.0, 0.4, 1.0],
        },
        {"after_layer": 16, "expert_shares": {}, "entropy": [None] * 3, "keep_ratio": [1.0, 0.4, 1.0]},
    ],
}


def test_the_picture_names_what_it_shows_and_is_reproducible():
    svg = routing_history_svg(HISTORY, "demo <run>")
    for text in ("demo <run>: routing over 30 steps", "after layer 8", "after layer 16", "1x1", "2x2", "no experts"):
        assert f"<!-- {text}" in svg.replace("&lt;", "<").replace("&gt;", ">")
    assert routing_history_svg(HISTORY, "demo <run>") == svg
