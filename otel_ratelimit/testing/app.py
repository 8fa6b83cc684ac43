"""The server as an ASGI application: limits, script, latency, faults, and its own counts. No sockets of its own."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from otel_ratelimit.testing import answers, wording
from otel_ratelimit.testing.buckets import Buckets, Kind, Limit
from otel_ratelimit.testing.endpoints import event_stream, ordinary
from otel_ratelimit.testing.replies import Fault, Reply
from otel_ratelimit.testing.wording import Dialect

MAX_RECORDS: Final = 10_000
MAX_KEPT_BODY: Final = 65_536
"""Requests remembered, and bytes of each one's body; of a longer body only its hash and size are kept."""

THROTTLES: Final = frozenset({429, 529})

Latency = float | Callable[[], float]


@dataclass(frozen=True)
class Received:
    """One request as it arrived, and the status it was answered with (0: the connection was broken)."""

    time: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    size: int
    sha256: str
    status: int


@dataclass(frozen=True)
class Counts:
    """What the server counted so far. ``throttled``: answers with status 429 or 529, or a scripted throttling stream."""

    requests: int = 0
    succeeded: int = 0
    throttled: int = 0
    peak_concurrency: int = 0
    statuses: Mapping[int, int] = field(default_factory=dict)
    paths: Mapping[str, int] = field(default_factory=dict)


class ThrottlingApp:
    """See :class:`otel_ratelimit.testing.ThrottlingServer`, whose arguments these are."""

    def __init__(
        self,
        limits: Iterable[Limit] = (),
        *,
        script: Sequence[Reply | Fault] = (),
        latency: Latency = 0.0,
        throttled_latency: float = 0.0,
        dialect: Dialect = wording.OPENAI,
        charge_refused: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._dialect = dialect
        self._latency = latency
        self._throttled_latency = throttled_latency
        self._buckets = Buckets(limits, clock(), charge_refused=charge_refused)
        self._lock = threading.Lock()
        self._script: deque[Reply | Fault] = deque(script)
        self._records: deque[Received] = deque(maxlen=MAX_RECORDS)
        self._statuses: Counter[int] = Counter()
        self._paths: Counter[str] = Counter()
        self._throttled = 0
        self._open = 0
        self._peak = 0

    # --- what tests see and change, from any thread ---------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        with self._lock:
            return Counts(
                requests=sum(self._statuses.values()),
                succeeded=sum(count for status, count in self._statuses.items() if 200 <= status < 300),
                throttled=self._throttled,
                peak_concurrency=self._peak,
                statuses=dict(self._statuses),
                paths=dict(self._paths),
            )

    @property
    def requests(self) -> list[Received]:
        """The requests that were answered, in that order; the last ten thousand."""
        with self._lock:
            return list(self._records)

    def script(self, replies: Iterable[Reply | Fault]) -> None:
        """Answer the coming requests with these, one each, before the limits have a say again."""
        with self._lock:
            self._script = deque(replies)

    def set_limit(self, limit: Limit) -> None:
        """Change the size of the limit of that kind and window, as an upgrade in mid-flight does; or add it."""
        with self._lock:
            self._buckets.change(self._clock(), limit)

    def take(self, kind: Kind, amount: float) -> None:
        """Somebody else uses so much of a limit."""
        with self._lock:
            self._buckets.take(self._clock(), kind, amount)

    # --- ASGI -----------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        raw = await Request(scope, receive).body()
        request = Request(scope, _again(raw))
        with self._lock:
            self._open += 1
            self._peak = max(self._peak, self._open)
            scripted = self._script.popleft() if self._script else None
        status = 0
        throttled = False
        try:
            if isinstance(scripted, Fault):
                await self._break(scripted, send)
                return
            response, before, throttled = await self._answer(request, raw, scripted)
            status = response.status_code
            # Counted before it is sent: whoever has the answer finds it counted.
            self._record(request, raw, status, throttled)
            if before:
                await asyncio.sleep(before)
            await response(scope, receive, send)
        finally:
            if isinstance(scripted, Fault):
                self._record(request, raw, 0, throttled=False)
            with self._lock:
                self._open -= 1

    async def _answer(self, request: Request, raw: bytes, scripted: Reply | None) -> tuple[Response, float, bool]:
        """The response, seconds to wait before it, and whether it is a throttle."""
        body = _decoded(raw)
        model = str(body.get("model", "gpt-4o"))
        if scripted is not None:
            response = await self._scripted(request, body, scripted)
            stream_throttle = scripted.events is not None and "rate_limit" in json.dumps(scripted.events[-1])
            return response, scripted.before, response.status_code in THROTTLES or stream_throttle
        now = self._clock()
        with self._lock:
            refusal = self._buckets.admit(now, answers.estimate_tokens(body) if body else 0)
            states = self._buckets.states(now)
        headers = wording.limit_headers(states) if self._dialect.headers else {}
        if refusal is not None:
            if self._dialect.retry_after and not refusal.too_large:
                headers.update(wording.retry_after_headers(refusal.delay))
            content = wording.refusal_body(refusal, model, self._dialect)
            return JSONResponse(content, 429, headers=self._common(headers)), self._throttled_latency, True
        response = await ordinary(request, body)
        response.headers.update(self._common(headers))
        return response, self._latency() if callable(self._latency) else self._latency, False

    async def _scripted(self, request: Request, body: Mapping[str, Any], reply: Reply) -> Response:
        headers = self._common(reply.headers)
        if reply.events is not None:
            response: Response = event_stream(iter(reply.events), named="type" in reply.events[0], done=False)
            response.headers.update(headers)
            return response
        if reply.body is not None:
            return Response(reply.body, reply.status, headers=headers)
        if reply.json is not None:
            return JSONResponse(reply.json, reply.status, headers=headers)
        if reply.status == 200:
            response = await ordinary(request, body)
            response.headers.update(headers)
            return response
        content = wording.error_body("The server had an error while processing your request.", kind="server_error")
        return JSONResponse(content, reply.status, headers=headers)

    async def _break(self, fault: Fault, send: Send) -> None:
        await asyncio.sleep(fault.before)
        if fault.kind != "reset":
            headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if fault.kind == "truncate":
                await send({"type": "http.response.body", "body": b'{"id": "chat', "more_body": True})
                await asyncio.sleep(0.02)  # let it reach the other side before the line goes dead
        cycle = getattr(send, "__self__", None)  # uvicorn's, which holds the connection
        transport = getattr(cycle, "transport", None)
        if transport is None:
            raise ConnectionResetError("scripted fault")
        transport.abort()

    def _common(self, headers: Mapping[str, str]) -> dict[str, str]:
        identifier = f"req_{random.getrandbits(64):016x}"
        return {"x-request-id": identifier, "openai-processing-ms": "1", **headers}

    def _record(self, request: Request, raw: bytes, status: int, throttled: bool) -> None:
        received = Received(
            time=self._clock(),
            method=request.method,
            path=request.url.path,
            headers=dict(request.headers),
            body=raw if len(raw) <= MAX_KEPT_BODY else None,
            size=len(raw),
            sha256=answers.digest(raw),
            status=status,
        )
        with self._lock:
            self._records.append(received)
            self._statuses[status] += 1
            self._paths[request.url.path] += 1
            self._throttled += throttled

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw) if raw[:1] == b"{" else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _again(raw: bytes) -> Receive:
    """A body that has been read, for whoever reads it once more."""

    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    return receive
