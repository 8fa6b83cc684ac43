"""One run: a world's program, by the real SDK, against the world's server, on a virtual clock."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai

from otel_ratelimit import Policy, _guard
from otel_ratelimit._drivers.runtime import Clock
from otel_ratelimit._instrumentor import RateLimitInstrumentor
from tests.benchmarks import virtual
from tests.benchmarks.no_harm.gateway import Answer, Gateway, Seen
from tests.benchmarks.no_harm.threads import Scheduler
from tests.benchmarks.no_harm.worlds import Call, World, calls_of

try:
    import httpx2 as httpx
except ImportError:  # openai before 3.0
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

END = 7200.0
"""Virtual seconds after which a run is cut off; calls that are not answered by then never are."""

FOR_EVER = 50
"""Retries of the SDK that does not give up."""

NETWORK = 0.01
"""Seconds that a request takes to arrive."""

CLIENTS = ("alone", "plugin", "retrying")


@dataclass
class Record:
    """What became of one call."""

    number: int
    began: float
    ended: float = 0.0
    sent: float | None = None
    """When its first request left."""
    served: float = 0.0
    """Seconds that its requests spent on their way and at the server, together."""
    requests: int = 0
    error: str | None = None
    """The exception's type; None where it was answered."""
    says: str = ""
    ours: bool = False
    """Whether the exception is one that programs written for the SDK catch."""

    @property
    def duration(self) -> float:
        return self.ended - self.began

    @property
    def held(self) -> float:
        """Seconds that it spent waiting on the client's side."""
        return self.duration - self.served


@dataclass
class Run:
    """What came out of one run."""

    client: str
    records: list[Record] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Of the plugin's own, which it contained."""
    died: str | None = None
    """Why the run did not come to its end, if it did not."""

    @property
    def answered(self) -> int:
        return sum(record.error is None for record in self.records)

    @property
    def makespan(self) -> float:
        """When the last answer came; 0 where none did."""
        return max((record.ended for record in self.records if record.error is None), default=0.0)

    @property
    def refused(self) -> int:
        return sum(seen.status not in (200, 500) for seen in self.seen)

    @property
    def errors(self) -> Counter[str]:
        return Counter(record.error for record in self.records if record.error is not None)

    @property
    def foreign(self) -> Counter[str]:
        """Exceptions that are none of the SDK's."""
        return Counter(record.error for record in self.records if record.error is not None and not record.ours)


class _Program:
    """What both flavours share: the calls, their arguments, what is kept of each."""

    def __init__(self, world: World, client: str) -> None:
        self.world = world
        self.run = Run(client)
        self.gateway = Gateway(world)
        self.calls = calls_of(world)
        self.queue = iter(self.calls)
        self.records: dict[int, Record] = {}

    def options(self) -> dict[str, Any]:
        retries = FOR_EVER if self.run.client == "retrying" else self.world.max_retries
        options: dict[str, Any] = {"base_url": "http://127.0.0.1/v1", "api_key": "test", "max_retries": retries}
        return options if self.world.timeout is None else {**options, "timeout": self.world.timeout}

    def arguments(self, call: Call) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": call.model,
            "messages": [{"role": "user", "content": "x" * (4 * call.prompt)}],
            "extra_headers": {"x-call": str(call.number)},
        }
        return arguments if call.max_tokens is None else {**arguments, "max_tokens": call.max_tokens}

    def begin(self, call: Call, now: float) -> Record:
        record = self.records[call.number] = Record(call.number, now)
        self.run.records.append(record)
        record.error = record.says = "unfinished"
        record.ours = True
        return record

    def sent(self, request: Any, now: float) -> Record:
        record = self.records[int(request.headers["x-call"])]
        record.requests += 1
        if record.sent is None:
            record.sent = now
        return record

    def patience(self, request: Any) -> float:
        read = request.extensions.get("timeout", {}).get("read")
        return float("inf") if read is None else float(read)

    def answer(self, request: Any, now: float) -> Answer:
        return self.gateway.receive(now, self.calls[int(request.headers["x-call"])])

    def ended(self, record: Record, now: float, error: Exception | None) -> None:
        record.ended = now
        record.error = record.says = ""
        if error is None:
            record.error = None
            return
        record.error = type(error).__name__
        record.says = " | ".join([str(error)[:200], *getattr(error, "__notes__", ())])
        record.ours = isinstance(error, (openai.APIStatusError, openai.APIConnectionError))

    def finish(self) -> Run:
        self.run.seen = self.gateway.seen
        self.run.faults = sorted(f"{kind} in {place}" for place, kind in _guard._reported)
        return self.run


