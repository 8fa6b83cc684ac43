"""The three pictures, as inline SVG. Pure: figures in, text out. Colours are classes; the page's style sheet names them.

Every picture says in a title and a description what it shows; the figures behind it stand in a table on the page.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeVar

from otel_ratelimit._commands.report.otlp import Call, Part
from otel_ratelimit._telemetry import names

Drawn = TypeVar("Drawn")

WIDTH: Final = 1000
"""Units of the pictures' own coordinates; the browser scales them to the page."""

LEFT: Final = 60
RIGHT: Final = 20
ROW: Final = 12
BAR: Final = 8
MOST_ROWS: Final = 400
"""Calls in the timeline. Beyond it those that waited longest are shown."""

MOST_BARS: Final = 500
"""Throttles, waits and resends that are drawn of one call: half a row's width. Beyond it the longest are."""

SHORTEST: Final = 0.005
"""Seconds. Shorter gaps are the time between two lines of code."""

WAITED_FOR: Final = {
    names.WAIT_HINT: "asked for by the server",
    names.WAIT_BUFFER: "buffer",
    names.WAIT_QUEUED: "in the queue",
    names.WAIT_BACKOFF: "backoff",
}
"""The parts of a wait, as a reader calls them."""

BOUNDS: Final = (0.0, *names.DURATION_BOUNDS, float("inf"))


def timeline(calls: Sequence[Call]) -> str:
    """A row for each call: a thin bar for all of it, thicker ones for its attempts, throttles and waits."""
    shown = sorted(sorted(calls, key=lambda call: -call.waited)[:MOST_ROWS], key=lambda call: (call.start, call.end))
    begin, end = min(call.start for call in shown), max(call.end for call in shown)
    scale = Scale(begin, end)
    height = ROW * len(shown) + 30
    parts = [_axis(end - begin, height - 24)]
    for row, call in enumerate(shown):
        y = 4 + row * ROW
        parts.append(
            f'<g class="call"><title>{escape(_told(call, begin))}</title>'
            f'<rect class="whole" x="{scale.x(call.start)}" y="{y + BAR // 2 - 1}" height="2"'
            f' width="{scale.width(call.start, call.end)}"/>'
        )
        gaps = _longest(_gaps(call), lambda gap: gap[1] - gap[0])
        parts += [_bar("attempt", start, stop, "first attempt", y=y, scale=scale) for start, stop in gaps]
        drawn = _longest(call.parts, lambda part: part.end - part.start)
        parts += [_bar(part.kind, part.start, part.end, _remark(part), y=y, scale=scale) for part in drawn]
        parts.append("</g>")
    return _svg(
        "Timeline of the calls", f"{len(shown)} calls, one row each, over {end - begin:.1f} seconds", height, parts
    )


def remaining(levels: Mapping[tuple[str, str], Sequence[tuple[float, float]]], begin: float, end: float) -> str:
    """What was left of one or more limits over time; a line each."""
    top = max(value for points in levels.values() for _, value in points) or 1.0
    height, floor, scale = 220, 190, Scale(begin, end)
    parts = [_axis(end - begin, floor)]
    for value in (0.0, top / 2, top):
        y = floor - value / top * (floor - 12)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for number, ((model, kind), points) in enumerate(levels.items()):
        at = [(scale.x(time), floor - value / top * (floor - 12)) for time, value in _thinned(points, begin, end)]
        path = " ".join(f"{x},{y:.1f}" for x, y in at)
        parts.append(
            f'<g class="line{number % 3}"><title>{escape(f"{kind} left, {model}")}</title><polyline points="{path}"/>'
        )
        if len(at) <= 200:
            parts += [f'<circle cx="{x}" cy="{y:.1f}" r="2.5"/>' for x, y in at]
        parts.append("</g>")
    what = ", ".join(f"{kind} of {model}" for model, kind in levels)
    return _svg("Left of the limit over time", f"{what}: from {_short(top)} at most down to 0", height, parts)


def buckets(waits: Sequence[float]) -> list[tuple[str, int]]:
    """How many waits fall between two bounds of the metric ``otel_ratelimit.wait.duration``; empty ends are left out."""
    found = Counter(max(bisect.bisect_left(BOUNDS, wait) - 1, 0) for wait in waits)
    counts = [(_between(low, high), found[index]) for index, (low, high) in enumerate(itertools.pairwise(BOUNDS))]
    filled = [index for index, (_, count) in enumerate(counts) if count]
    return counts[filled[0] : filled[-1] + 1] if filled else []


