"""What the first events of a stream mean for a call that has delivered nothing yet.

Owns the difference between bookkeeping, which may be held back and dropped because a second attempt says it anew, and
content, after which nothing can be taken back. Reads the SDK's models and plain mappings alike; knows neither the SDK nor
how throttles are worded (``hints``). Whatever is not known to be bookkeeping is content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

MAX_HELD: Final = 16
"""Events held back at most: a server that sends more of them before any content is no longer made to wait for it."""

FAILURES: Final = frozenset(("error", "response.failed"))
"""Types of the events that can say, once content was delivered, that the stream ends in a throttle."""

_LIFECYCLE: Final = frozenset(("response.created", "response.queued", "response.in_progress", "keepalive", "ping"))
"""Events of a Responses stream before the model has been asked. The item that is begun next, a reasoning item say, is shown to
users while the model thinks: it counts as content, or the pause after it would look like one of ours."""


def is_bookkeeping(event: object) -> bool:
    """Whether the event carries nothing that a caller would show or keep: it is certain to come again on another attempt.

    So is a failure that does not say of what: Azure sends one before the event that does.
    """
    kind = _read(event, "type")
    if isinstance(kind, str):
        return kind in _LIFECYCLE or (kind == "response.failed" and not _read(_read(event, "response"), "error"))
    choices = _read(event, "choices")
    if not isinstance(choices, (list, tuple)) or _read(event, "usage"):
        return False
    return all(_is_empty(choice) for choice in choices)  # none at all: Azure's report on the prompt


def _is_empty(choice: object) -> bool:
    """A choice of a chat chunk that only names the role, as the first of each does."""
    if _read(choice, "finish_reason") or _read(choice, "text"):
        return False
    return not any(value for name, value in _fields(_read(choice, "delta")) if name != "role")


def _read(holder: object, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _fields(delta: object) -> Iterable[tuple[str, object]]:
    """Name and value of all that a delta carries: also what the SDK does not know, the reasoning of some servers."""
    if isinstance(delta, Mapping):
        return delta.items()
    extra = getattr(delta, "model_extra", None)
    return [*getattr(delta, "__dict__", {}).items(), *(extra.items() if isinstance(extra, Mapping) else ())]
