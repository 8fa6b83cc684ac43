"""How much work something is, told without the machine's speed: by ratios, and by counted Python calls."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

Work = Callable[[], Any]

_NEGLIGIBLE = 0.0005
"""Seconds below which a clock's own noise is as large as the difference looked for."""


def grows_at_most(factor: float, small: Work, large: Work) -> bool:
    """Whether ``large`` takes at most ``factor`` times as long as ``small``.

    Both run in turn, and the quickest run of each counts, in this thread's own processor time: what else the machine does can
    only slow a run. Ends as soon as the answer is yes; thirty rounds without it are a no.
    """
    least_small = least_large = math.inf
    for _ in range(30):
        least_small, least_large = min(least_small, _seconds(small)), min(least_large, _seconds(large))
        if least_large <= max(factor * least_small, _NEGLIGIBLE):
            return True
    return False


def _seconds(work: Work) -> float:
    gc.collect(0)
    gc.disable()
    try:
        begin = time.thread_time()
        work()
        return time.thread_time() - begin
    finally:
        gc.enable()


def python_calls(work: Work, *, below: str = "") -> int:
    """How many Python functions ``work`` enters, itself included: the same on every machine. ``below``: of files there only."""
    count = 0

    def entered(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(below)

    before = sys.getprofile()
    sys.setprofile(entered)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
