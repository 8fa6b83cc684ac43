"""A program of many greenlets: ``python -m tests.frameworks.greenlets URL CALLS before|after``, for when gevent patches.

Prints how many calls were answered, and how often another greenlet had its turn while they waited.
"""

from __future__ import annotations

import sys
from typing import Any

from gevent import monkey  # type: ignore[import-untyped,import-not-found,unused-ignore]

if sys.argv[3] == "before":
    monkey.patch_all()
import otel_ratelimit.auto  # noqa: F401

if sys.argv[3] == "after":
    monkey.patch_all()
import gevent  # type: ignore[import-untyped,import-not-found,unused-ignore]
import openai


def main(url: str, calls: int) -> None:
    """Make all calls at once."""
    turns = 0

    def count_turns() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.02)
            turns += 1

    def call() -> bool:
        messages: Any = [{"role": "user", "content": "Say hello."}]
        return bool(client.chat.completions.create(model="gpt-4o", messages=messages).choices)

    counter = gevent.spawn(count_turns)
    with openai.OpenAI(base_url=url, api_key="test") as client:
        greenlets = [gevent.spawn(call) for _ in range(calls)]
        gevent.joinall(greenlets, timeout=60)
    counter.kill()
    print(sum(greenlet.value is True for greenlet in greenlets), turns)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
