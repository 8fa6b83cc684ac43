"""The page around the pictures: one file, no script, nothing loaded from anywhere; light or dark as the reader's system is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from otel_ratelimit._commands.output import counted
from otel_ratelimit._commands.report import charts
from otel_ratelimit._commands.report.otlp import Call, Recording
from otel_ratelimit._commands.run.figures import length, union
from otel_ratelimit._core.words import duration
from otel_ratelimit._telemetry import names
from otel_ratelimit._version import __version__

FIRST: Final = 50
"""Calls that are shown at once, those that waited longest; the rest where somebody asks for it."""

MOST: Final = 400
"""Calls on a page. Beyond it those that waited longest are on it."""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f4f5f7; --text: #1d2129; --faint: #59626f; --grid: #d9dde3;
  --throttle: #c62828; --wait: #e69f00; --retry: #1b7f4b; --attempt: #2f6fb7;
  --line0: #7a3fb0; --line1: #00798c; --line2: #a8326e; --line3: #6b5b00; --line4: #27408b; --line5: #555d66; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1e232b; --text: #e8eaed; --faint: #a3acb9;
  --grid: #39414d; --throttle: #ff6b61; --wait: #ffc247; --retry: #4fc98a; --attempt: #6fb0f5;
  --line0: #c79bf2; --line1: #5cc8d7; --line2: #f08fc0; --line3: #d9c84a; --line4: #93a8ff; --line5: #b8c0ca; } }
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
.line2 { stroke: var(--line2); fill: var(--line2); } .line3 { stroke: var(--line3); fill: var(--line3); }
.line4 { stroke: var(--line4); fill: var(--line4); } .line5 { stroke: var(--line5); fill: var(--line5); }
.dashed polyline { stroke-dasharray: 6 4; } circle.dashed { fill: none; } polyline { fill: none; stroke-width: 1.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 1.25rem; padding: 0;
  margin: .25rem 0 .5rem; color: var(--faint); }
.legend svg, svg.mark { display: inline; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: baseline; }
details { margin-top: .5rem; } summary { cursor: pointer; color: var(--faint); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.all { margin: 1.25rem 0 0; color: var(--text); }
@media (max-width: 45rem) { body { padding: 1rem; } .label { font-size: 24px; } .minor { display: none; }
  dd { font-size: 1.2rem; } }
"""

_LEGEND: Final = (
    ("throttle", "throttled response"),
    ("wait", "wait"),
    ("retry", "sent again"),
    ("attempt", "first attempt"),
)

_CAUSES: Final = {
    "throttle": "throttled",
    "server_error": "server error",
    "timeout": "no answer in time",
    "connection": "connection lost",
}


def render(recording: Recording, source: str) -> str:
    """The whole page; where nothing was throttled, one that says so."""
    calls = recording.calls
    main: tuple[str, ...]
    if calls:
        begin, end = min(call.start for call in calls), max(call.end for call in calls)
        models = _models(calls)
        main = (
            _totals(calls, end - begin),
            _by_model(calls, models),
            _timeline(calls, models, begin, end),
            _remaining(recording, models, begin, end),
            _waits(calls),
            _causes(calls),
            _reasons(calls),
        )
        head = _header(f"Throttled calls in {source}", begin, end)
    else:
        main = (f"<section><p>{_nothing(recording.spans)}</p></section>",)
        head = f"<header><h1>Nothing was throttled in {escape(source)}</h1></header>"
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(source)}: throttled calls</title><style>{_STYLE}</style></head><body>",
            head,
            "<main>",
            *main,
            f"</main><footer><p>otel_ratelimit {escape(__version__)}</p></footer></body></html>\n",
        )
    )


def _nothing(spans: int) -> str:
    others = f"The file has {counted(spans, 'span')} of other instrumentations. " if spans else ""
    return f"{others}A call that is neither throttled nor kept waiting makes no span of otel_ratelimit: there is nothing to show."


