"""``report``: from files of traces to a page, which a real browser then lays out."""

from __future__ import annotations

import contextlib
import html
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit._commands.otlp_json import spans_as_json
from otel_ratelimit._commands.report import charts, otlp, page
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer, throttle_reply
from tests.telemetry_probe import Probe

Here = Callable[..., tuple[int, str, str]]


def recorded() -> tuple[dict[str, Any], int]:
    """OTLP of real calls: three that recover, one of them after two throttles, one that is hopeless; and the server's count."""
    probe = Probe()
    otel_ratelimit.instrument(policy=otel_ratelimit.Policy(pacing=False), tracer_provider=probe.tracer_provider)
    quota = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    with (
        ThrottlingServer([Limit("tokens", 100_000)]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        scripts = (
            [throttle_reply(0.06), throttle_reply(0.2), Reply.ok(before=0.05)],
            [throttle_reply(0.06)],
            [Reply(status=429, json=quota)],
        )
        for script in scripts:
            server.script(script)
            with contextlib.suppress(openai.RateLimitError):
                client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        server.take("tokens", 100_000)
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=400)
        throttled = server.counts.throttled
    document = spans_as_json(probe.spans())
    probe.shutdown()
    return document, throttled


@pytest.fixture(scope="module")
def traces() -> tuple[dict[str, Any], int]:
    made = recorded()
    otel_ratelimit.uninstrument()
    return made


def test_the_figures_are_the_servers(traces: tuple[dict[str, Any], int], tmp_path: Path, here: Here) -> None:
    """Calls, throttles, waits and outcomes of the file stand on the page; a word on the terminal says where it is."""
    document, throttled = traces
    file = tmp_path / "traces.json"
    file.write_text(json.dumps(document))
    status, out, err = here("report", file)
    assert (status, out) == (0, "")
    assert err == f"4 calls, {throttled} throttles: {tmp_path / 'traces.html'}\n"
    text = (tmp_path / "traces.html").read_text()
    for label, value in (
        ("calls disturbed", 4),
        ("throttled responses", throttled),
        ("recovered", 3),
        ("ended in an error", 1),
    ):
        assert f"<dt>{label}</dt><dd>{value}</dd>" in text
    spent = dict(re.findall(r"<dt>(waited[^<]*)</dt><dd>([\d.]+) s</dd>", text))
    assert list(spent) == ["waited in all"] + [
        f"waited: {part}" for part in ("asked for by the server", "buffer", "in the queue", "backoff")
    ]
    in_all, *parts = (float(seconds) for seconds in spent.values())
    assert sum(parts) == pytest.approx(in_all, abs=0.25)  # each is shown to a tenth
    assert parts[0] > 0
    assert "<td>quota</td><td class=number>1</td>" in text
    assert "<td>throttled</td>" in text
    assert "<h2>By model</h2>" not in text  # there is one
    assert text.count('<rect class="throttle"') == throttled + 1  # the legend's
    assert text.count('<rect class="retry"') == throttled - 1 + 1  # all but the hopeless one; the legend's


def test_lines_as_the_collectors_file_exporter_writes_them(
    traces: tuple[dict[str, Any], int], tmp_path: Path, here: Here
) -> None:
    """A document a line, spans and metrics mixed, calls and their parts in different lines, the last line half written."""
    (resource,) = traces[0]["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    lines = [{"resourceSpans": [{**resource, "scopeSpans": [{**scope, "spans": [span]}]}]} for span in scope["spans"]]
    now = scope["spans"][0]["startTimeUnixNano"]
    point = {
        "timeUnixNano": now,
        "asInt": "1500",
        "attributes": [{"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o"}}],
    }
    metric = {"name": "otel_ratelimit.tokens.remaining", "gauge": {"dataPoints": [point]}}
    lines.insert(1, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric, {"name": "other", "sum": {}}]}]}]})
    lines.insert(2, {"resourceLogs": []})
    file = tmp_path / "collector.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"resourceSp')
    status, _, err = here("report", file, "--output", tmp_path / "page.html")
    assert status == 0, err
    assert err.startswith(f"4 calls, {traces[1]} throttles")
    recording = otlp.read(file)
    ((at, left),) = recording.remaining["gpt-4o", "tokens"]
    assert at == pytest.approx(int(now) / 1e9)
    assert left == 1500.0
    assert "Tokens left" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("", 2, "it is empty"),
        ("Dear diary", 2, "line 1 is no JSON"),
        ("[1, 2]", 2, "neither resourceSpans nor resourceMetrics"),
        ('{"data": []}', 2, "neither resourceSpans nor resourceMetrics"),
        (
            '{"resourceSpans": [{"scopeSpans": [{"scope": {"name": "otel_ratelimit"}, "spans": [{}]}]}]}',
            2,
            "is missing",
        ),
        ('{"resourceSpans": 7}', 2, "wrong type"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, status: int, said: str, tmp_path: Path, here: Here) -> None:
    """No page is left, no traceback shown."""
    file = tmp_path / "file.json"
    file.write_text(text)
    got, _, err = here("report", file)
    assert got == status
    assert said in err
    assert not (tmp_path / "file.html").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"resourceSpans": []}', "makes no span of otel_ratelimit"),
        (
            '{"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}, "spans": [{}, {}]}]}]}',
            "The file has 2 spans of other instrumentations.",
        ),
    ],
)
def test_a_page_that_nothing_was_throttled(text: str, said: str, tmp_path: Path, here: Here) -> None:
    """Good news is a page and status 0, so that a job in CI does not fail by it."""
    file = tmp_path / "file.json"
    file.write_text(text)
    status, _, err = here("report", file)
    assert (status, err) == (0, f"nothing was throttled: {tmp_path / 'file.html'}\n")
    shown = (tmp_path / "file.html").read_text()
    assert "<h1>Nothing was throttled in file.json</h1>" in shown
    assert said in shown
    assert "<svg" not in shown


