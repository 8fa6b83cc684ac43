"""The arithmetic of one limit, against OpenAI's own numbers and values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core import ledger as ledger_module
from otel_ratelimit._core.buckets.identify import Buckets
from otel_ratelimit._core.ledger import MARGIN_CAP, MOST_DRAIN, Ledger


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are worked out by hand here; what is left over for clocks and the network has a test of its own."""
    monkeypatch.setattr(ledger_module, "BOUNDARY", 0.0)


@dataclass(frozen=True)
class Reading:
    kind: str = "tokens"
    scope: str = ""
    window_name: str | None = None
    limit: float = 200_000.0
    remaining: float | None = 0.0
    reset: float | None = None


def told(ledger: Ledger, level: float, *, at: float, spent: float, sent: int, now: float, spent_now: float) -> None:
    ledger.anchor(level, sent_at=at, spent=spent, sent=sent, now=now, spent_now=spent_now, tariff=None)


def test_a_header_of_a_shallow_bucket_is_understood() -> None:
    """10,000 a minute enforced as 166 a second: what it took for others' use is forgotten, and it holds a second's refill."""
    book = Book()

    def read(sent: int, remaining: float, reset: float) -> Ledger:
        reading = Reading(kind="requests", limit=10_000, remaining=remaining, reset=reset)
        entry = book.for_reading(reading, need=(1, 0, 0, 0), spent=[0] * 4, sent_at=float(sent), sent=sent)
        assert entry is not None
        return entry.ledger

    ledger = read(1, 156, 0.064)
    ledger.drain = 100.0
    assert read(2, 115, 0.31) is ledger
    assert ledger.drain == 0.0
    assert ledger.capacity == pytest.approx(166.7, abs=1.0)
    assert ledger.rate == pytest.approx(166.7, abs=0.1)
    assert read(3, 100, 0.4) is ledger
    assert ledger.capacity == pytest.approx(166.7, abs=1.0)
    told(ledger, 9_000, at=4.0, spent=4, sent=4, now=4.1, spent_now=4)
    assert ledger.capacity == 10_000  # more than it can hold: it was not so shallow after all


def test_a_burst_that_arrives_in_another_order_is_no_drain() -> None:
    """Two of many that left at once: what the server had counted in between says nothing of what others take."""
    ledger = Ledger("tokens", "", 200_000, 60)
    told(ledger, 190_000, at=0.0, spent=1_500, sent=1, now=1.0, spent_now=96_000)
    told(ledger, 110_000, at=0.001, spent=3_000, sent=2, now=1.1, spent_now=96_000)
    assert ledger.drain < 0.001 * ledger.rate


def test_drain_fades_while_the_bucket_is_full() -> None:
    """Nobody can be taking much then."""
    ledger = Ledger("tokens", "", 60_000, 60)
    told(ledger, 59_000, at=0.0, spent=0, sent=1, now=0.1, spent_now=0)
    ledger.drain = MOST_DRAIN * ledger.rate
    for sent in range(2, 12):
        at = 30.0 * sent
        ledger.level(at, 0, sent)
        told(ledger, 59_000, at=at, spent=0, sent=sent, now=at, spent_now=0)
    assert ledger.drain < 0.01 * ledger.rate


def test_a_call_waits_exactly_until_it_fits() -> None:
    """Limit 200000, Used 198337, Requested 1831: (198337 + 1831 - 200000) / (200000 / 60) = 50.4 ms."""
    ledger = Ledger("tokens", "", 200_000, 60)
    told(ledger, 200_000 - 198_337, at=10.0, spent=0, sent=1, now=10.06, spent_now=0)
    assert ledger.ready(10.0, 0, 1831, 1) == pytest.approx(10.0504)
    assert ledger.ready(10.06, 0, 1831, 1) == 10.06


def test_a_late_answer_counts_once() -> None:
    """Two calls of 1,000; the answer to the second says 150,000; the first one's, later, says 151,000: nothing new."""
    ledger = Ledger("tokens", "", 200_000, 86_400)
    told(ledger, 150_000, at=1.0, spent=2_000, sent=2, now=2.0, spent_now=2_000)
    assert ledger.level(1.0, 2_000, 2) == 150_000
    told(ledger, 151_000, at=0.9, spent=1_000, sent=1, now=5.0, spent_now=2_000)
    assert ledger.level(1.0, 2_000, 2) == 150_000


