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

from otel_ratelimit._commands.output import counted
from otel_ratelimit._commands.report.otlp import Call, Part
from otel_ratelimit._core.words import duration
from otel_ratelimit._telemetry import names

Drawn = TypeVar("Drawn")

WIDTH: Final = 1000
"""Units of the pictures' own coordinates; the browser scales them to the page."""

LEFT: Final = 70
RIGHT: Final = 30
HEAD: Final = 34
"""Of the axis above the rows; its text is twice as large on a narrow page, where all of the picture is half as large."""

ROW: Final = 12
BAR: Final = 8
COLOURS: Final = 6
"""Of models; further ones have them again, dashed."""

MOST_BARS: Final = 500
"""Throttles, waits and resends that are drawn of one call: half a row's width. Beyond it the longest are."""

SHORTEST: Final = 0.005
"""Seconds. Shorter gaps are the time between two lines of code."""

MOST_LABELS: Final = 5
"""Buckets that have their labels side by side on a narrow page."""

WAITED_FOR: Final = {
    names.WAIT_HINT: "asked for by the server",
    names.WAIT_BUFFER: "buffer",
    names.WAIT_QUEUED: "in the queue",
    names.WAIT_BACKOFF: "backoff",
}
"""The parts of a wait, as a reader calls them."""

BOUNDS: Final = (0.0, *names.DURATION_BOUNDS, float("inf"))


def timeline(calls: Sequence[Call], models: Sequence[str], begin: float, end: float) -> str:
    """A row for each call: a thin bar for all of it, thicker ones for its attempts, throttles and waits. The axis is on top.

    Args:
        calls: in the order of the rows.
        models: where there are several, a mark at the row's beginning has the model's colour.
        begin: the left end, seconds since the epoch.
        end: the right end.
    """
    scale = Scale(begin, end)
    height = ROW * len(calls) + HEAD + 4
    parts = [_axis(end - begin, HEAD - 10, top=HEAD, bottom=height)]
    for row, call in enumerate(calls):
        y = HEAD + 4 + row * ROW
        parts.append(
            f'<g class="call"><title>{escape(_told(call, begin))}</title>'
            f'<rect class="whole" x="{scale.x(call.start)}" y="{y + BAR // 2 - 1}" height="2"'
            f' width="{scale.width(call.start, call.end)}"/>'
        )
        if len(models) > 1 and call.model in models:
            at = f'cx="{LEFT - 12}" cy="{y + BAR // 2}" r="{BAR // 2}"'
            parts.append(f'<circle class="{colour(models, call.model)}" {at}/>')
        gaps = _longest(_gaps(call), lambda gap: gap[1] - gap[0])
        parts += [_bar("attempt", start, stop, "first attempt", y=y, scale=scale) for start, stop in gaps]
        drawn = _longest(call.parts, lambda part: part.end - part.start)
        parts += [_bar(part.kind, part.start, part.end, _remark(part), y=y, scale=scale) for part in drawn]
        parts.append("</g>")
    return _svg(
        "Timeline of the calls",
        f"{counted(len(calls), 'call')}, one row each, over {duration(end - begin)}",
        height,
        parts,
    )


def colour(models: Sequence[str], model: str) -> str:
    """The classes of a model's colour."""
    number = models.index(model)
    return f"line{number % COLOURS}" + (" dashed" if number >= COLOURS else "")


def remaining(
    levels: Mapping[tuple[str, str], Sequence[tuple[float, float]]], models: Sequence[str], begin: float, end: float
) -> str:
    """What was left of one or more limits over time; a line each, in its model's colour."""
    top = max(value for points in levels.values() for _, value in points) or 1.0
    height, floor, head, scale = 250, 240, HEAD + 20, Scale(begin, end)
    parts = [_axis(end - begin, HEAD - 10, top=HEAD, bottom=floor)]
    for value in (0.0, top / 2, top):
        y = floor - value / top * (floor - head)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for (model, kind), points in levels.items():
        at = [(scale.x(time), floor - value / top * (floor - head)) for time, value in _thinned(points, begin, end)]
        path = " ".join(f"{x},{y:.1f}" for x, y in at)
        name = colour(models, model) if model in models else "line0"
        parts.append(f'<g class="{name}"><title>{escape(f"{kind} left, {model}")}</title><polyline points="{path}"/>')
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
            f"<g><title>{escape(label)}: {counted(count, 'wait')}</title>"
            f'<rect class="wait" x="{x + step * 0.1:.1f}" y="{floor - size:.1f}" width="{step * 0.8:.1f}" height="{size:.1f}"/>'
            f'<text class="label" x="{x + step / 2:.1f}" y="{floor - size - 5:.1f}" text-anchor="middle">{count or ""}</text>'
            f'<text class="label{" minor" if index % 2 and len(counts) > MOST_LABELS else ""}" x="{x + step / 2:.1f}"'
            f' y="{floor + 24}" text-anchor="middle">{escape(label)}</text></g>'
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


def _axis(seconds: float, y: float, *, top: float, bottom: float) -> str:
    step = _step(seconds)
    parts = []
    for number in range(int(seconds / step + 1e-9) + 1):
        x = LEFT + number * step / (seconds or 1) * (WIDTH - LEFT - RIGHT)
        minor = " minor" if number % 3 else ""
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="label{minor}" x="{x:.1f}" y="{y}" text-anchor="middle">{_tick(number * step, step)}</text>'
        )
    return "".join(parts)


def _tick(seconds: float, step: float) -> str:
    """In the largest unit that the axis' step is a multiple of."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if step >= size:
            return f"{round(seconds / size, 6):g} {unit}"
    return f"{round(seconds, 6):g} s"


def _step(seconds: float) -> float:
    """A round number that gives at most ten ticks."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200):
        if seconds / step <= 10:
            return step
    return 86_400.0 * max(1, round(seconds / 864_000))


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
        f"{call.name}, from {duration(call.start - begin)}, {duration(call.end - call.start)} long:"
        f" throttled {counted(call.throttles, 'time')}, waited {duration(call.waited)}, {call.outcome}"
    )


def _between(low: float, high: float) -> str:
    return f"over {low:g} s" if high == float("inf") else f"≤ {high:g} s"


def _short(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