def histogram(counts: Sequence[tuple[str, int]]) -> str:
    """A bar for each bucket."""
    height, floor = 220, 180
    most = max(count for _, count in counts)
    step = (WIDTH - LEFT - RIGHT) / len(counts)
    parts = []
    for index, (label, count) in enumerate(counts):
        size = count / most * (floor - 24)
        x = LEFT + index * step
        parts.append(
            f"<g><title>{escape(label)}: {count} waits</title>"
            f'<rect class="wait" x="{x + step * 0.1:.1f}" y="{floor - size:.1f}" width="{step * 0.8:.1f}" height="{size:.1f}"/>'
            f'<text class="label" x="{x + step / 2:.1f}" y="{floor - size - 5:.1f}" text-anchor="middle">{count or ""}</text>'
            f'<text class="label" x="{x + step / 2:.1f}" y="{floor + 18}" text-anchor="middle">{escape(label)}</text></g>'
        )
    return _svg("How long the waits were", "; ".join(f"{label}: {count}" for label, count in counts), height, parts)


def _longest(found: Sequence[Drawn], length: Callable[[Drawn], float]) -> Sequence[Drawn]:
    """As many as are drawn, in the order in which they came."""
    if len(found) <= MOST_BARS:
        return found
    kept = sorted(range(len(found)), key=lambda index: -length(found[index]))[:MOST_BARS]
    return [found[index] for index in sorted(kept)]


def _thinned(points: Sequence[tuple[float, float]], begin: float, end: float) -> Sequence[tuple[float, float]]:
    """Where there are more points than the picture has columns: the lowest of each column, which is what matters of it."""
    if len(points) <= WIDTH:
        return points
    lowest: dict[int, tuple[float, float]] = {}
    for point in points:
        column = int((point[0] - begin) / ((end - begin) or 1.0) * WIDTH)
        if column not in lowest or point[1] < lowest[column][1]:
            lowest[column] = point
    return sorted(lowest.values())


def _gaps(call: Call) -> list[tuple[float, float]]:
    """When a call neither waited nor was sent again: its first attempt was under way, which has no span of its own."""
    gaps, reached = [], call.start
    for start, end in [*((part.start, part.end) for part in call.parts), (call.end, call.end)]:
        if start - reached > SHORTEST:
            gaps.append((reached, start))
        reached = max(reached, end)
    return gaps


def _svg(title: str, description: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(title)}: {escape(description)}" viewBox="0 0 {WIDTH} {height}"'
        f' preserveAspectRatio="xMidYMin meet">{"".join(parts)}</svg>'
    )


def _axis(seconds: float, y: float) -> str:
    step = _step(seconds)
    parts = []
    tick = 0.0
    while tick <= seconds:
        x = LEFT + tick / (seconds or 1) * (WIDTH - LEFT - RIGHT)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{y}"/>')
        parts.append(f'<text class="label" x="{x:.1f}" y="{y + 16}" text-anchor="middle">{tick:g} s</text>')
        tick = round(tick + step, 6)
    return "".join(parts)


def _step(seconds: float) -> float:
    """A round number that gives at most ten ticks."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600):
        if seconds / step <= 10:
            return step
    return max(3600.0, float(round(seconds / 10)))


@dataclass(frozen=True)
class Scale:
    """From seconds since the epoch to a picture's own coordinates."""

    begin: float
    end: float

    def x(self, time: float) -> str:
        return f"{LEFT + (min(max(time, self.begin), self.end) - self.begin) * self._per_second:.2f}"

    def width(self, start: float, stop: float) -> str:
        return f"{max(1.0, (stop - start) * self._per_second):.2f}"

    @property
    def _per_second(self) -> float:
        return (WIDTH - LEFT - RIGHT) / ((self.end - self.begin) or 1)


def _bar(kind: str, start: float, stop: float, title: str, *, y: int, scale: Scale) -> str:
    return (
        f'<rect class="{kind}" x="{scale.x(start)}" y="{y}" height="{BAR}" width="{scale.width(start, stop)}">'
        f"<title>{escape(f'{kind}, {stop - start:.3f} s: {title}')}</title></rect>"
    )


def _remark(part: Part) -> str:
    attributes = part.attributes
    if part.kind == "throttle":
        delay = attributes.get(names.HINT_DELAY)
        asked = "no delay named" if delay is None else f"asked for {delay} s"
        return f"{attributes.get(names.STATUS_CODE)}, {attributes.get(names.LIMIT_KIND)}, {asked}"
    if part.kind == "wait":
        told = [f"{what} {attributes[name]:.3f} s" for name, what in WAITED_FOR.items() if attributes.get(name)]
        return ", ".join([str(attributes.get(names.WAIT_REASON, "")), *told])
    ended = attributes.get(names.STATUS_CODE, attributes.get(names.ERROR_TYPE, ""))
    return f"resend {attributes.get(names.RESEND_COUNT)}, {ended}"


def _told(call: Call, begin: float) -> str:
    return (
        f"{call.name}, from {call.start - begin:.2f} s, {call.end - call.start:.2f} s long: throttled {call.throttles} times,"
        f" waited {call.waited:.2f} s, {call.outcome}"
    )


def _between(low: float, high: float) -> str:
    return f"over {low:g} s" if high == float("inf") else f"≤ {high:g} s"


def _short(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
