"""Scripted answers: what the server says instead of what its limits would have it say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from otel_ratelimit.testing.wording import duration, error_body, retry_after_headers

THROTTLES: Final = frozenset({429, 529})
"""Statuses that say "too many" by themselves."""


@dataclass(frozen=True)
class Reply:
    """One answer. It is not charged to the limits, and carries no rate-limit headers but those given here.

    Args:
        status: the HTTP status. Without ``json``, ``body`` and ``events``, a 2xx is the endpoint's ordinary answer, and
            any other an error without a hint.
        json: the body as an object.
        body: the body as it is.
        headers: further headers.
        events: a stream of server-sent events instead of a body; each a JSON object.
        before: seconds to wait before the head is sent; the server's own ``latency`` is not added.
        pause: seconds between two events.

    Raises:
        ValueError: more than one of ``json``, ``body`` and ``events``, no event, or a status that does not exist.
    """

    status: int = 200
    json: Any = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] | None = None
    before: float = 0.0
    pause: float = 0.0

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"Reply.status must be from 200 to 599; got {self.status!r}")
        if sum(part is not None for part in (self.json, self.body, self.events)) > 1:
            raise ValueError("Reply takes one of json, body and events")
        if self.events is not None and not self.events:
            raise ValueError("Reply.events must not be empty")

    @property
    def is_throttle(self) -> bool:
        """Whether it tells the caller that there were too many: by its status, by the last event of its stream, or by an error in
        the body of a 200.
        """
        if self.status in THROTTLES:
            return True
        last = self.events[-1] if self.events else self.json
        if not isinstance(last, Mapping):
            return False
        choices = last.get("choices")
        holders = (last, last.get("response"), *(choices if isinstance(choices, (list, tuple)) else ()))
        errors = [holder.get("error") for holder in holders if isinstance(holder, Mapping)]
        codes = [str(error.get("code")) for error in (*errors, last) if isinstance(error, Mapping)]
        return any("rate_limit" in code or code == "429" for code in codes)

    @classmethod
    def ok(cls, *, before: float = 0.0) -> Reply:
        """The endpoint's ordinary answer, whatever the limits say, after ``before`` seconds."""
        return cls(before=before)

    @classmethod
    def stream_throttle(
        cls, *, delay: float, api: Literal["chat", "responses"] = "responses", after_content: bool = False
    ) -> Reply:
        """A 200 whose stream turns out to be a throttle: at once, or after some content.

        ``delay`` in seconds, as it stands in the message. The SDK raises ``APIError`` for the one of ``"chat"``; that of
        ``"responses"`` it hands on as the event ``response.failed``.
        """
        error = {
            "code": "rate_limit_exceeded",
            "message": f"Rate limit reached. Please try again in {duration(delay)}.",
        }
        if api == "chat":
            first: list[Mapping[str, Any]] = []
            if after_content:
                choice = {"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}
                first = [
                    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
                ]
            return cls(events=(*first, {"error": {**error, "type": "tokens", "param": None}}))
        response: dict[str, Any] = {
            "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], "tools": [],
            "parallel_tool_calls": True, "tool_choice": "auto", "status": "in_progress", "error": None,
        }  # fmt: skip
        events: list[Mapping[str, Any]] = [
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
        ]
        if after_content:
            events.append(
                {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0,
                 "delta": "Hel", "logprobs": []}
            )  # fmt: skip
        events.append({"type": "response.failed", "response": {**response, "status": "failed", "error": error}})
        return cls(events=tuple({**event, "sequence_number": number} for number, event in enumerate(events)))


@dataclass(frozen=True)
class Fault:
    """A broken connection instead of an answer.

    Args:
        kind: ``"reset"`` closes it before the head, ``"reset_after_head"`` after a 200's head, ``"truncate"`` in the
            middle of the body.
        before: seconds to wait first.
    """

    kind: Literal["reset", "reset_after_head", "truncate"]
    before: float = 0.0

    @classmethod
    def reset(cls, *, before: float = 0.0) -> Fault:
        """Close the connection without a word, ``before`` seconds after the request came."""
        return cls("reset", before)

    @classmethod
    def reset_after_head(cls, *, before: float = 0.0) -> Fault:
        """Close it after the head of a 200, ``before`` seconds after the request came."""
        return cls("reset_after_head", before)

    @classmethod
    def truncate(cls, *, before: float = 0.0) -> Fault:
        """Close it in the middle of the body, ``before`` seconds after the request came."""
        return cls("truncate", before)


def throttle_reply(
    delay: float = 0.564, *, status: int = 429, kind: str = "tokens", retry_after: bool = False
) -> Reply:
    """A 429 in OpenAI's words whose message names ``delay`` (seconds); with ``retry_after`` its headers do too."""
    message = f"Rate limit reached for gpt-4o in organization org-test on {kind} per min. Please try again in {duration(delay)}."
    return Reply(
        status=status,
        json=error_body(message, kind=kind, code="rate_limit_exceeded"),
        headers=retry_after_headers(delay) if retry_after else {},
    )