def _header(title: str, begin: float, end: float) -> str:
    day = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(begin))
    return (
        f"<header><h1>{escape(title)}</h1><p>{day}, {duration(end - begin)}."
        " Calls that met no throttle and no wait leave no trace and are not here.</p></header>"
    )


def _models(calls: Sequence[Call]) -> list[str]:
    """Those with most calls first: the order of the colours."""
    return [model for model, _ in Counter(call.model for call in calls).most_common()]


def _totals(calls: Sequence[Call], seconds: float) -> str:
    outcomes = Counter(call.outcome for call in calls)
    somebody = length(union([part.start, part.end] for call in calls for part in call.parts if part.kind == "wait"))
    rows = (
        ("calls disturbed", f"{len(calls):,}"),
        ("throttled responses", f"{sum(call.throttles for call in calls):,}"),
        ("sent again", f"{sum(_resends(calls).values()):,}"),
        ("recovered", f"{outcomes['recovered']:,}"),
        ("ended in an error", f"{outcomes['gave_up'] + outcomes['not_retryable']:,}"),
        ("cancelled", f"{outcomes['cancelled']:,}"),
        ("waited in all", duration(sum(call.waited for call in calls))),
        ("longest wait of a call", duration(max(call.waited for call in calls))),
        *(
            (f"waited: {what}", duration(sum(call.spent(on) for call in calls)))
            for on, what in charts.WAITED_FOR.items()
        ),
    )
    told = "".join(
        f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in rows if value != "0" or label != "cancelled"
    )
    return f'<dl>{told}</dl><p class="all">At least one call waited during {duration(somebody)} of {duration(seconds)}.</p>'


def _resends(calls: Iterable[Call]) -> Counter[str]:
    """Requests that were sent again, by what made it necessary."""
    return Counter(
        str(part.attributes.get(names.RETRY_REASON, "unknown"))
        for call in calls
        for part in call.parts
        if part.kind == "retry"
    )


def _by_model(calls: Sequence[Call], models: Sequence[str]) -> str:
    if len(models) < 2:
        return ""
    rows = []
    for model in models:
        own = [call for call in calls if call.model == model]
        outcomes = Counter(call.outcome for call in own)
        waits = [call.waited for call in own]
        rows.append(
            [
                f"{_mark(models, model)}{escape(_named(model))}",
                f"{len(own):,}",
                f"{sum(call.throttles for call in own):,}",
                f"{sum(_resends(own).values()):,}",
                f"{outcomes['recovered']:,}",
                f"{outcomes['gave_up'] + outcomes['not_retryable']:,}",
                duration(sum(waits)),
                duration(max(waits)),
            ]
        )
    heads = ("model", "calls", "throttles", "sent again", "recovered", "errors", "waited in all", "longest wait")
    return f"<section><h2>By model</h2>{_table(heads, rows, numbers=range(1, 8))}</section>"


def _named(model: str) -> str:
    return model or "(no model)"


def _mark(models: Sequence[str], model: str) -> str:
    """A dot in the model's colour."""
    return (
        f'<svg class="mark" viewBox="0 0 10 10" aria-hidden="true">'
        f'<circle class="{charts.colour(models, model)}" cx="5" cy="5" r="4"/></svg>'
    )


def _timeline(calls: Sequence[Call], models: Sequence[str], begin: float, end: float) -> str:
    longest = sorted(calls, key=lambda call: -call.waited)[:MOST]
    legend = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{kind}" width="10" height="10"/></svg>{text}</li>'
        for kind, text in _LEGEND
    )
    legend += _model_legend(models)
    first = charts.timeline(_in_time(longest[:FIRST]), models, begin, end)
    note = rest = ""
    if len(calls) > FIRST:
        note = f"<p>The {FIRST} of {len(calls):,} calls that waited longest.</p>"
        which = f"All {len(calls):,} calls" if len(calls) <= MOST else f"The {MOST} that waited longest"
        rest = f"<details><summary>{which}</summary>{charts.timeline(_in_time(longest), models, begin, end)}</details>"
    return (
        f'<section><h2>Timeline</h2>{note}<ul class="legend">{legend}</ul>{first}{rest}'
        f"{_calls(longest, len(calls), begin)}</section>"
    )


