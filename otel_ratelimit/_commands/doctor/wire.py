"""What is heard at an endpoint that did not take a test span: who speaks there, in which protocol, and what is answered.

By what comes over the wire; ports prove nothing. Asked only after the exporter itself has failed, since a server may speak
several protocols on one port and answer this in another than the exporter's. Nothing of an answer is shown but its status.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

_HTTP_HELLO: Final = b"GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n"
_ALERT: Final = 0x15
"""First byte of a TLS record that refuses what it was sent (RFC 8446, section 5.1)."""

_SETTINGS: Final = 0x04
"""Type of the frame that an HTTP/2 server begins with (RFC 9113, section 3.4); the fourth byte of its header."""

GRPC: Final = "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
HTTP: Final = "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
GRPC_EXPORTER: Final = "opentelemetry-exporter-otlp-proto-grpc"
CERTIFICATE: Final = "OTEL_EXPORTER_OTLP_CERTIFICATE"

_ANSWERS: Final[Mapping[int, str]] = {
    401: "401: the endpoint wants a credential: OTEL_EXPORTER_OTLP_HEADERS",
    403: "403: the endpoint refuses the credential: OTEL_EXPORTER_OTLP_HEADERS",
    404: "404: there is a server, but it does not take this signal at this path: is the path right? Jaeger takes traces only"
    " (OTEL_METRICS_EXPORTER=none)",
    405: "405: there is a server, but none for OTLP at this path (it takes no POST): is the port that of the receiver, and"
    " the path right?",
    413: "413: the endpoint finds the batch too large",
    415: f"415: the endpoint takes another encoding: {HTTP} sends protobuf",
    429: "429: the endpoint takes no more for now",
    502: "502: a proxy answers, and what is behind it does not",
    503: "503: the endpoint is there and takes nothing now: it is overloaded, or starting, or what is behind it is away",
    504: "504: a proxy answers, and what is behind it does not in time",
}


def hear(endpoint: str, protocol: str, *, certificate: str | None, headers: Mapping[str, str], timeout: float) -> str:
    """What is wrong, and what helps; empty where nothing wrong was heard.

    Args:
        endpoint: as the exporter has it, with path for HTTP; for gRPC with or without scheme.
        protocol: ``grpc`` or ``http/protobuf``: what the exporter speaks.
        certificate: the file that the exporter trusts instead of the system's, None for none.
        headers: what the exporter sends with each request. Sent, never shown.
        timeout: seconds for each step.
    """
    parts = _parts(endpoint)
    if parts is None:
        return ""
    host = parts.hostname or ""
    try:
        with socket.create_connection((host, _port(parts)), timeout) as connection:
            if parts.scheme == "https":
                wrong = _heard_in_tls(connection, host, protocol, certificate)
            else:
                wrong = _heard(connection, host, protocol)
        return wrong or ("" if protocol == "grpc" else _status(parts, certificate, headers, timeout))
    except OSError as error:
        return _no_answer(error)


def unreachable(endpoint: str, timeout: float) -> str:
    """Why no connection can be had; empty where one can."""
    parts = _parts(endpoint)
    if parts is None:
        return ""
    try:
        socket.create_connection((parts.hostname or "", _port(parts)), timeout).close()
    except OSError as error:
        return _no_answer(error)
    return ""


def _no_answer(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: is the Collector (or Jaeger) up, and is the port right?"
    if isinstance(error, socket.gaierror):
        return "the host's name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer in time: what listens there hangs, or a firewall or a proxy is in between"
    if isinstance(error, ConnectionResetError):
        return "the connection is closed without an answer: what listens there speaks something else"
    return f"no connection ({type(error).__name__})"


def meaning(text: str) -> str:
    """What a status that stands in a text means; empty where none does that is known."""
    return next((_ANSWERS[int(word)] for word in re.findall(r"\b\d{3}\b", text) if int(word) in _ANSWERS), "")


def _parts(endpoint: str) -> SplitResult | None:
    """The parts of an address; None where it is none."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        _ = parts.port  # raises where it is no number
        return parts if parts.hostname else None
    except ValueError:
        return None


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _heard(connection: socket.socket, host: str, protocol: str) -> str:
    """Without TLS: HTTP's own words show which protocol answers."""
    connection.sendall(_HTTP_HELLO % host.encode("idna"))
    first = _receive(connection)
    if first[:1] == bytes([_ALERT]):
        return "TLS is spoken there: the endpoint must begin with https://"
    return _told_apart(first, protocol)


