"""Whether telemetry left this process, and what stood in its way: told by what the OTLP exporters log, which return only that
they failed. Nothing is changed for the program: its handlers get every record. Of a record's text only what is listed here is
told, since it may quote addresses and answers.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

SIGNALS: Final = ("traces", "metrics")
"""What is exported, and noted when it was not."""

CONNECT_TIMEOUT: Final = 1.0
"""Seconds."""

_LOGGERS: Final[Mapping[str, str]] = {
    "opentelemetry.exporter.otlp.proto.http.trace_exporter": "traces",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter": "metrics",
    "opentelemetry.exporter.otlp.common.http": "",
    "opentelemetry.exporter.otlp.proto.grpc.exporter": "",
}
"""Those of the exporters, and the signal; empty where the record tells."""

_STATUS: Final = re.compile(r"\bcode: (?:StatusCode\.)?([A-Z_]+|\d{3})\b")
_NO_ANSWER: Final = "no answer in time"

_SAID: Final = (
    ("refused", "connection refused: nothing listens there"),
    ("certificate", "the certificate is not trusted: OTEL_EXPORTER_OTLP_CERTIFICATE"),
    ("ssl", "TLS failed: http:// or https://?"),
    ("resolve", "the host's name cannot be resolved"),
    ("badstatusline", "what answers speaks no HTTP"),
    ("remotedisconnected", "the connection was closed without an answer"),
    ("timed out", _NO_ANSWER),
    ("timeout", _NO_ANSWER),
)
"""Words of a record, in lower case, and what they mean. The first that fits."""


def reason_of(text: str) -> str:
    """What a record says stood in the way; empty where it says nothing that is known."""
    status = _STATUS.search(text)
    if status is not None and status[1].isdigit():
        return f"HTTP {status[1]}"
    if "timeout, max retries or shutdown" in text:
        return ""  # one of the three, and what the attempts failed by is not said
    lower = text.lower()
    known = next((meaning for word, meaning in _SAID if word in lower), "")
    return known or (f"gRPC {status[1]}" if status is not None else "")


class ExportFailures(logging.Filter):
    """Notes what the exporters log; lets every record pass.

    Attributes:
        found: what stood in the way, by signal: of the last export of each that failed.
    """

    def __init__(self, told: Callable[[], object] = lambda: None) -> None:
        """``told`` is called when there is something new."""
        super().__init__()
        self.found: dict[str, str] = {}
        self._hints: dict[str, str] = {}
        self._told = told

    def watch(self) -> ExportFailures:
        """Begin."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)
        return self

    def stop(self) -> None:
        """End."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called with each record of those loggers."""
        try:
            self._note(record)
        except Exception:  # a record that cannot be formatted is nobody's trouble
            return True
        return True

    def _note(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        signal = _LOGGERS.get(record.name) or ("metrics" if "metric" in text.lower() else "traces")
        reason = reason_of(text)
        if record.levelno < logging.ERROR:
            if reason and "retrying" in text:  # why it tries again is what the last attempt fails by, and does not say
                self._hints[signal] = reason
            return
        if "export" in text:
            hint = self._hints.pop(signal, "")
            # Where the time ran out while it tried again, what the attempts before failed by is the reason.
            self.found[signal] = hint if hint and reason in ("", _NO_ANSWER) else reason
            self._told()


def lines_of(found: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """A line for each signal that could not be exported. Where the exporter did not say why, the endpoint of the environment is
    asked whether it takes a connection.
    """
    lines = []
    for signal, reason in sorted(found.items()):
        its_own = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        why = reason or _no_connection(its_own or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "")
        lines.append(f"{signal} could not be exported{f' ({why})' if why else ''}; otel-ratelimit doctor looks closer")
    return lines


def _no_connection(endpoint: str) -> str:
    """Why no connection can be had; empty where one can, or where the endpoint is no URL."""
    try:
        parts = urlsplit(endpoint)
        if parts.hostname:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        return reason_of(f"{type(error).__name__}: {error}".replace("gaierror", "cannot resolve"))
    return ""
