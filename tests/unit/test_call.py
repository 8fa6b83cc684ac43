"""The core of one call, driven by hand: look at the command, send the event, never sleep."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from otel_ratelimit._core import call
from otel_ratelimit._core.events import (
    Admitted,
    BackOff,
    Command,
    Deliver,
    GiveUp,
    NotBefore,
    Outcome,
    Reserve,
    Send,
    Sleep,
    Verdict,
    Woken,
)
from otel_ratelimit._core.policy import Policy
from otel_ratelimit._core.throttle import Throttle

Run = Generator[Command, Any, Verdict]
ADMITTED = Admitted()


def throttle(delay: float | None = 0.564, **fields: Any) -> Throttle:
    defaults: dict[str, Any] = {
        "source": None if delay is None else "body-message",
        "kind": "tokens",
        "window": "minute",
        "limit": None,
        "used": None,
        "requested": None,
        "retryable": True,
    }
    return Throttle(delay=delay, **{**defaults, **fields})


def start(
    policy: Policy | None = None, *, timeout: float | None = 600.0, max_retries: int = 2, random: float = 0.0
) -> Run:
    return call.run(policy or Policy(buffer=0.05), timeout, max_retries, lambda: random)


def to_first_send(run: Run) -> None:
    assert next(run) == Reserve(None)
    assert run.send(ADMITTED) == Send(None)


def end(run: Run, event: object) -> Verdict:
    with pytest.raises(StopIteration) as stop:
        run.send(event)
    verdict: Verdict = stop.value.value
    return verdict


def test_an_undisturbed_call_asks_once_sends_once_and_delivers() -> None:
    """The main path has two commands."""
    run = start()
    to_first_send(run)
    assert end(run, Outcome(at=10.0)) == Deliver()


def test_a_throttled_call_waits_the_hint_and_the_buffer_then_sends_again() -> None:
    """564 ms and 50 ms of buffer after the verdict at 10 s is 10.614 s; the wait is named for the throttle."""
    run = start()
    to_first_send(run)
    reserve = run.send(Outcome(at=10.0, throttle=throttle(0.564)))
    assert isinstance(reserve, Reserve)
    assert reserve.not_before == pytest.approx(10.614)
    assert run.send(NotBefore(10.0, 10.614, 10.614)) == Sleep(10.614, "throttled")
    assert run.send(Woken(0.614)) == reserve
    assert run.send(ADMITTED) == Send("throttle")
    assert end(run, Outcome(at=11.0)) == Deliver()


def test_without_a_hint_the_wait_is_a_backoff_with_full_jitter() -> None:
    """Ceilings 0.5, 1, 2, ... s; half of each with random = 0.5; the buffer on top."""
    run = start(random=0.5)
    to_first_send(run)
    for ceiling in (0.5, 1.0, 2.0, 4.0):
        reserve = run.send(Outcome(at=100.0, throttle=throttle(None)))
        assert isinstance(reserve, Reserve)
        assert reserve.not_before == pytest.approx(100.05 + ceiling / 2)
        sleep = run.send(NotBefore(100.0, 100.05 + ceiling / 2, 100.05 + ceiling / 2))
        assert isinstance(sleep, Sleep)
        assert sleep.reason == "backoff"
        run.send(Woken(1.0))
        run.send(ADMITTED)


def test_a_delay_over_the_budget_ends_the_call_at_once() -> None:
    """No waiting first, and no cutting down: the caller gets the error while there is time left to do something else."""
    run = start(Policy(buffer=0.05, max_wait=5.0))
    to_first_send(run)
    assert end(run, Outcome(at=0.0, throttle=throttle(5.0))) == GiveUp("budget_exceeded", 5.0 + 0.05, 0.0, 5.0)


def test_the_budget_counts_what_was_waited_before() -> None:
    """Two waits of 3 s do not fit into 5 s; the second is refused."""
    run = start(Policy(buffer=0.0, max_wait=5.0))
    to_first_send(run)
    run.send(Outcome(at=0.0, throttle=throttle(3.0)))
    run.send(NotBefore(0.0, 3.0, 3.0))
    run.send(Woken(3.0))
    run.send(ADMITTED)
    assert end(run, Outcome(at=3.0, throttle=throttle(3.0))) == GiveUp("budget_exceeded", 3.0, 3.0, 5.0)


def test_the_callers_timeout_is_no_budget() -> None:
    """``timeout=2`` and a Retry-After of 3 s: the SDK alone waits and succeeds, so do we."""
    run = start(Policy(buffer=0.0), timeout=2.0)
    to_first_send(run)
    assert run.send(Outcome(at=0.0, throttle=throttle(3.0))) == Reserve(3.0)


def test_a_single_delay_longer_than_any_that_the_sdk_would_sit_out_ends_the_call() -> None:
    """With a short timeout, 240 s in all may be waited, but not 130 s at once."""
    run = start(Policy(buffer=0.0), timeout=2.0)
    to_first_send(run)
    assert end(run, Outcome(at=0.0, throttle=throttle(130.0))) == GiveUp("budget_exceeded", 130.0, 0.0, 240.0)


def test_tiny_delays_use_the_whole_budget_and_the_note_can_say_whose_pauses_they_were() -> None:
    """The growing floor is ours: it never ends a call before its budget is used up."""
    run = start(Policy(buffer=0.0, max_wait=10.0))
    to_first_send(run)
    now = 0.0
    for _ in range(1000):
        try:
            reserve = run.send(Outcome(at=now, throttle=throttle(0.01)))
        except StopIteration as stop:
            verdict = stop.value
            break
        assert isinstance(reserve, Reserve)
        assert reserve.not_before is not None
        run.send(NotBefore(now, reserve.not_before, reserve.not_before))
        run.send(Woken(reserve.not_before - now))
        now = reserve.not_before
        run.send(ADMITTED)
    assert verdict.reason == "budget_exceeded"
    assert verdict.waited == pytest.approx(10.0)
    assert verdict.asked == pytest.approx(0.01)
    assert verdict.paused > 9.5


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome(at=0.0, throttle=throttle(retryable=False, kind="quota")), "quota"),
        (Outcome(at=0.0, throttle=throttle(retryable=False, limit=0)), "quota"),
        (Outcome(at=0.0, throttle=throttle(delay=86_400, retryable=False)), "request_too_large"),
        (Outcome(at=0.0, throttle=throttle(retryable=False, limit=100, requested=101)), "request_too_large"),
        (Outcome(at=0.0, throttle=throttle(), allowed=False), "retries_disabled"),
        (Outcome(at=0.0, throttle=throttle(), refused=True), "server_refused"),
        (Outcome(at=0.0, throttle=throttle(), delivered=True), "content_delivered"),
        (Outcome(at=0.0, throttle=throttle(), replayable=False), "body_not_replayable"),
    ],
)
def test_what_no_wait_can_help_is_raised_at_once(outcome: Outcome, reason: str) -> None:
    """Each with its own reason, and without one second of waiting."""
    run = start()
    to_first_send(run)
    verdict = end(run, outcome)
    assert isinstance(verdict, GiveUp)
    assert (verdict.reason, verdict.waited) == (reason, 0.0)


def test_other_failures_are_left_to_the_sdks_own_backoff() -> None:
    """A 503 that is no throttle: the SDK sleeps by its own rules, then the request goes out again."""
    run = start()
    to_first_send(run)
    assert run.send(Outcome(at=0.0, failure="server_error", sdk_retries=True)) == BackOff()
    assert run.send(Woken(0.4)) == Reserve(None)
    assert run.send(ADMITTED) == Send("server_error")
    verdict = end(run, Outcome(at=1.0, failure="server_error", resent=True))
    assert verdict == GiveUp("retries_exhausted", None, 0.4, 600.0)


def test_a_failure_that_was_sent_once_is_simply_delivered() -> None:
    """With max_retries=0 nothing was tried, so nothing was given up."""
    run = start()
    to_first_send(run)
    assert end(run, Outcome(at=0.0, failure="connection", allowed=False)) == Deliver()


def test_a_call_whose_turn_would_come_after_its_budget_is_told_at_once() -> None:
    """It is never sent, and never sleeps."""
    run = start(Policy(max_wait=10.0))
    next(run)
    assert end(run, NotBefore(0.0, 1.0, 10.5, 60.0, fresh=True)) == GiveUp("queue_budget_exceeded", 10.5, 0.0, 10.0)


def test_by_default_it_stays_in_the_queue_for_as_long_as_the_sdk_alone_would_have_asked() -> None:
    """Two retries: 0.5 and 1 s between, half a second for each of three requests. Then it fails unsent; or goes, if it may."""
    for answer in (NotBefore(3.0, 60.0, 86_400.0, 86_400.0, fresh=True), ADMITTED):
        run = start()
        next(run)
        assert run.send(NotBefore(0.0, 60.0, 86_400.0)) == Sleep(3.0, "admission")
        assert run.send(Woken(1.0)) == Reserve(None)
        assert run.send(NotBefore(1.0, 60.0, 86_400.0)) == Sleep(3.0, "admission")
        assert run.send(Woken(2.0)) == Reserve(None)
        if answer is ADMITTED:
            assert run.send(answer) == Send(None)
        else:
            assert end(run, answer) == GiveUp("queue_budget_exceeded", 86_397.0, 3.0, 600.0)


def test_a_rest_of_patience_that_no_clock_can_tell_is_none() -> None:
    """At a large reading of the clock a sleep of 1e-13 s is none, and asking again and again would never end."""
    run = start()
    next(run)
    now = 1e6
    assert run.send(NotBefore(now, 2e6, 2e6)) == Sleep(now + 3.0, "admission")
    run.send(Woken(3.0 - 1e-12))
    assert isinstance(end(run, NotBefore(now + 3.0, 2e6, 2e6, 2e6, fresh=True)), GiveUp)


@pytest.mark.parametrize("closed_until", [None, 303.0])
def test_it_goes_as_a_probe_unless_the_server_has_said_that_the_limit_is_closed_for_longer(
    closed_until: float | None,
) -> None:
    """Nobody was refused since it came, or the one who was may come back in five minutes: our estimate alone fails no call. While
    another probe is on its way, that one's answer is waited for."""
    run = start()
    next(run)
    run.send(NotBefore(0.0, 60.0, 86_400.0, closed_until))
    run.send(Woken(3.0))
    assert run.send(NotBefore(3.0, 60.0, 86_400.0, closed_until)) == Reserve(None, as_probe=True)
    assert run.send(NotBefore(3.0, 20.0, 86_400.0, closed_until)) == Sleep(20.0, "admission")
    run.send(Woken(1.0))
    assert run.send(NotBefore(4.0, 60.0, 86_400.0, closed_until)) == Reserve(None, as_probe=True)
    assert run.send(ADMITTED) == Send(None)


