"""One finding."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from otel_ratelimit._commands.output import Line, Style
from otel_ratelimit._core.store_url import MEMORY

Status = Literal["ok", "note", "warning", "failure"]

_MARKS: Final[dict[Status, tuple[str, Style]]] = {
    "ok": ("ok  ", "good"),
    "note": ("    ", ""),
    "warning": ("WARN", "warning"),
    "failure": ("FAIL", "bad"),
}


HIDDEN: Final = "(set)"
"""What is shown of a value of which it is not certain that it holds no secret."""

_SCHEMES: Final = frozenset(
    {"http", "https", "grpc", "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
)
_HOST: Final = r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*")
_NAME: Final = re.compile(r"[a-z][a-z_./]{0,29}")


@dataclass(frozen=True)
class Check:
    """Whether something is as it should be, and what to do where it is not.

    Attributes:
        area: what it belongs to: versions, hooks, environment, export, store, tests.
        status: ``failure`` makes the exit status 1.
        text: what was found.
        advice: what to do about it, if anything.
    """

    area: str
    status: Status
    text: str
    advice: str = ""

    def lines(self) -> list[Line]:
        """For a person."""
        mark, style = _MARKS[self.status]
        lines = [Line(f"  {mark} {self.text}", style, 7)]
        return [*lines, Line(f"       -> {self.advice}", "", 10)] if self.advice else lines

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def without_secret(url: str) -> str:
    """A URL as it may be shown: scheme, hosts and ports; ``(set)`` where it cannot be told for certain what they are.

    A password with a ``/``, ``?`` or ``#`` that was not quoted ends what counts as the host too early, so an ``@`` behind that
    hides all of it; the path is left out, since some services want a token there.
    """
    if url == MEMORY:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    _, at, hosts = parts.netloc.rpartition("@")
    elsewhere = f"{parts.path}{parts.query}{parts.fragment}"
    if parts.scheme not in _SCHEMES or "@" in elsewhere or not _HOSTS.fullmatch(hosts):
        return HIDDEN
    return f"{parts.scheme}://{'***@' if at else ''}{hosts}"


def as_name(text: str) -> str:
    """The name of an exporter or a protocol as it may be shown: as long as it looks like one."""
    return text if _NAME.fullmatch(text) else HIDDEN


def fault(error: BaseException) -> str:
    """An exception as it may be shown: its type; its text may quote what it failed at."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return f"{type(error).__name__}: {as_name(missing)}" if missing else type(error).__name__
