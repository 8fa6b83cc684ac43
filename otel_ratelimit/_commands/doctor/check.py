"""One finding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from otel_ratelimit._commands.output import Line, Style

Status = Literal["ok", "note", "warning", "failure"]

_MARKS: Final[dict[Status, tuple[str, Style]]] = {
    "ok": ("ok  ", "good"),
    "note": ("    ", ""),
    "warning": ("WARN", "warning"),
    "failure": ("FAIL", "bad"),
}


@dataclass(frozen=True)
class Check:
    """Whether something is as it should be, and what to do where it is not.

    Attributes:
        area: what it belongs to: versions, hooks, environment, export, store.
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
    """A URL as it may be shown: no user, no password, no query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, ("***@" if "@" in parts.netloc else "") + host, parts.path, "", ""))
    except ValueError:
        return "(no URL)"
