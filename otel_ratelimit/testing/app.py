"""The server as an ASGI application: limits, script, latency, faults, and its own counts. No sockets of its own."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from otel_ratelimit.testing import answers, objects, wording
from otel_ratelimit.testing.buckets import Buckets, Kind, Limit
from otel_ratelimit.testing.endpoints import EventStream, ordinary
from otel_ratelimit.testing.replies import Fault, Reply
from otel_ratelimit.testing.wording import Dialect

MAX_RECORDS: Final = 10_000
MAX_KEPT_BODY: Final = 65_536
"""Requests remembered, and bytes of each one's body; of a longer body only its hash and size are kept."""

Latency = float | Callable[[], float]


@dataclass(frozen=True)
class Received:
    """One request, and what it was answered with.

    Attributes:
        time: when all of it had arrived, in seconds by the server's clock.
        method: as it came.
        path: without the query.
        headers: names in lower case.
        body: the bytes that came; None of more than 64 KiB.
        size: how many bytes came.
        sha256: their hash, in hexadecimal.
        status: of the answer; 0 where there was none: a fault, or the client had gone by then.
    """

    time: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    size: int
    sha256: str
    status: int

    @property
    def json(self) -> Any:
        """The body as an object; None where it is not JSON, or was not kept."""
        try:
            return None if self.body is None else json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Counts:
    """What the server counted so far. A request counts when it is answered, just before the answer is sent.

    Attributes:
        requests: all of them, those with a fault or with nobody left to answer too.
        succeeded: answers with a 2xx that are no throttles.
        throttled: answers with status 429 or 529, and scripted streams that turn out to be a throttle.
        peak_concurrency: the most requests that were there at the same time.
        statuses: how many of each status; 0 for no answer.
        paths: how many to each path.
    """

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
        self._succeeded = 0
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
                succeeded=self._succeeded,
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
        """Answer the coming requests with these, one each, before the limits have a say again. What is left of an earlier
        script is dropped.
        """
        with self._lock:
            self._script = deque(replies)

    def set_limit(self, limit: Limit) -> None:
        """Change the size of the limit of that kind and window, as an upgrade in mid-flight does; or add it. Of a changed
        one the same share stays in use as before; ``Limit.used`` is for a new one.
        """
        with self._lock:
            self._buckets.change(self._clock(), limit)

    def take(self, kind: Kind, amount: float) -> None:
        """Somebody else uses so much of a limit, as far as it is there.

        Raises:
            ValueError: the server has no limit of that kind.
        """
        with self._lock:
            self._buckets.take(self._clock(), kind, amount)

    # --- ASGI -----------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks for it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        try:
            await self._serve(scope, receive, send)
        except ClientDisconnect:
            return  # in the middle of its request, which therefore counts for nothing
        except anyio.get_cancelled_exc_class():  # stop() does that to requests that are still open
            if not await _hang_up(receive, send):
                raise

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await Request(scope, receive).body()
        request = Request(scope, _again(raw))
        arrived = self._clock()
        with self._lock:
            self._open += 1
            self._peak = max(self._peak, self._open)
            scripted = self._script.popleft() if self._script else None
        there = True

        def leave() -> None:
            nonlocal there
            with self._lock:
                self._open -= there
            there = False

        async def send_counted(message: Message) -> None:
            # Whoever has the end of an answer may send the next request: it must not meet this one here.
            if message["type"] == "http.response.body" and not message.get("more_body"):
                leave()
            await send(message)

        try:
            if isinstance(scripted, Fault):
                await anyio.sleep(scripted.before)
                leave()
                self._record(request, raw, arrived, 0, throttled=False)
                await self._break(scripted, receive, send)
                return
            response, before, throttled = await self._answer(request, raw, scripted)
            if before > 0:
                await anyio.sleep(before)
                if await Request(scope, receive).is_disconnected():
                    self._record(request, raw, arrived, 0, throttled=False)
                    return
            # Counted before it is sent: whoever has the answer finds it counted.
            self._record(request, raw, arrived, response.status_code, throttled=throttled)
            await response(scope, receive, send_counted)
        finally:
            leave()

    async def _answer(self, request: Request, raw: bytes, scripted: Reply | None) -> tuple[Response, float, bool]:
        """The response, seconds to wait before it, and whether it is a throttle."""
        body = _decoded(raw)
        model = str(body.get("model", "gpt-4o"))
        if scripted is not None:
            response = await self._scripted(request, body, scripted)
            return response, scripted.before, scripted.is_throttle
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
            named = "type" in reply.events[0]
            done = not named and "error" not in reply.events[-1]
            response: Response = EventStream(
                reply.events, named=named, done=done, status=reply.status, pause=reply.pause
            )
            response.headers.update(headers)
            return response
        if reply.body is not None:
            return Response(reply.body, reply.status, headers=headers)
        if reply.json is not None:
            return JSONResponse(reply.json, reply.status, headers=headers)
        if reply.status < 300:
            response = await ordinary(request, body)
            response.status_code = reply.status if response.status_code == 200 else response.status_code
            response.headers.update(headers)
            return response
        if reply.status < 500:
            phrase = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else "Error"
            return JSONResponse(wording.error_body(phrase), reply.status, headers=headers)
        content = wording.error_body("The server had an error while processing your request.", kind="server_error")
        return JSONResponse(content, reply.status, headers=headers)

    async def _break(self, fault: Fault, receive: Receive, send: Send) -> None:
        if fault.kind != "reset":
            headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if fault.kind == "truncate":
            await send({"type": "http.response.body", "body": b'{"id": "chat', "more_body": True})
        if not await _hang_up(receive, send):
            raise ConnectionResetError("scripted fault")

    def _common(self, headers: Mapping[str, str]) -> dict[str, str]:
        identifier = f"req_{random.getrandbits(64):016x}"
        return {"x-request-id": identifier, "openai-processing-ms": "1", **headers}

    def _record(self, request: Request, raw: bytes, arrived: float, status: int, *, throttled: bool) -> None:
        received = Received(
            time=arrived,
            method=request.method,
            path=request.url.path,
            headers=dict(request.headers),
            body=raw if len(raw) <= MAX_KEPT_BODY else None,
            size=len(raw),
            sha256=objects.digest(raw),
            status=status,
        )
        with self._lock:
            self._records.append(received)
            self._statuses[status] += 1
            self._paths[request.url.path] += 1
            self._throttled += throttled
            self._succeeded += 200 <= status < 300 and not throttled

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


async def _hang_up(receive: Receive, send: Send) -> bool:
    """Break the connection, if it is uvicorn's; False if there is none to break, as without sockets.

    ASGI has no word for it. Returns once uvicorn has noticed, or it would complain of an answer that is missing.
    """
    cycle = getattr(send, "__self__", None)  # a bound method of the object that holds the connection
    transport = getattr(cycle, "transport", None)
    if transport is None:
        return False
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