def test_a_program_is_no_file_of_traces(tmp_path: Path, here: Here) -> None:
    """What it expected, and the two commands that lead there."""
    file = tmp_path / "app.py"
    file.write_text("print(1)\n")
    status, _, err = here("report", file)
    assert status == 2
    assert f"otel-ratelimit run --file traces.json -- python {file}" in err
    assert "otel-ratelimit report traces.json" in err


def many(number: int, models: tuple[str, ...] = ("m",)) -> list[otlp.Call]:
    calls = []
    for one in range(number):
        model = models[one % len(models)]
        attributes = {"otel_ratelimit.outcome": "recovered"}
        call = otlp.Call(f"rate_limited chat {model}", model, one * 0.1, one * 0.1 + 2, attributes, "0" * 32)
        call.parts.append(otlp.Part("wait", call.start, call.start + one % 100 / 50, {}))
        call.parts.append(otlp.Part("retry", call.end - 0.1, call.end, {"otel_ratelimit.retry.reason": "timeout"}))
        calls.append(call)
    return calls


def test_several_models_have_colours_and_a_table() -> None:
    """A legend in each picture, a row for each model, and resends by cause; eight models have eight different marks."""
    models = tuple(f"model-{number}" for number in range(8))
    calls = many(80, models)
    levels = {(model, "tokens"): [(1.0, 5.0), (2.0, 7.0)] for model in models}
    text = page.render(otlp.Recording(160, calls, levels), "x.json")
    table = text[text.index("<h2>By model</h2>") : text.index("<h2>Timeline</h2>")]
    assert table.count("<tr>") == 1 + 8
    tokens = text[text.index("<h2>Tokens left</h2>") : text.index("<h2>Waits</h2>")]
    marks = re.findall(r'<circle class="(line\d(?: dashed)?)" cx="5"', tokens)
    assert len(marks) == len(set(marks)) == 8
    for model, mark in zip(models, marks, strict=True):
        assert f'<g class="{mark}"><title>tokens left, {model}</title>' in tokens
    assert "<td>no answer in time</td><td class=number>80</td>" in text