def test_delays_that_are_over_before_they_are_waited_for_use_the_budget_all_the_same() -> None:
    """A machine so slow that each turn has come by the time it is asked for: the refusals end with the budget, not never."""
    run = start(Policy(buffer=0.0, max_wait=2.0), random=0.5)
    to_first_send(run)
    ends: list[Verdict] = []
    attempts = 0
    while not ends and attempts < 10:
        attempts += 1
        try:
            run.send(Outcome(at=float(attempts), throttle=throttle(None)))
        except StopIteration as stop:
            ends.append(stop.value)
        else:
            assert run.send(ADMITTED) == Send("throttle")
    assert isinstance(ends[0], GiveUp)
    assert ends[0].reason == "budget_exceeded"
    assert 3 <= attempts <= 6


def test_a_reset_time_that_nobody_waits_for_is_not_spent() -> None:
    """It says when the limit is full: where a bucket lets the call go long before, the budget is as it was but for a tenth."""
    run = start(Policy(buffer=0.0, max_wait=60.0))
    to_first_send(run)
    for _ in range(20):
        run.send(Outcome(at=0.0, throttle=throttle(50.0, source="x-ratelimit-reset")))
        assert run.send(ADMITTED) == Send("throttle")
    verdict = end(run, Outcome(at=0.0, throttle=throttle(59.0)))
    assert isinstance(verdict, GiveUp)
    assert verdict.waited == pytest.approx(2.0)


