"""Draws docs/images/trace.svg from a real run: one call, throttled twice by the test server, then answered.

Run it after a change to the spans: ``uv run --group test python docs/pictures.py``
"""

import io
import re
import unittest.mock
from pathlib import Path

import openai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console
from rich.text import Text

import otel_ratelimit
from otel_ratelimit._commands.demo import timeline
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply

COLOURS = {"rate_limited": "bold white", "throttle": "red", "wait": "yellow", "retry": "green"}

WIDTH = 96
"""Columns."""


def main() -> None:
    """Run, draw, save."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel_ratelimit.instrument(policy=otel_ratelimit.Policy(pacing=False), tracer_provider=provider)
    script = [throttle_reply(0.564), throttle_reply(0.28), Reply.ok(before=0.35)]
    with (
        ThrottlingServer(script=script, throttled_latency=0.06) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        _ = client.chat.completions  # imports what the SDK imports late, so that it is not in the picture
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    spans = list(exporter.get_finished_spans())
    call = timeline.most_telling(spans)
    assert call is not None
    # Narrow, so that it can be read at the width of a page: the bars are half as long, and what explains itself is left out.
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with unittest.mock.patch.object(timeline, "BAR", 24):
        lines = timeline.draw(call, spans)
    for line in lines:
        short = re.sub(r" \(body-message\)|, queue 0\.\d* s|: server.*", "", line)
        console.print(Text(short[:WIDTH], style=COLOURS[line.split()[0]]))
    svg = console.export_svg(title="a throttled call, as otel_ratelimit traces it")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # rich names fonts on a foreign host
    (Path(__file__).parent / "images" / "trace.svg").write_text(svg)


if __name__ == "__main__":
    main()