def _told_apart(first: bytes, protocol: str) -> str:
    if first.startswith(b"HTTP/1"):
        return f"HTTP is spoken there, not gRPC: {HTTP}" if protocol == "grpc" else ""
    if len(first) > 3 and first[3] == _SETTINGS:
        return "" if protocol == "grpc" else f"gRPC is spoken there, not HTTP: {GRPC} (pip install {GRPC_EXPORTER})"
    if not first:
        return (
            ""
            if protocol == "grpc"
            else "the connection is closed without an answer: what listens there speaks no HTTP"
        )
    return "what listens there speaks neither HTTP nor gRPC: is the port right?"


def _heard_in_tls(connection: socket.socket, host: str, protocol: str, certificate: str | None) -> str:
    try:
        context = _trusting(certificate)
    except OSError:
        return f"the file that {CERTIFICATE} names cannot be read, or holds no certificate"
    context.set_alpn_protocols(["h2", "http/1.1"] if protocol == "grpc" else ["http/1.1"])
    try:
        with context.wrap_socket(connection, server_hostname=host) as secure:
            if protocol == "grpc":
                return "" if secure.selected_alpn_protocol() == "h2" else f"HTTP is spoken there, not gRPC: {HTTP}"
            secure.sendall(_HTTP_HELLO % host.encode("idna"))
            return _told_apart(_receive(secure), protocol)
    except ssl.SSLCertVerificationError as error:
        trouble = "is for another host" if "match" in str(error.verify_message) else "is not trusted (self-signed, say)"
        return f"the certificate there {trouble}: {CERTIFICATE} names a file with one to trust"
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return "no TLS is spoken there: the endpoint must begin with http://"
        if error.reason and "ALPN" in error.reason:
            return f"{'HTTP' if protocol == 'grpc' else 'gRPC'} is spoken there: {HTTP if protocol == 'grpc' else GRPC}"
        return f"the TLS handshake fails ({error.reason or type(error).__name__})"


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(64)
    except ConnectionResetError:
        return b""


def _trusting(certificate: str | None) -> ssl.SSLContext:
    if certificate is None:
        try:
            import certifi  # noqa: PLC0415 - what the HTTP exporter trusts, where it is installed

            certificate = certifi.where()
        except ModuleNotFoundError:
            pass
    return ssl.create_default_context(cafile=certificate)


def _status(parts: SplitResult, certificate: str | None, headers: Mapping[str, str], timeout: float) -> str:
    """What the receiver answers to an export of nothing."""
    connection: HTTPConnection
    if parts.scheme == "https":
        connection = HTTPSConnection(
            parts.hostname or "", _port(parts), timeout=timeout, context=_trusting(certificate)
        )
    else:
        connection = HTTPConnection(parts.hostname or "", _port(parts), timeout=timeout)
    try:
        sent: dict[str, Any] = {**headers, "content-type": "application/x-protobuf"}
        connection.request("POST", parts.path or "/", b"", {key: str(value) for key, value in sent.items()})
        status = connection.getresponse().status
    except HTTPException as error:
        return f"the answer there is no HTTP ({type(error).__name__})"
    finally:
        connection.close()
    if 300 <= status < 400:
        return f"{status}: the endpoint sends to another address: use that one"
    return _ANSWERS.get(status, "" if status < 400 else f"the endpoint answers {status}")