def test_a_call_that_was_refused_never_goes_as_a_probe_before_its_own_time() -> None:
    """Its turn would come too late, and its patience is long used up; the server's delay is waited for all the same."""
    run = start(Policy(buffer=0.0))
    next(run)
    run.send(NotBefore(0.0, 60.0, 86_400.0))
    run.send(Woken(200.0))  # a sleep may end late
    run.send(NotBefore(200.0, 260.0, 86_400.0))
    assert run.send(ADMITTED) == Send(None)
    reserve = run.send(Outcome(at=201.0, throttle=throttle(5.0)))
    assert reserve == Reserve(206.0)
    assert run.send(NotBefore(201.0, 261.0, 86_400.0)) == Sleep(206.0, "throttled")
    run.send(Woken(5.0))
    assert run.send(NotBefore(206.0, 266.0, 86_400.0)) == Reserve(None, as_probe=True)


def test_a_limit_that_the_server_has_closed_for_longer_than_the_budget_is_asked_at_once() -> None:
    """Though our numbers say that the turn comes in seven minutes: "Limit 200, Used 200" a day, and a Retry-After of 86,400 s.
    The SDK alone would have the server's answer at once, and so has the caller."""
    run = start()
    next(run)
    assert run.send(NotBefore(0.0, 15.0, 432.0, 86_400.0)) == Reserve(None, as_probe=True)
    assert run.send(ADMITTED) == Send(None)
    verdict = end(run, Outcome(at=0.1, throttle=throttle(86_400.0, source="retry-after")))
    assert isinstance(verdict, GiveUp)
    assert verdict.waited == 0.0