def test_what_was_sent_since_is_taken_off() -> None:
    """An answer to request 1 (sent at 0) at 2 s, with 3,000 more reserved since: 100,000 + 2 * 3,333.3 - 3,000."""
    ledger = Ledger("tokens", "", 200_000, 60)
    told(ledger, 100_000, at=0.0, spent=1_000, sent=1, now=2.0, spent_now=4_000)
    assert ledger.level(2.0, 4_000, 3) == pytest.approx(103_666.67, abs=0.01)


def test_refill_is_lost_while_full() -> None:
    """A bucket that was full for an hour holds its limit and no more."""
    ledger = Ledger("tokens", "", 6_000, 60)
    assert ledger.level(3_600.0, 0, 0) == 6_000
    assert ledger.level(3_600.0, 6_000, 1) == 0
    assert ledger.level(3_601.0, 6_000, 1) == 100


def test_others_are_seen_as_drain() -> None:
    """Readings 5 s apart show 50 a second less than refill and our own 0: after some time that is taken off the rate."""
    ledger = Ledger("tokens", "", 6_000, 60)
    level = 5_000.0
    for step in range(1, 12):
        level += 5 * (100 - 50)
        told(ledger, level - 3_000, at=5.0 * step, spent=0, sent=step, now=5.0 * step + 1, spent_now=0)
    assert ledger.drain == pytest.approx(50, abs=1)
    assert ledger.refill_time(200, 55.0) == pytest.approx(4, abs=0.1)
    assert ledger.refill_time(1_500, 55.0) == pytest.approx(10 + 10, abs=0.3)  # after 10 s, others are supposed gone


def test_the_margin_follows_the_worst_error_and_is_capped() -> None:
    """Only errors downward widen it; a tenth of the limit is the most."""
    ledger = Ledger("tokens", "", 10_000, 60)
    ledger.judge(+500)
    assert ledger.margin == 0
    ledger.judge(-300)
    ledger.judge(-10)
    assert ledger.margin == pytest.approx(300, rel=0.01)
    ledger.judge(-1e300)
    assert ledger.margin == MARGIN_CAP * 10_000


def test_silence_makes_bold() -> None:
    """Without a word the ledger dares more and more, so that a belief that is too low is found out."""
    ledger = Ledger("tokens", "", 200_000, 60)
    told(ledger, 0, at=0.0, spent=0, sent=1, now=0.06, spent_now=0)
    waits = []
    for calls in (0, 200, 400, 800):
        while ledger.silent < calls:
            ledger.pass_over(1_500, 0, 0)
        waits.append(ledger.ready(0.0, 0, 1_500, 1))
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == pytest.approx(0.45)
    assert waits[1] == 0.0


def test_a_message_and_a_header_of_one_limit_share_a_ledger() -> None:
    """Same kind and size, and the levels agree: one bucket."""
    book = Book()
    entry = book.for_reading(
        Reading(remaining=500, reset=59.85), need=[1, 1500, 0, 0], spent=[0] * 4, sent_at=0, sent=1
    )
    assert entry is not None
    assert (
        book.for_message(
            "tokens", 200_000, 60.0, level=400, need=1500, told={}, sent_at=0.0, last_sent=0, spent=[0] * 4
        )
        is entry
    )
    assert len(book.entries) == 1


def test_a_header_of_the_day_is_not_the_limit_that_refuses() -> None:
    """1,500,000 a day in the header, 200,000 a minute in the message: two ledgers."""
    book = Book()
    reading = Reading(limit=1_500_000, remaining=1_478_342, reset=1247.458)
    day = book.for_reading(reading, need=[1, 1500, 0, 0], spent=[0] * 4, sent_at=0, sent=1)
    minute = book.for_message(
        "tokens",
        200_000,
        60.0,
        level=10,
        need=1500,
        told={day: day.ledger.told} if day else {},
        sent_at=0.0,
        last_sent=0,
        spent=[0] * 4,
    )
    assert [entry.ledger.window for entry in book.entries] == [86_400, 60]
    assert day is not minute


