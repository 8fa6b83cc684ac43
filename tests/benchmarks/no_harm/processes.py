"""Each run in a process of its own, forked after the imports: nothing that one run leaves behind reaches another."""

from __future__ import annotations

import os
import pickle
import resource
import selectors
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MOST_CPU = 60
"""Seconds of processor time after which a run is ended: it makes no progress."""


class DiedError(Exception):
    """The process ended without a result; says why, as far as it is known."""


def forked(tasks: Sequence[Callable[[], Any]], jobs: int) -> Iterator[tuple[int, Any]]:
    """Run each task in a fork, at most ``jobs`` at a time; yields its index and its result, or a DiedError, as they end."""
    waiting = list(enumerate(tasks))[::-1]
    selector = selectors.DefaultSelector()
    open_pipes = 0
    while waiting or open_pipes:
        while waiting and open_pipes < jobs:
            index, task = waiting.pop()
            reader, child = _start(task)
            selector.register(reader, selectors.EVENT_READ, (index, child, bytearray()))
            open_pipes += 1
        for key, _ in selector.select():
            index, child, data = key.data
            part = os.read(key.fd, 1 << 20)
            if part:
                data += part
                continue
            selector.unregister(key.fd)
            os.close(key.fd)
            open_pipes -= 1
            _, status = os.waitpid(child, 0)
            yield index, pickle.loads(bytes(data)) if data else DiedError(f"ended by {_cause(status)}")


def _cause(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"


def _start(task: Callable[[], Any]) -> tuple[int, int]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writer)
        return reader, child
    try:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU, MOST_CPU))
        try:
            result: Any = task()
        except BaseException as error:
            result = DiedError("".join(traceback.format_exception(error)[-4:]))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(result))
    finally:
        os._exit(0)
