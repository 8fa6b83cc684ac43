"""Stops our own faults from reaching the user's call.

Whatever of ours can fail runs inside ``contained``: an ``Exception`` is logged once per place and kind, by type only (its
text could hold a prompt or a key), and the caller goes on as if uninstrumented. ``BaseException`` (cancellation,
KeyboardInterrupt) always passes. Under our own tests the fault is raised, so that none hides.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_log: Final = logging.getLogger("otel_ratelimit")
_reported: Final[set[tuple[str, str]]] = set()
_reported_lock: Final = threading.RLock()  # a signal handler may meet a fault while one is reported
raise_faults = False
"""Set by our own test-suite only: a fault is raised instead of contained."""


def report(place: str, fault: Exception) -> None:
    """Log a fault of ours, once for each place and type."""
    kind = type(fault).__name__
    with _reported_lock:
        if (place, kind) in _reported:
            return
        _reported.add((place, kind))
    _log.error(
        "internal fault in %s (%s); the call goes on as if uninstrumented. This is logged once. Please report it.",
        place,
        kind,
    )


def contained(place: str, fallback: Callable[..., Any]) -> Callable[[F], F]:  # noqa: C901 (it says why)
    """Decorate a function of ours: on a fault, report it and return ``fallback(*args)`` instead.

    Positional arguments only, and those of the usual numbers spelled out: a tuple or a dictionary of them would cost more than
    the guard itself, and several of these stand in every call's way.
    """

    def contain(fault: Exception, *args: Any) -> Any:
        if raise_faults:
            raise fault
        report(place, fault)
        return fallback(*args)

    def decorate(function: F) -> F:
        def of_one(one: Any) -> Any:
            try:
                return function(one)
            except Exception as fault:
                return contain(fault, one)

        def of_two(one: Any, two: Any) -> Any:
            try:
                return function(one, two)
            except Exception as fault:
                return contain(fault, one, two)

        def of_three(one: Any, two: Any, three: Any) -> Any:
            try:
                return function(one, two, three)
            except Exception as fault:
                return contain(fault, one, two, three)

        def of_five(one: Any, two: Any, three: Any, four: Any, five: Any) -> Any:
            try:
                return function(one, two, three, four, five)
            except Exception as fault:
                return contain(fault, one, two, three, four, five)

        def of_any(*args: Any) -> Any:
            try:
                return function(*args)
            except Exception as fault:
                return contain(fault, *args)

        guards: dict[int, Callable[..., Any]] = {1: of_one, 2: of_two, 3: of_three, 5: of_five}
        plain = isinstance(function, FunctionType)  # a bound method counts its `self` as well
        guarded: Any = guards.get(function.__code__.co_argcount, of_any) if plain else of_any
        guarded.__name__ = getattr(function, "__name__", place)
        guarded.__doc__ = function.__doc__
        guarded.__module__ = function.__module__
        guarded.place = place  # these two are for fault injection in our tests
        guarded.fallback = fallback
        return cast(F, guarded)

    return decorate
