"""Real processes, real SDK, real Redis, one throttling server. (The figures are in the benchmark; machines that run tests are
busy, so what is asserted here has room.)"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from otel_ratelimit._stores.redis_courier import WARN_AGAIN
from otel_ratelimit.testing import Limit
from tests.helpers.redis_server import RedisServer
from tests.stores.fleet import run_fleet

pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
]

RATE = 2000
"""Tokens a second: twenty calls of a hundred."""


def limit(room: int) -> list[Limit]:
    """A minute's limit with room for so many calls at the start."""
    return [Limit("tokens", 60 * RATE, used=60 * RATE - 100 * room)]


def test_eight_processes_share_one_limit(shared_redis: RedisServer) -> None:
    """Half of them sync, half async: all calls done, in order, hardly a throttle, nobody left behind."""
    result = run_fleet(store=shared_redis.url, limits=limit(60), calls=25)
    assert result.failed == []
    assert result.done == result.served == 200
    bound = (200 - 60) * 100 / RATE
    assert result.makespan >= bound - 0.5
    assert result.makespan <= 2.0 * bound + 5.0
    assert result.late_throttled <= 0.05 * 200
    assert result.least_share() >= 0.6
    assert {report["store"] for report in result.reports if report} == {"RedisStore"}


def test_redis_and_a_worker_are_killed_in_the_middle(own_redis: RedisServer) -> None:
    """First a worker, by SIGKILL, then Redis, which comes back empty: the others' calls are all done, and none stands still."""

    def meanwhile(processes: list[int]) -> None:
        def trouble() -> None:
            time.sleep(2.0)
            os.kill(processes[0], signal.SIGKILL)
            time.sleep(1.0)
            own_redis.kill()
            time.sleep(2.0)
            own_redis.start()

        troubles.append(threading.Thread(target=trouble))
        troubles[0].start()

    troubles: list[threading.Thread] = []
    result = run_fleet(store=own_redis.url, limits=limit(40), processes=5, calls=40, meanwhile=meanwhile)
    troubles[0].join(30)
    assert result.reports[0] is None
    assert result.failed == []
    assert result.done == 4 * 40
    assert result.late_throttled <= 0.25 * 160
    assert result.slowest < 30.0
    for report in result.reports[1:]:
        assert report is not None
        warned = [line for line in report["log"] if "Redis cannot be used" in line]
        assert len(warned) <= 1 + (result.makespan + 10.0) // WARN_AGAIN  # once, if all of it takes less than that
    assert sum("Redis cannot be used" in line for line in result.log) >= 1