def test_a_refusal_beside_a_header_that_shows_plenty_is_a_second_bucket() -> None:
    """Enforced per second: both say 200,000 a minute, one has 196,000 left and the other nothing."""
    book = Book()
    reading = Reading(remaining=196_000, reset=1.2)
    shown = book.for_reading(reading, need=[1, 1500, 0, 0], spent=[0] * 4, sent_at=0, sent=1)
    assert shown is not None
    told(shown.ledger, 196_000, at=0, spent=0, sent=1, now=0.06, spent_now=0)
    hidden = book.for_message(
        "tokens",
        200_000,
        60.0,
        level=100,
        need=1500,
        told={shown: shown.ledger.told},
        sent_at=0.0,
        last_sent=0,
        spent=[0] * 4,
    )
    assert hidden is not None
    assert hidden is not shown
    assert hidden.ledger.capacity == pytest.approx(200_000 / 60)


def test_a_limit_that_changes_keeps_its_ledger() -> None:
    """A tier upgrade in mid-flight: same header, four times the size, four times the rate."""
    book = Book()
    before = book.for_reading(Reading(remaining=0, reset=60.0), need=[1] * 4, spent=[0] * 4, sent_at=0, sent=1)
    bigger = Reading(limit=800_000, remaining=700_000, reset=7.5)
    after = book.for_reading(bigger, need=[1] * 4, spent=[0] * 4, sent_at=1, sent=2)
    assert after is before
    assert after is not None
    assert after.ledger.rate == pytest.approx(800_000 / 60)


def test_ledgers_are_bounded() -> None:
    """A server that names a new limit with every answer does not fill the memory."""
    book = Book()
    for number in range(1, 1000):
        book.for_reading(
            Reading(scope=str(number % 50), limit=number, remaining=0, reset=60.5),
            need=[1] * 4,
            spent=[0] * 4,
            sent_at=0,
            sent=1,
        )
        book.for_message("tokens", number * 7, 60.0, level=0, need=1, told={}, sent_at=0.0, last_sent=0, spent=[0] * 4)
    assert len(book.entries) <= 8
    assert len(book.slots) <= 8


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e6), st.sampled_from([1e300, -1.0, 0.0])
)


@given(st.lists(st.tuples(numbers, numbers, numbers, st.booleans()), max_size=20))
def test_hostile_numbers_leave_a_ledger_that_answers(steps: list[tuple[float, float, float, bool]]) -> None:
    """Whatever a header or message says, the level is a number within the limit and every wait is no NaN."""
    book = Book()
    for sent, (limit, remaining, reset, by_message) in enumerate(steps, 1):
        if by_message:
            entry = book.for_message(
                "tokens", limit, 60.0, level=0.0, need=10.0, told={}, sent_at=0.0, last_sent=0, spent=[0] * 4
            )
        else:
            reading = Reading(limit=limit, remaining=remaining, reset=reset)
            entry = book.for_reading(reading, need=[1] * 4, spent=[0] * 4, sent_at=float(sent), sent=sent)
        if entry is None:
            continue
        ledger = entry.ledger
        if not by_message:
            told(ledger, remaining, at=float(sent), spent=sent, sent=sent, now=sent + 1.0, spent_now=sent + 1.0)
        assert -ledger.limit - 100 <= ledger.level(sent + 1.0, sent, sent) <= ledger.limit
        assert ledger.ready(sent + 1.0, sent, min(10.0, ledger.limit), sent) >= sent + 1.0
        assert not math.isnan(ledger.drain + ledger.margin)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(1, 3_000)), min_size=1, max_size=120),
    st.floats(3_000, 50_000),
    st.sampled_from([1.0, 60.0]),
)
def test_told_the_truth_it_never_admits_more_than_the_limit(
    calls: list[tuple[float, float]], limit: float, window: float
) -> None:
    """In any stretch of time no more than a full bucket and its refill is let go: the server's own bucket never runs dry."""
    ledger = Ledger("tokens", "", limit, window)
    server = limit
    now = at = spent = 0.0
    for sent, (gap, need) in enumerate(calls, 1):
        now = max(now + gap, ledger.ready(now + gap, spent, need, sent - 1))
        now = max(now, ledger.ready(now, spent, need, sent - 1))
        server = min(limit, server + (now - at) * limit / window)
        at = now
        assert server >= need * (1 - 1e-6) - 1e-3
        server -= need
        spent += need
        if sent % 3 == 0:
            told(ledger, server, at=now, spent=spent, sent=sent, now=now, spent_now=spent)
