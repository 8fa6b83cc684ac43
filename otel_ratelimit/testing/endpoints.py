"""Which request gets which ordinary answer. Knows no limits."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from otel_ratelimit.testing import answers
from otel_ratelimit.testing.wording import error_body

Handler = Callable[[Request, Mapping[str, Any], dict[str, str]], Awaitable[Response]]


def event_stream(events: Iterator[Mapping[str, Any]], *, named: bool, done: bool) -> StreamingResponse:
    """Server-sent events; ``named``: with an event line (Responses API); ``done``: closed by ``[DONE]`` (chat)."""

    async def lines() -> Any:
        for event in events:
            name = f"event: {event['type']}\n" if named and "type" in event else ""
            yield f"{name}data: {json.dumps(event)}\n\n"
        if done:
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def _chat(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    if body.get("stream"):
        return event_stream(answers.chat_stream(body), named=False, done=True)
    return JSONResponse(answers.chat(body))


async def _responses(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    if body.get("stream"):
        return event_stream(answers.responses_stream(body), named=True, done=False)
    return JSONResponse(answers.responses(body))


def _fixed(make: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Handler:
    async def handler(_request: Request, body: Mapping[str, Any], _match: dict[str, str]) -> Response:
        return JSONResponse(make(body))

    return handler


async def _model(_request: Request, _body: Mapping[str, Any], match: dict[str, str]) -> Response:
    return JSONResponse(answers.model(match["id"]))


async def _upload(request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    async with request.form() as form:
        upload = form.get("file")
        if upload is None or isinstance(upload, str):
            return JSONResponse(error_body("'file' is a required property", kind="invalid_request_error"), 400)
        data = await upload.read()
        if request.url.path.endswith("/files"):
            return JSONResponse(answers.file("file-new", len(data), upload.filename or "", answers.digest(data)))
        return JSONResponse({"text": answers.digest(data)})


async def _files(request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    query = request.query_params
    return JSONResponse(answers.files(query.get("after"), int(query.get("limit", "2"))))


async def _file(_request: Request, _body: Mapping[str, Any], match: dict[str, str]) -> Response:
    return JSONResponse(answers.file(match["id"]))


async def _empty_list(_request: Request, _body: Mapping[str, Any], _match: dict[str, str]) -> Response:
    return JSONResponse({"object": "list", "data": [], "has_more": False})


_ROUTES: Final[list[tuple[str, re.Pattern[str], Handler]]] = [
    (method, re.compile(pattern + r"\Z"), handler)
    for method, pattern, handler in (
        ("POST", "/chat/completions", _chat),
        ("POST", "/responses", _responses),
        ("POST", "/embeddings", _fixed(answers.embeddings)),
        ("POST", "/moderations", _fixed(answers.moderation)),
        ("POST", "/images/generations", _fixed(answers.image)),
        ("POST", "/audio/transcriptions", _upload),
        ("POST", "/files", _upload),
        ("GET", "/files", _files),
        ("GET", "/files/(?P<id>[^/]+)", _file),
        ("GET", "/models", _fixed(lambda _body: answers.models())),
        ("GET", "/models/(?P<id>[^/]+)", _model),
        ("GET", "/batches", _empty_list),
        ("GET", "/fine_tuning/jobs", _empty_list),
    )
]
_PREFIX: Final = re.compile(r"/v1|/openai/v1|/openai/deployments/[^/]+|/openai")


async def ordinary(request: Request, body: Mapping[str, Any]) -> Response:
    """The answer that the endpoint gives when nothing is in the way; a 404 as OpenAI words it for an unknown one."""
    path = _PREFIX.sub("", request.url.path, count=1)
    for method, pattern, handler in _ROUTES:
        match = pattern.match(path)
        if match and request.method == method:
            return await handler(request, body, match.groupdict())
    message = f"Invalid URL ({request.method} {request.url.path})"
    return JSONResponse(error_body(message, kind="invalid_request_error"), 404)