def _model_legend(models: Sequence[str]) -> str:
    return (
        "".join(f"<li>{_mark(models, model)}{escape(_named(model))}</li>" for model in models)
        if len(models) > 1
        else ""
    )


def _in_time(calls: Iterable[Call]) -> list[Call]:
    return sorted(calls, key=lambda call: (call.start, call.end))


def _calls(longest: Sequence[Call], number: int, begin: float) -> str:
    heads = ("call", "from", "took", "throttles", "waited", "outcome", "reason", "trace")
    rows = [_row(call, begin) for call in longest]
    told = "The call as a table" if number == 1 else f"The calls as a table, longest wait first ({number:,})"
    if number > MOST:
        told = f"The {MOST} calls that waited longest, as a table"
    rest = ""
    if len(rows) > FIRST:
        more = _table(heads, rows[FIRST:], numbers=range(1, 5))
        rest = f"<details><summary>The other {len(rows) - FIRST}</summary>{more}</details>"
    return f"<details><summary>{told}</summary>{_table(heads, rows[:FIRST], numbers=range(1, 5))}{rest}</details>"


def _row(call: Call, begin: float) -> list[str]:
    return [
        escape(call.name),
        duration(call.start - begin),
        duration(call.end - call.start),
        f"{call.throttles}",
        duration(call.waited),
        escape(call.outcome),
        escape(str(call.attributes.get(names.GIVE_UP_REASON, ""))),
        f"<code>{escape(call.trace_id)}</code>",
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int]) -> str:
    """Of cells that are HTML; those in the columns ``numbers`` flush right."""
    right = set(numbers)
    kind = [" class=number" if index in right else "" for index in range(len(heads))]
    head = "".join(f'<th scope="col"{kind[index]}>{text}</th>' for index, text in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{kind[index]}>{cell}</td>" for index, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _remaining(recording: Recording, models: Sequence[str], begin: float, end: float) -> str:
    sections = []
    for title, requests in (("Tokens left", False), ("Requests left", True)):
        inside = {
            key: kept
            for key, points in recording.remaining.items()
            if (key[1] == "requests") == requests
            and (kept := [one for one in points if begin - 1 <= one[0] <= end + 1])
        }
        if inside:
            known = [*models, *sorted({model for model, _ in inside} - set(models))]
            here = [model for model in known if any(model == key[0] for key in inside)]
            legend = (
                "".join(f"<li>{_mark(known, model)}{escape(_named(model))}</li>" for model in here)
                if len(here) > 1
                else ""
            )
            legend = f'<ul class="legend">{legend}</ul>' if legend else ""
            sections.append(f"<section><h2>{title}</h2>{legend}{charts.remaining(inside, known, begin, end)}</section>")
    return "".join(sections)


def _waits(calls: Sequence[Call]) -> str:
    counts = charts.buckets([part.end - part.start for call in calls for part in call.parts if part.kind == "wait"])
    return f"<section><h2>Waits</h2>{charts.histogram(counts)}</section>" if counts else ""


def _causes(calls: Sequence[Call]) -> str:
    return _counts("Why requests were sent again", "cause", "requests", _resends(calls), _CAUSES)


def _reasons(calls: Sequence[Call]) -> str:
    counts = Counter(
        str(call.attributes.get(names.GIVE_UP_REASON)) for call in calls if names.GIVE_UP_REASON in call.attributes
    )
    return _counts("Why calls ended in an error", "reason", "calls", counts, {})


def _counts(title: str, what: str, of: str, counts: Counter[str], words: Mapping[str, str]) -> str:
    if not counts:
        return ""
    rows = [[escape(words.get(key, key)), f"{count:,}"] for key, count in counts.most_common()]
    return f"<section><h2>{title}</h2>{_table((what, of), rows, numbers=(1,))}</section>"