def _response(answer: Answer, request: Any) -> Any:
    return httpx.Response(answer.status, headers=answer.headers, json=answer.body, request=request)


class _AsyncTransport(httpx.AsyncBaseTransport):
    def __init__(self, program: _Program) -> None:
        self._program = program

    async def handle_async_request(self, request: Any) -> Any:
        program = self._program
        loop = asyncio.get_running_loop()
        began = loop.time()
        record = program.sent(request, began)
        try:
            await asyncio.sleep(NETWORK)
            answer = program.answer(request, loop.time())
            patience = program.patience(request)
            await asyncio.sleep(min(answer.after, patience))
            if answer.after > patience:
                raise httpx.ReadTimeout("the answer took too long", request=request)
            return _response(answer, request)
        finally:
            record.served += loop.time() - began


class _SyncTransport(httpx.BaseTransport):
    def __init__(self, program: _Program, scheduler: Scheduler) -> None:
        self._program = program
        self._scheduler = scheduler

    def handle_request(self, request: Any) -> Any:
        program = self._program
        scheduler = self._scheduler
        began = scheduler.now
        record = program.sent(request, began)
        try:
            scheduler.sleep(NETWORK)
            answer = program.answer(request, scheduler.now)
            patience = program.patience(request)
            scheduler.sleep(min(answer.after, patience))
            if answer.after > patience:
                raise httpx.ReadTimeout("the answer took too long", request=request)
            return _response(answer, request)
        finally:
            record.served += scheduler.now - began


def _play_async(program: _Program, instrument: Callable[[Callable[[], float]], None]) -> None:
    loop = virtual.VirtualLoop()

    def time() -> float:
        loop._virtual.now += virtual.STEP  # a look at a real clock takes its time too
        return loop.time()

    instrument(time)

    async def main() -> None:
        http = httpx.AsyncClient(transport=_AsyncTransport(program), trust_env=False)
        async with openai.AsyncOpenAI(http_client=http, **program.options()) as client:
            client._platform = "Linux"  # it is found out in a thread, which has no place on a virtual clock

            async def caller() -> None:
                for call in program.queue:
                    await asyncio.sleep(call.pause)
                    record = program.begin(call, loop.time())
                    error: Exception | None = None
                    try:
                        await client.chat.completions.create(**program.arguments(call))
                    except Exception as raised:
                        error = raised
                    program.ended(record, loop.time(), error)

            tasks = [asyncio.ensure_future(caller()) for _ in range(program.world.callers)]
            done, late = await asyncio.wait(tasks, timeout=END)
            for task in late:
                task.cancel()
            for task in done:
                task.result()
            await asyncio.gather(*late, return_exceptions=True)

    virtual.run(main(), loop)


def _play_threads(program: _Program, instrument: Callable[[Callable[[], float]], None]) -> None:
    scheduler = Scheduler(END)
    instrument(scheduler.time)
    http = httpx.Client(transport=_SyncTransport(program, scheduler), trust_env=False)
    with openai.OpenAI(http_client=http, **program.options()) as client:
        client.platform_headers()  # kept from here on; finding it out starts a process, which has no place on a virtual clock

        def caller() -> None:
            for call in program.queue:
                scheduler.sleep(call.pause)
                record = program.begin(call, scheduler.now)
                error: Exception | None = None
                try:
                    client.chat.completions.create(**program.arguments(call))
                except Exception as raised:
                    error = raised
                program.ended(record, scheduler.now, error)

        scheduler.run([caller] * program.world.callers)


def play(world: World, client: str, luck: int = 1) -> Run:
    """One run, in a process of its own: it patches, seeds and leaves things behind.

    Args:
        world: whose program and server.
        client: ``"alone"``, ``"plugin"`` or ``"retrying"``.
        luck: seeds the jitter of the SDK and of the plugin.
    """
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            del os.environ[name]
    logging.getLogger("otel_ratelimit").setLevel(logging.CRITICAL)
    _guard._reported.clear()  # what was contained before the fork is not of this run
    program = _Program(world, client)
    random.seed(f"{world.seed} {luck}")  # the SDK's jitter

    def instrument(time: Callable[[], float]) -> None:
        if client == "plugin":
            clock = Clock(monotonic=time, random=random.Random(f"plugin {world.seed} {luck}").random)
            RateLimitInstrumentor().instrument(policy=Policy(), clock=clock)

    (_play_threads if world.threads else _play_async)(program, instrument)
    return program.finish()
