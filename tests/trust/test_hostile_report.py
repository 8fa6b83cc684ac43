"""``report`` on files that somebody made to break it: a page or one line that says what is wrong, in linear time."""

from __future__ import annotations

import cProfile
import json
from pathlib import Path
from typing import Any

import pytest

from otel_ratelimit.__main__ import main
from otel_ratelimit._commands.report import charts, otlp

WRITTEN, REFUSED = 0, 2


def span(name: str = "rate_limited chat m", number: str = "a", parent: str = "", **fields: Any) -> dict[str, Any]:
    times = {"startTimeUnixNano": "1000000000", "endTimeUnixNano": "2000000000"}
    return {"name": name, "traceId": "t", "spanId": number, "parentSpanId": parent, **times, **fields}


def document(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "otel_ratelimit"}, "spans": list(spans)}]}]}


def with_points(*values: dict[str, Any]) -> dict[str, Any]:
    points = [{"timeUnixNano": str(1_000_000_000 + index), **value} for index, value in enumerate(values)]
    metric = {"name": "otel_ratelimit.tokens.remaining", "gauge": {"dataPoints": points}}
    return {**document(span()), "resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def limits(**values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": f"otel_ratelimit.limit.{name}", "value": value} for name, value in values.items()]


DEEP = '{"a":' * 50_000 + "1" + "}" * 50_000
FILES: dict[str, tuple[str, int]] = {
    "400-digit times": (json.dumps(document(span(startTimeUnixNano="9" * 400, endTimeUnixNano="9" * 401))), REFUSED),
    "a time after 2554": (json.dumps(document(span(endTimeUnixNano=str(1 << 64)))), REFUSED),
    "a negative time": (json.dumps(document(span(startTimeUnixNano="-1"))), REFUSED),
    "NaN for a time": (json.dumps(document(span(startTimeUnixNano=float("nan")))), REFUSED),
    "infinity for a time": (json.dumps(document(span(startTimeUnixNano=float("inf")))), REFUSED),
    "a number of 5,000 digits": (json.dumps(document(span(kind="?"))).replace('"?"', "9" * 5000), REFUSED),
    "deep lists": ("[" * 100_000, REFUSED),
    "deep values": (json.dumps(document(span())).replace('"t"', DEEP), REFUSED),
    "a gauge of 400 digits": (json.dumps(with_points({"asInt": 10**400})), REFUSED),
    "a gauge of NaN": (json.dumps(with_points({"asDouble": float("nan")}, {"asInt": "7"})), WRITTEN),
    "a gauge of infinity": (json.dumps(with_points({"asDouble": "Infinity"}, {"asDouble": "-Infinity"})), WRITTEN),
    "a gauge below zero": (json.dumps(with_points({"asDouble": -1e308}, {"asDouble": 1e308})), WRITTEN),
    "half a character": (json.dumps(document(span(name="rate_limited \ud800"))), WRITTEN),
    "an end before its beginning": (json.dumps(document(span(endTimeUnixNano="1"))), WRITTEN),
    "limits of NaN": (
        json.dumps(
            document(
                span(),
                span(
                    "throttle m", "b", "a", attributes=limits(value={"doubleValue": "NaN"}, used={"doubleValue": "1"})
                ),
            )
        ),
        WRITTEN,
    ),
    "limits of 400 digits": (
        json.dumps(
            document(
                span(),
                span("throttle m", "b", "a", attributes=limits(value={"intValue": "9" * 400}, used={"intValue": "1"})),
            )
        ),
        REFUSED,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_page_or_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No exception comes out, no NaN gets into a picture, and what is said is one short line."""
    text, status = FILES[name]
    file = tmp_path / "traces.json"
    file.write_text(text)
    assert main(["report", str(file)]) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 600
    assert file.with_suffix(".html").exists() == (status == WRITTEN)
    if status == WRITTEN:
        page = file.with_suffix(".html").read_text("utf-8")
        assert "nan" not in page
        assert "inf" not in page.replace("infinite", "")


def waits(number: int) -> str:
    """One call of so many waits."""
    parts = [
        span("wait m", "b", "a", startTimeUnixNano=str(10**9 + index), endTimeUnixNano=str(10**9 + 2 * index))
        for index in range(number)
    ]
    return json.dumps(document(span(), *parts))


def points(number: int) -> str:
    """One gauge of so many points."""
    return json.dumps(with_points(*({"asInt": str(number - index)} for index in range(number))))


@pytest.mark.parametrize("make", [waits, points])
def test_linear_and_bounded(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four times the parts or points of one call: four times the steps at most, counted not timed, and the page grows no more."""
    steps, sizes = [], []
    for number in (5_000, 20_000):
        file = tmp_path / f"{number}.json"
        file.write_text(make(number))
        profile = cProfile.Profile()
        assert profile.runcall(main, ["report", str(file)]) == WRITTEN
        steps.append(sum(entry.callcount for entry in profile.getstats()))
        sizes.append(file.with_suffix(".html").stat().st_size)
    capsys.readouterr()
    assert steps[1] < 4.2 * steps[0]
    assert sizes[1] < 1.2 * sizes[0] < 300_000


def test_long_names_are_cut(tmp_path: Path) -> None:
    """A name of ten megabytes is not written into the page again and again."""
    file = tmp_path / "traces.json"
    file.write_text(json.dumps(document(span("rate_limited " + "x" * 10**6))))
    (call,) = otlp.read(file).calls
    assert len(call.name) == otlp.MOST_TEXT


def test_the_longest_parts_are_drawn() -> None:
    """Where there are too many: as many as are drawn, in their order, none shorter than one that was left out."""
    lengths = [float(index % 3) for index in range(2 * charts.MOST_BARS)]
    drawn = charts._longest(lengths, lambda one: one)
    assert len(drawn) == charts.MOST_BARS
    assert sorted(drawn) == sorted(lengths)[-charts.MOST_BARS :]
