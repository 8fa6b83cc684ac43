"""Counts along with the metric instruments of one process, and leaves what it counted in a file for the parent.

Independent of the program's OpenTelemetry set-up, which it neither needs nor touches. A file a process, rewritten ten times
a second while there is news: nothing is held open that a program could close or inherit, and what a killed process had
counted stays. A fault here costs the figures, never a call.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing.util
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from otel_ratelimit import _guard
from otel_ratelimit._commands.exports import ExportFailures
from otel_ratelimit._commands.run.figures import Figures
from otel_ratelimit._commands.run.folder import UNSENT, Folder, GoneError
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Instruments, tightest

PERIOD: Final = 0.1
"""Seconds between two looks at whether there is news."""

COUNTED: Final = ("throttles", "retries", "give_ups", "waiting", "wait_duration", "call_duration")
"""The instruments that are listened to, as ``Instruments`` calls them."""


class Tap:
    """One process's figures, on their way to ``folder``; once that is gone, or not ours any more, nothing is counted."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._gone = False
        self._instruments: Instruments | None = None
        self._thread: threading.Thread | None
        self._spans = _spans(folder)
        self._reset()
        self._failures = ExportFailures(self._export_failed).watch()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._write)
        # A forked worker of multiprocessing ends without atexit.
        multiprocessing.util.register_after_fork(self, Tap._in_worker)

    def listen(self, instruments: Instruments) -> None:
        """Stand between the library and its instruments."""
        self._instruments = instruments
        instruments.keep = 1  # what is shown live is counted at once
        for name in COUNTED:
            setattr(instruments, name, _Tee(getattr(instruments, name), name, self))
        if self._spans is not None:
            self._spans.listen(instruments)
        instruments.turns = self.turn

    @_guard.contained("run", lambda _self, _call, _model, _seconds: None)
    def turn(self, call: object, model: str | None, seconds: float | None) -> None:
        """A call goes on in so many seconds; None where it has gone on, or where that is not known."""
        if self._gone:
            return
        with self._lock:
            turns = self._turns.setdefault(model, {})
            turns.pop(id(call), None)
            now = time.time()
            if seconds is not None:
                turns[id(call)] = now + seconds
            self._figures.of(model).next_turn = min((turn for turn in turns.values() if turn > now), default=0.0)
            self._news = True

    @_guard.contained("run", lambda _self, _name, _amount, _attributes: None)
    def counted(self, name: str, amount: float, attributes: Mapping[str, Any]) -> None:
        """One point of one instrument."""
        if self._gone:
            return
        with self._lock:
            self._figures.add(name, amount, attributes, time.time())
            self._news = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._report, name="otel-ratelimit-run", daemon=True)
                self._thread.start()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may make a call while we count one
        self._writing = threading.Lock()  # the thread and the end of the process write the same file
        self._telling = threading.RLock()  # exporters of two signals, in two threads, fail at the same time
        self._figures = Figures()
        self._turns: dict[str | None, dict[int, float]] = {}  # of each model: call -> seconds since the epoch
        self._news = False
        self._thread = None
        if self._spans is not None:
            self._spans.reset()

    @_guard.contained("run", lambda _self: None)
    def _export_failed(self) -> None:
        """Telemetry of the program did not arrive: the parent shall say so. Once a reason, as a rule, so written at once."""
        if self._gone:
            return
        with contextlib.suppress(OSError), self._telling:
            try:
                self._folder.write(f"{os.getpid()}{UNSENT}", json.dumps(self._failures.found))
            except GoneError:
                self._gone = True

    def _in_worker(self) -> None:
        multiprocessing.util.Finalize(self, self._write, exitpriority=0)

    def _report(self) -> None:
        while not self._gone:
            time.sleep(PERIOD)
            self._write()

    def _write(self) -> None:
        with contextlib.suppress(Exception), self._writing:
            if self._gone:
                return
            levels = [] if self._instruments is None else tightest(self._instruments.levels())
            with self._lock:
                for subject, kind, limit, remaining in levels:
                    self._news |= self._figures.level(subject.base.get(names.MODEL), kind, limit, remaining)
                if not self._news:
                    return
                self._news = False
                text = json.dumps(self._figures.as_json())
            try:
                self._folder.write(f"{os.getpid()}.json", text)
                if self._spans is not None:
                    self._spans.write(levels)
            except GoneError:
                self._gone = True


class _Tee:
    """A metric instrument and its listener."""

    __slots__ = ("_instrument", "_name", "_tap")

    def __init__(self, instrument: Any, name: str, tap: Tap) -> None:
        self._instrument = instrument
        self._name = name
        self._tap = tap

    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        self._instrument.add(amount, attributes, context)
        self._tap.counted(self._name, amount, attributes or {})

    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        self._instrument.record(amount, attributes, context)
        self._tap.counted(self._name, amount, attributes or {})


def _spans(folder: Folder) -> Any:
    inside = folder.inside("spans")
    if not inside.is_there():  # the parent makes it where traces are asked for
        return None
    from otel_ratelimit._commands.run.spans import SpanFile  # noqa: PLC0415 - needs the extra otlp

    return SpanFile(inside)
