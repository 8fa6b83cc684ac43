"""Which request gets which ordinary answer. Knows no limits."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import anyio
import python_multipart  # noqa: F401 - Starlette needs it for uploads, and says so only when one arrives
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from otel_ratelimit.testing import answers, objects
from otel_ratelimit.testing.wording import error_body

Handler = Callable[[Request, Mapping[str, Any], dict[str, str]], Awaitable[Response]]


class EventStream(StreamingResponse):
    """Server-sent events, sent one by one as fast as the other side takes them.

    Args:
        events: what is sent.
        named: whether with an event line, as the Responses API does.
        done: whether closed by ``[DONE]``, as chat is.
        status: the HTTP status.
        pause: seconds between two events.
    """

    def __init__(
        self, events: Iterable[Mapping[str, Any]], *, named: bool, done: bool, status: int = 200, pause: float = 0.0
    ) -> None:
        async def lines() -> AsyncIterator[str]:
            for number, event in enumerate(events):
                if pause and number:
                    await anyio.sleep(pause)
                name = f"event: {event['type']}\n" if named and "type" in event else ""
                yield f"{name}data: {json.dumps(event)}\n\n"
            if done:
                yield "data: [DONE]\n\n"

        super().__init__(lines(), status, media_type="text/event-stream")

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Starlette's own starts a second task to watch for a lost connection; nothing here waits for anything."""
        await self.stream_response(send)


async def _chat(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    if body.get("stream"):
        return EventStream(answers.chat_stream(body), named=False, done=True)
    return JSONResponse(answers.chat(body))


async def _responses(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    if body.get("stream"):
        return EventStream(answers.responses_stream(body), named=True, done=False)
    return JSONResponse(answers.responses(body))


def _fixed(make: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Handler:
    async def handler(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
        return JSONResponse(make(body))

    return handler


def _one(make: Callable[[str], dict[str, Any]]) -> Handler:
    async def handler(_request: Request, _body: Mapping[str, Any], match: dict[str, str]) -> Response:
        return JSONResponse(make(match["id"]))

    return handler


def _list(make: Callable[[], list[dict[str, Any]]]) -> Handler:
    async def handler(request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
        query = request.query_params
        return JSONResponse(objects.page(make(), query.get("after"), int(query.get("limit", objects.DEFAULT_PAGE))))

    return handler


def _begun(make: Callable[..., dict[str, Any]], identifier: str) -> Handler:
    """Something that is worked on for a while: asked for again, it is done."""
    return _fixed(lambda _body: make(identifier, status="in_progress"))


async def _speech(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    return Response(str(body.get("input", "")).encode(), media_type="audio/mpeg")


async def _content(_request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    return Response(b'{"line": 1}\n', media_type="application/octet-stream")


async def _part(request: Request, _body: Mapping[str, Any], match: dict[str, str]) -> Response:
    async with request.form() as form:
        data = form["data"]
        read = data.encode() if isinstance(data, str) else await data.read()
    part = {"id": f"part_{objects.digest(read)}", "object": "upload.part", "created_at": answers.CREATED}
    return JSONResponse({**part, "upload_id": match["id"]})


async def _images(request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    """For each image that came, the hash of its bytes instead of a picture."""
    async with request.form() as form:
        images = [part for name, part in form.multi_items() if name.startswith("image") and not isinstance(part, str)]
        data = [{"b64_json": objects.digest(await image.read())} for image in images]
    return JSONResponse({"created": answers.CREATED, "data": data})


async def _upload(request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    async with request.form() as form:
        upload = form.get("file")
        if upload is None or isinstance(upload, str):
            return JSONResponse(error_body("'file' is a required property", kind="invalid_request_error"), 400)
        data = await upload.read()
        if request.url.path.endswith("/files"):
            return JSONResponse(objects.file("file-new", len(data), upload.filename or "", objects.digest(data)))
        return JSONResponse({"text": objects.digest(data)})


_ROUTES: Final[list[tuple[str, re.Pattern[str], Handler]]] = [
    (method, re.compile(pattern + r"\Z"), handler)
    for method, pattern, handler in (
        ("POST", "/chat/completions", _chat),
        ("POST", "/completions", _fixed(answers.completion)),
        ("POST", "/responses", _responses),
        ("POST", "/embeddings", _fixed(answers.embeddings)),
        ("POST", "/moderations", _fixed(answers.moderation)),
        ("POST", "/images/generations", _fixed(answers.image)),
        ("POST", "/images/edits", _images),
        ("POST", "/images/variations", _images),
        ("POST", "/audio/transcriptions", _upload),
        ("POST", "/audio/translations", _upload),
        ("POST", "/audio/speech", _speech),
        ("POST", "/files", _upload),
        ("GET", "/files", _list(objects.files)),
        ("GET", "/files/(?P<id>[^/]+)", _one(objects.file)),
        ("GET", "/files/(?P<id>[^/]+)/content", _content),
        ("POST", "/uploads", _fixed(lambda body: objects.upload("upload_1", body))),
        ("POST", "/uploads/(?P<id>[^/]+)/parts", _part),
        (
            "POST",
            "/uploads/(?P<id>[^/]+)/complete",
            _one(lambda identifier: objects.upload(identifier, status="completed")),
        ),
        ("POST", "/vector_stores", _fixed(lambda _body: objects.vector_store("vs_1"))),
        ("GET", "/vector_stores/(?P<id>[^/]+)", _one(objects.vector_store)),
        ("POST", "/vector_stores/[^/]+/files", _begun(objects.vector_store_file, "file-1")),
        ("GET", "/vector_stores/[^/]+/files/(?P<id>[^/]+)", _one(objects.vector_store_file)),
        ("POST", "/vector_stores/[^/]+/file_batches", _begun(objects.vector_store_batch, "vsfb_1")),
        ("GET", "/vector_stores/[^/]+/file_batches/(?P<id>[^/]+)", _one(objects.vector_store_batch)),
        ("GET", "/models", _fixed(lambda _body: objects.models())),
        ("GET", "/models/(?P<id>[^/]+)", _one(objects.model)),
        ("POST", "/batches", _fixed(lambda body: objects.batch("batch_new", body))),
        ("GET", "/batches", _list(objects.batches)),
        ("GET", "/batches/(?P<id>[^/]+)", _one(objects.batch)),
        ("POST", "/fine_tuning/jobs", _fixed(lambda body: objects.job("ftjob-new", body))),
        ("GET", "/fine_tuning/jobs", _list(objects.jobs)),
        ("GET", "/fine_tuning/jobs/(?P<id>[^/]+)", _one(objects.job)),
    )
]
_PREFIX: Final = re.compile(r"\A(/v1|/openai/v1|/openai/deployments/[^/]+|/openai)(?=/)")


async def ordinary(request: Request, body: Mapping[str, Any]) -> Response:
    """The answer that the endpoint gives when nothing is in the way: a 404 as OpenAI words it for an unknown one, a 400
    for a request that it cannot make sense of.
    """
    path = _PREFIX.sub("", request.url.path, count=1)
    for method, pattern, handler in _ROUTES:
        match = pattern.match(path)
        if match and request.method == method:
            try:
                return await handler(request, body, match.groupdict())
            except (
                AttributeError,
                IndexError,
                KeyError,
                RecursionError,
                TypeError,
                ValueError,
                HTTPException,
            ) as error:
                message = f"Invalid request: {type(error).__name__}: {error}"
                return JSONResponse(error_body(message, kind="invalid_request_error"), 400)
    message = f"Invalid URL ({request.method} {request.url.path})"
    return JSONResponse(error_body(message, kind="invalid_request_error"), 404)
