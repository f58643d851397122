"""Every page's style sheet and shell, and the front's script: readable type, light and dark, all in the file."""

from __future__ import annotations

import base64
from html import escape

#: of drawn pictures: text, quiet text, lines behind the data
INK, QUIET, GRID = "#1e293b", "#64748b", "#e2e8f0"

STYLE = """
:root { color-scheme: light dark; --paper:#ffffff; --card:#f8fafc; --ink:#1e293b; --quiet:#64748b; --line:#e2e8f0;
  --accent:#0f766e; --heat:15,118,110; --loss:194,65,12; --good:#15803d; --bad:#b91c1c; }
@media (prefers-color-scheme: dark) { :root { --paper:#0f172a; --card:#1e293b; --ink:#e2e8f0; --quiet:#94a3b8;
  --line:#334155; --accent:#5eead4; --heat:45,212,191; --loss:251,146,60; --good:#4ade80; --bad:#f87171; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 Inter,"Helvetica Neue","Segoe UI",Arial,sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width:1080px; margin:0 auto; padding:40px 24px 72px; }
.kicker { color:var(--quiet); font-size:13px; letter-spacing:.06em; text-transform:uppercase; margin:0; }
h1 { font-size:32px; line-height:1.2; margin:4px 0 10px; letter-spacing:-.01em; }
h2 { font-size:21px; margin:52px 0 6px; letter-spacing:-.005em; }
.lead { font-size:18px; max-width:86ch; margin:0 0 22px; }
p, li { max-width:88ch; } .quiet, figcaption, .note { color:var(--quiet); } .note { font-size:14px; margin:6px 0 14px; }
a { color:var(--accent); }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(165px,1fr)); gap:12px; margin:0 0 26px; }
.fact { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:12px 16px; }
.fact b { display:block; font-size:25px; line-height:1.25; } .fact span { color:var(--quiet); font-size:13px; }
figure { margin:0; } summary { cursor:pointer; padding:4px 0; }
.nowrap { white-space:nowrap; } .scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:14.5px; margin:8px 0; }
th { text-align:left; font-weight:600; color:var(--quiet); font-size:13px; border-bottom:2px solid var(--line); }
th, td { padding:7px 10px; vertical-align:baseline; } td { border-bottom:1px solid var(--line); }
td.number, th.number { text-align:right; white-space:nowrap; } td small { color:var(--quiet); font-size:12.5px; }
tr.front td:first-child { box-shadow:inset 3px 0 0 var(--accent); font-weight:600; }
tr.dominated td { color:var(--quiet); }
td:first-child { white-space:nowrap; }
table:has(td.heat) th:nth-child(n+3) { text-align:center; }
td.heat { text-align:center; border:2px solid var(--paper); border-radius:7px; white-space:nowrap; }
code { font:13px/1.4 ui-monospace,"SF Mono",Menlo,Consolas,monospace; overflow-wrap:anywhere; }
.chip { display:inline-block; border:1px solid var(--line); border-radius:999px; padding:0 9px; font-size:12.5px;
  color:var(--quiet); white-space:nowrap; }
.chip.good { color:var(--good); border-color:var(--good); } .chip.bad { color:var(--bad); border-color:var(--bad); }
.bar { display:flex; height:26px; border-radius:6px; overflow:hidden; background:var(--card); min-width:320px; }
.bar span { overflow:hidden; white-space:nowrap; font-size:12px; line-height:26px; text-align:center; color:#fff; }
.legend { display:flex; flex-wrap:wrap; gap:6px 18px; font-size:13px; margin:8px 0 4px; padding:0; list-style:none; }
.legend i { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:6px; vertical-align:-1px; }
img.gallery { width:100%; height:auto; border-radius:10px; border:1px solid var(--line); background:#fff; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:4px 20px; font-size:14.5px; } dt { color:var(--quiet); }
dd { margin:0; overflow-wrap:anywhere; } footer { margin-top:52px; border-top:1px solid var(--line); padding-top:8px; }
"""

# plotly draws with fixed colours; this swaps them for brighter ones when the reader prefers dark.
SCRIPT = """
(function () {
  var dark = window.matchMedia("(prefers-color-scheme: dark)"), figure = document.getElementById("front");
  var bright = { "#0f766e": "#2dd4bf", "#334155": "#e2e8f0", "#c2410c": "#fb923c", "#7c3aed": "#a78bfa" };
  var drawn = figure.data.map(function (trace) { return trace.marker ? trace.marker.color : null; });
  function recolour() {
    drawn.forEach(function (colour, index) {
      if (colour === null) return;
      var now = dark.matches ? bright[colour] || colour : colour, edge = dark.matches ? "#0f172a" : "#ffffff";
      Plotly.restyle(figure, { "marker.color": now, "error_y.color": now, "marker.line.color": edge }, [index]);
    });
    var ink = dark.matches ? "#cbd5e1" : "#334155", line = dark.matches ? "#475569" : "#94a3b8";
    Plotly.relayout(figure, { "font.color": ink, "xaxis.linecolor": line, "yaxis.linecolor": line });
  }
  recolour();
  dark.addEventListener("change", recolour);
})();
"""


def html_document(title: str, body: str, script: str = "") -> str:
    """One self-contained page in the house's style around finished HTML."""
    tail = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>\n{body}\n</main>{tail}</body></html>\n"
    )


def embedded_png(data: bytes, description: str) -> str:
    """A picture inside the page, as wide as its column."""
    source = base64.b64encode(data).decode()
    return f'<img class="gallery" alt="{escape(description)}" src="data:image/png;base64,{source}">'
