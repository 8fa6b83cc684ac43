"""Where the time of a wait went: figures worked out by hand, and one rule for all: the parts add up, and none is negative."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.events import WaitReason
from otel_ratelimit._core.waits import WaitParts, split_wait

MAYBE = st.none() | st.floats(-1, 1000)
REASONS: list[WaitReason] = ["throttled", "admission", "backoff"]


@pytest.mark.parametrize(
    ("seconds", "reason", "hint", "delay", "parts"),
    [
        # 564 ms asked for, 25 ms of buffer, and the turn came ten seconds later.
        (10.589, "throttled", 0.564, 0.589, (0.564, 0.025, 10.0, 0.0)),
        # Told a reset time, and the bucket let it go before that.
        (3.0, "throttled", 20.0, 20.025, (3.0, 0.0, 0.0, 0.0)),
        # The server's time was over before the wait began: the floor under repeated delays is buffer.
        (0.1, "throttled", -0.01, 0.1, (0.0, 0.1, 0.0, 0.0)),
        # No delay named: our own backoff, then the queue.
        (1.5, "backoff", None, 0.4, (0.0, 0.0, 1.1, 0.4)),
        # A turn alone; what an earlier throttle asked for is not its reason.
        (2.0, "admission", 0.564, 0.589, (0.0, 0.0, 2.0, 0.0)),
        # The SDK's own sleep: of a server's two seconds with jitter on top; and where it did not keep to two hours.
        (2.2, "backoff", 2.0, None, (2.0, 0.0, 0.0, 0.2)),
        (0.5, "backoff", 7200.0, None, (0.0, 0.0, 0.0, 0.5)),
        (0.5, "backoff", None, None, (0.0, 0.0, 0.0, 0.5)),
        # A wait whose time is not known.
        (0.0, "throttled", 1.0, 1.025, (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_by_hand(
    seconds: float, reason: WaitReason, hint: float | None, delay: float | None, parts: tuple[float, ...]
) -> None:
    """Each row a wait."""
    assert split_wait(seconds, reason, hint, delay) == pytest.approx(WaitParts(*parts))


@given(st.floats(0, 1000), st.sampled_from(REASONS), MAYBE, MAYBE)
def test_they_add_up(seconds: float, reason: WaitReason, hint: float | None, delay: float | None) -> None:
    """Whatever was decided and however long it took."""
    parts = split_wait(seconds, reason, hint, delay)
    assert sum(parts) == pytest.approx(seconds)
    assert min(parts) >= 0


def test_of_several_waits() -> None:
    """Part by part."""
    assert WaitParts(1, 2, 3, 4).plus(WaitParts(0.5, 0, 0, 1)) == WaitParts(1.5, 2, 3, 5)