def test_fifty_rows_first_and_the_rest_on_demand() -> None:
    """Timeline and table; nothing is lost."""
    text = page.render(otlp.Recording(120, many(120)), "x.json")
    first, rest = text.split("<details><summary>All 120 calls</summary>")
    assert first.count('<g class="call">') == 50
    assert rest.count('<g class="call">') == 120
    assert "<summary>The other 70</summary>" in rest
    assert "The 50 of 120 calls that waited longest." in first
    few = page.render(otlp.Recording(50, many(50)), "x.json")
    assert few.count('<g class="call">') == 50
    assert "The other" not in few


def test_the_axis_is_on_top_and_in_the_right_unit() -> None:
    """Above the first row, so that it is on the screen with it; hours are no thousands of seconds."""
    call = otlp.Call("rate_limited chat m", "m", 0.0, 13_560.0, {"otel_ratelimit.outcome": "recovered"}, "0" * 32)
    call.parts.append(otlp.Part("wait", 0.0, 13_560.0, {}))
    text = page.render(otlp.Recording(1, [call]), "x.json")
    picture = charts.timeline([call], ["m"], 0.0, 13_560.0)
    labels = [float(y) for y in re.findall(r'<text class="label[^"]*" x="[^"]*" y="([^"]*)"', picture)]
    rows = [float(y) for y in re.findall(r'<rect class="wait"[^>]* y="([^"]*)"', picture)]
    assert max(labels) < min(rows)
    assert re.findall(r">([^<>]+)</text>", picture)[:3] == ["0 min", "30 min", "60 min"]
    assert "<dd>3 h 46 min</dd>" in text
    assert charts._tick(7200, 7200) == "2 h"
    assert charts._tick(0.2, 0.2) == "0.2 s"


def test_files_that_cannot_be_read_or_written(traces: tuple[dict[str, Any], int], tmp_path: Path, here: Here) -> None:
    """Named, with the reason; the input is never overwritten."""
    assert here("report", tmp_path / "none.json")[0] == 2
    file = tmp_path / "traces.html"
    file.write_text(json.dumps(traces[0]))
    assert here("report", file)[0] == 2
    assert here("report", file, "--output", tmp_path / "no" / "page.html")[0] == 2
    assert json.loads(file.read_text()) == traces[0]


def test_names_from_the_file_cannot_become_markup() -> None:
    """A model is named by whoever calls the API."""
    evil = "<script>alert(1)</script>\"'&"
    call = otlp.Call(
        f"rate_limited chat {evil}",
        evil,
        0.0,
        1.0,
        {"otel_ratelimit.outcome": evil, "otel_ratelimit.give_up.reason": evil},
        evil,
    )
    call.parts.append(otlp.Part("throttle", 0.1, 0.2, {"otel_ratelimit.limit.kind": evil}))
    text = page.render(otlp.Recording(1, [call], {(evil, "tokens"): [(0.5, 1.0)]}), evil)
    assert "<script" not in text
    assert html.escape(evil) in text


def test_a_file_of_many_calls_stays_a_page() -> None:
    """The timeline shows those that waited longest, and says so."""
    text = page.render(otlp.Recording(10_000, many(5_000)), "big.json")
    assert len(text) < 1_000_000
    assert "The 50 of 5,000 calls that waited longest." in text
    assert f"<summary>The {page.MOST} that waited longest</summary>" in text


def test_buckets_are_those_of_the_metric() -> None:
    """Upper bounds belong to their bucket, as Prometheus has it; empty ends are left out."""
    assert charts.buckets([0.05, 0.06, 0.25, 700.0])[:3] == [("≤ 0.05 s", 1), ("≤ 0.1 s", 1), ("≤ 0.25 s", 1)]
    assert charts.buckets([700.0]) == [("over 600 s", 1)]
    assert charts.buckets([]) == []


