"""Interrupted anywhere, nothing is left: the storm of ``tests.trust.storm``, smaller, and each kind of loss by itself."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import otel_ratelimit
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.queueing.queue import Queue
from otel_ratelimit._stores.memory import Account, MemoryStore, Place
from tests.drivers.conftest import chat
from tests.trust import storm
from tests.trust.in_process import Scripted, client, ok

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal on this platform")


@pytest.fixture(autouse=True)
def _instrumented() -> Iterator[None]:
    otel_ratelimit.instrument(policy=storm.POLICY)
    yield
    otel_ratelimit.uninstrument()


# What is thrown into a thread may also hit it in a finaliser, or before and after its work: Python tells of that by itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [pytest.param("signals", marks=needs_signals), "exceptions", "cancellations"])
def test_a_storm_of_interrupts_leaves_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No place in flight, none queued, no lock held, no session current; and the next call is an ordinary one."""
    from otel_ratelimit import _guard

    monkeypatch.setattr(_guard, "raise_faults", False)  # an exception that is thrown in looks like a fault of ours
    assert storm.STORMS[kind](300, 7) > 0
    assert storm.left() == storm.Left(0, 0, 0, False, False)
    with client(Scripted(ok()), api_key="afterwards") as one:
        assert chat(one).choices
    assert storm.left().nothing


class _Interrupted(BaseException):
    """Like KeyboardInterrupt, at a place of our choice."""


def _interrupt_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def interrupted(*args: Any, **keywords: Any) -> Any:
        function(*args, **keywords)
        raise _Interrupted

    return interrupted


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Admission, "ticket"), (Admission, "join_fast"), (Admission, "join"), (Admission, "check"), (Queue, "join"),
        (Queue, "serve"), (Admission, "_pump"),
    ],
)  # fmt: skip
def test_a_place_that_is_interrupted_while_it_is_taken_is_free_again(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after each step under the lock; the place dies with the call, and takes with it whatever it held by then."""
    store = MemoryStore()
    line = store.line(Account("server", b"payer", "model"), None)
    # Two dozen go at once before the first answer; the next ones wait.
    others = [store.place(line) for _ in range(25)]
    for other in others:
        other.reserve(Cost(input=10.0), "normal", None, 0.0)
    assert (line.admission.in_flight, line.admission.waiting) == (24, 1)

    def take(place: Place) -> None:
        if not place.open(store, line, True, Cost(input=10.0), "normal", 1.0):
            place.reserve(Cost(input=10.0), "normal", None, 1.0)
        raise _Interrupted  # where the step did not come: it is none of this call's

    place: Place | None = store.place(line)
    assert place is not None
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, _interrupt_after(getattr(owner, name)))
        with pytest.raises(_Interrupted):
            take(place)
    place = None
    gc.collect()
    for other in others:  # whoever waited meanwhile still gets its turn
        other.reserve(Cost(input=10.0), "normal", None, 100.0)
        other.settle(100.0, succeeded=True)
        other.leave(100.0)
    gc.collect()
    assert (line.admission.in_flight, line.admission.waiting) == (0, 0)
    assert not store._waiting


def test_a_place_that_dies_while_its_store_is_busy_is_given_back_by_the_next_change() -> None:
    """As from a finaliser in the middle of a change: nothing is done then, and all of it afterwards."""
    store = MemoryStore()
    line = store.line(Account("server", b"payer", "model"), None)
    place: Place | None = store.place(line)
    assert place is not None
    place.reserve(Cost(input=10.0), "normal", None, 0.0)
    assert line.admission.in_flight == 1
    with store._lock:
        place = None
        gc.collect()
        assert line.admission.in_flight == 1
    other = store.place(line)
    other.reserve(Cost(input=10.0), "normal", None, 1.0)
    other.settle(1.0, succeeded=True)
    assert line.admission.in_flight == 0