def test_waiting_for_a_turn_never_outlasts_the_budget() -> None:
    """However long the queue says, the sleep ends with the budget, and so does the call, with a probe or without."""
    run = start(Policy(max_wait=10.0))
    next(run)
    assert run.send(NotBefore(0.0, 100.0, 9.0)) == Sleep(10.0, "admission")
    run.send(Woken(10.0))
    assert run.send(NotBefore(10.0, 100.0, 10.0)) == Reserve(None, as_probe=True)
    verdict = end(run, NotBefore(10.0, 100.0, 10.0))
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "queue_budget_exceeded"


def test_closing_at_any_point_is_a_cancellation() -> None:
    """Every place where the generator can stand lets go of it."""
    for steps in range(4):
        run = start()
        next(run)
        for event in (ADMITTED, Outcome(at=0.0, throttle=throttle()), NotBefore(0.0, 1.0, 1.0))[:steps]:
            run.send(event)
        run.close()


def test_observe_mode_sends_once_and_says_what_the_sdk_did() -> None:
    """No command but one Send; a final throttle is a give-up of the SDK's."""
    run = call.observe()
    assert next(run) == Send(None)
    assert end(run, Outcome(at=0.0, throttle=throttle(2.0), resent=True)) == GiveUp("retries_exhausted", 2.0, 0.0, 0.0)
    run = call.observe()
    next(run)
    assert end(run, Outcome(at=0.0, throttle=throttle(2.0), allowed=False)) == GiveUp("retries_disabled", 2.0, 0.0, 0.0)
