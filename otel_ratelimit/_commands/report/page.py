"""The page around the pictures: one file, no script, nothing loaded from anywhere; light or dark as the reader's system is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Final

from otel_ratelimit._commands.report import charts
from otel_ratelimit._commands.report.otlp import Call, Recording
from otel_ratelimit._telemetry import names
from otel_ratelimit._version import __version__

MOST_IN_TABLE: Final = 200

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f4f5f7; --text: #1d2129; --faint: #59626f; --grid: #d9dde3;
  --throttle: #c62828; --wait: #e69f00; --retry: #1b7f4b; --attempt: #2f6fb7;
  --line0: #2f6fb7; --line1: #8b3fa8; --line2: #1b7f4b; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1e232b; --text: #e8eaed; --faint: #a3acb9;
  --grid: #39414d; --throttle: #ff6b61; --wait: #ffc247; --retry: #4fc98a; --attempt: #6fb0f5;
  --line0: #6fb0f5; --line1: #d49bea; --line2: #4fc98a; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } p { margin: .25rem 0; color: var(--faint); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.25rem 0 0; }
dl div { background: var(--card); border-radius: .5rem; padding: .75rem 1rem; display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
dt { color: var(--faint); font-size: .85rem; } dd { margin: 0; font-size: 1.4rem; font-weight: 600; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--grid); } .label { fill: var(--faint); font-size: 12px; } .whole { fill: var(--faint); }
.throttle { fill: var(--throttle); } .wait { fill: var(--wait); } .retry { fill: var(--retry); }
.attempt { fill: var(--attempt); }
.line0 { stroke: var(--line0); fill: var(--line0); } .line1 { stroke: var(--line1); fill: var(--line1); }
.line2 { stroke: var(--line2); fill: var(--line2); } polyline { fill: none; stroke-width: 1.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 1.25rem; padding: 0;
  margin: .25rem 0 .5rem; color: var(--faint); }
.legend svg { display: inline; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: baseline; }
details { margin-top: .5rem; } summary { cursor: pointer; color: var(--faint); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
"""

_LEGEND: Final = (
    ("throttle", "throttled response"),
    ("wait", "wait"),
    ("retry", "sent again"),
    ("attempt", "first attempt"),
)


def render(recording: Recording, source: str) -> str:
    """The whole page."""
    calls = recording.calls
    begin, end = min(call.start for call in calls), max(call.end for call in calls)
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(source)}: throttled calls</title><style>{_STYLE}</style></head><body>",
            _header(source, begin, end),
            "<main>",
            _figures(calls),
            _timeline(calls),
            _remaining(recording, begin, end),
            _waits(calls),
            _reasons(calls),
            f"</main><footer><p>otel_ratelimit {escape(__version__)}</p></footer></body></html>\n",
        )
    )


def _header(source: str, begin: float, end: float) -> str:
    day = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(begin))
    return (
        f"<header><h1>Throttled calls in {escape(source)}</h1><p>{day}, {end - begin:.1f} s."
        " Calls that met no throttle and no wait leave no trace and are not here.</p></header>"
    )


def _figures(calls: Sequence[Call]) -> str:
    outcomes = Counter(call.outcome for call in calls)
    waited = [call.waited for call in calls]
    rows = (
        ("calls disturbed", f"{len(calls)}"),
        ("throttled responses", f"{sum(call.throttles for call in calls)}"),
        ("recovered", f"{outcomes['recovered']}"),
        ("ended in an error", f"{outcomes['gave_up'] + outcomes['not_retryable']}"),
        ("waited in all", f"{sum(waited):.1f} s"),
        ("longest wait of a call", f"{max(waited):.1f} s"),
        *(
            (f"waited: {what}", f"{sum(call.spent(on) for call in calls):.1f} s")
            for on, what in charts.WAITED_FOR.items()
        ),
    )
    return "<dl>" + "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in rows) + "</dl>"


def _timeline(calls: Sequence[Call]) -> str:
    note = ""
    if len(calls) > charts.MOST_ROWS:
        note = f"<p>The {charts.MOST_ROWS} of {len(calls)} calls that waited longest.</p>"
    legend = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{kind}" width="10" height="10"/></svg>{text}</li>'
        for kind, text in _LEGEND
    )
    return f'<section><h2>Timeline</h2>{note}<ul class="legend">{legend}</ul>{charts.timeline(calls)}{_table(calls)}</section>'


def _table(calls: Sequence[Call]) -> str:
    begin = calls[0].start
    shown = sorted(calls, key=lambda call: -call.waited)[:MOST_IN_TABLE]
    rows = "".join(_row(call, begin) for call in shown)
    heads = ("call", "from, s", "took, s", "throttles", "waited, s", "outcome", "reason", "trace")
    numbers = {1, 2, 3, 4}
    head = "".join(
        f'<th scope="col"{" class=number" if index in numbers else ""}>{text}</th>' for index, text in enumerate(heads)
    )
    more = f" (the {MOST_IN_TABLE} that waited longest)" if len(calls) > MOST_IN_TABLE else ""
    return (
        f'<details><summary>The calls as a table{more}</summary><div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _row(call: Call, begin: float) -> str:
    numbers = (
        f"{call.start - begin:.2f}",
        f"{call.end - call.start:.2f}",
        f"{call.throttles}",
        f"{call.waited:.2f}",
    )
    cells = "".join(f"<td class=number>{number}</td>" for number in numbers)
    reason = escape(str(call.attributes.get(names.GIVE_UP_REASON, "")))
    return (
        f"<tr><td>{escape(call.name)}</td>{cells}<td>{escape(call.outcome)}</td><td>{reason}</td>"
        f"<td><code>{escape(call.trace_id)}</code></td></tr>"
    )


def _remaining(recording: Recording, begin: float, end: float) -> str:
    of_tokens = {key: points for key, points in recording.remaining.items() if key[1] != "requests"}
    sections = []
    for title, levels in (
        ("Tokens left", of_tokens),
        ("Requests left", {key: points for key, points in recording.remaining.items() if key[1] == "requests"}),
    ):
        inside = {
            key: kept
            for key, points in levels.items()
            if (kept := [one for one in points if begin - 1 <= one[0] <= end + 1])
        }
        if inside:
            sections.append(f"<section><h2>{title}</h2>{charts.remaining(inside, begin, end)}</section>")
    return "".join(sections)


def _waits(calls: Sequence[Call]) -> str:
    counts = charts.buckets([part.end - part.start for call in calls for part in call.parts if part.kind == "wait"])
    return f"<section><h2>Waits</h2>{charts.histogram(counts)}</section>" if counts else ""


def _reasons(calls: Sequence[Call]) -> str:
    counts = Counter(
        str(call.attributes.get(names.GIVE_UP_REASON)) for call in calls if names.GIVE_UP_REASON in call.attributes
    )
    if not counts:
        return ""
    rows = "".join(
        f"<tr><td>{escape(reason)}</td><td class=number>{count}</td></tr>" for reason, count in counts.most_common()
    )
    return (
        '<section><h2>Why calls ended in an error</h2><table><thead><tr><th scope="col">reason</th>'
        f'<th scope="col" class=number>calls</th></tr></thead><tbody>{rows}</tbody></table></section>'
    )