# What a browser makes of the page, written into it by a script that only this test adds.
PROBE = """<script>
addEventListener("load", () => {
  const box = (selector) => [...document.querySelectorAll(selector)].map((e) => e.getBoundingClientRect());
  const bars = box("section .call .throttle, section .call .wait, section .call .retry");
  const contrast = (() => {
    const light = (colour) => {
      const [r, g, b] = colour.match(/[0-9.]+/g).map((v) => v / 255)
        .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const page = light(getComputedStyle(document.body).backgroundColor);
    return ["body", "p", "dd", "dt"].map((selector) => {
      const text = light(getComputedStyle(document.querySelector(selector)).color);
      return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
    });
  })();
  document.documentElement.dataset.measured = JSON.stringify({
    background: getComputedStyle(document.body).backgroundColor,
    text: Math.min(...[...document.querySelectorAll("text")].filter((e) => e.getBoundingClientRect().width > 0)
      .map((e) => e.getBoundingClientRect().height)),
    overlaps: [...document.querySelectorAll("section > svg")].map((svg) => {
      const boxes = [...svg.querySelectorAll("text")].map((e) => e.getBoundingClientRect()).filter((b) => b.width > 0);
      return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom
        && b.top < a.bottom)).length;
    }).reduce((a, b) => a + b, 0),
    overflow: document.documentElement.scrollWidth - innerWidth,
    requests: performance.getEntriesByType("resource").length,
    bars: bars.length,
    invisible: bars.filter((bar) => bar.width <= 0 || bar.height <= 0).length,
    outside: bars.filter((bar) => bar.left < 0 || bar.right > innerWidth).length,
    pictures: [...document.querySelectorAll("section > svg")].map((svg) => svg.getAttribute("aria-label") || ""),
    contrast: Math.min(...contrast),
  });
});
</script></body>"""


@pytest.fixture(scope="module")
def browser() -> str:
    """A Chromium of the system's; CI installs it (.ci/run)."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here: `apt-get install chromium` runs the browser's test of the report")
    return found


def measured(browser: str, file: Path, *options: str) -> dict[str, Any]:
    dump = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={file.parent / 'profile'}", "--virtual-time-budget=2000", *options, "--dump-dom", file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )  # fmt: skip
    found = re.search(r'data-measured="([^"]*)"', dump.stdout)
    assert found is not None, dump.stderr
    values: dict[str, Any] = json.loads(html.unescape(found[1]))
    return values


@pytest.mark.parametrize(
    ("options", "background"),
    [
        (["--window-size=1200,900"], "rgb(255, 255, 255)"),
        (["--window-size=500,900", "--blink-settings=preferredColorScheme=0"], "rgb(20, 23, 28)"),
    ],
    ids=["wide and light", "narrow and dark"],
)
def test_in_a_real_browser(
    browser: str, traces: tuple[dict[str, Any], int], tmp_path: Path, options: list[str], background: str
) -> None:
    """Laid out: every bar has a size and is inside, nothing is wider than the window, nothing is loaded, text can be read (WCAG
    AA: a contrast of 4.5), each picture has words for those who do not see it."""
    recording = otlp.gather([traces[0]])
    text = page.render(recording, "traces.json")
    assert "default-src 'none'" in text  # which would also forbid this test's own script
    file = tmp_path / "page.html"
    file.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", text).replace("</body>", PROBE))
    found = measured(browser, file, *options)
    assert found["background"] == background
    assert found["bars"] == sum(len(call.parts) for call in recording.calls)
    assert (found["invisible"], found["outside"], found["requests"]) == (0, 0, 0)
    assert found["overflow"] <= 0
    assert found["text"] >= 10  # pixels: the height of a line of the smallest text in a picture
    assert found["overlaps"] == 0
    assert found["contrast"] >= 4.5
    assert [label.split(":")[0] for label in found["pictures"]] == [
        "Timeline of the calls",
        "Left of the limit over time",
        "How long the waits were",
    ]


def test_the_page_says_when_it_was() -> None:
    """In UTC, which does not depend on who reads it."""
    call = otlp.Call("rate_limited chat m", "m", 1_795_561_461.0, 1_795_561_463.0, {}, "0" * 32)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(1_795_561_461.0))
    assert stamp in page.render(otlp.Recording(1, [call]), "x.json")
