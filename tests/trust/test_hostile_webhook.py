"""``collector-config/webhook.py``: on loopback, and of what it is sent only lines of text come out."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "collector-config" / "webhook.py"
ALERT = {"status": "firing", "labels": {"alertname": "A", "job": "shop"}, "annotations": {"summary": "Too much."}}


@pytest.fixture
def webhook() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    with subprocess.Popen([sys.executable, str(PROGRAM), "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(" ")[2])
        try:
            yield port, process
        finally:
            process.terminate()


def post(port: int, body: bytes, **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/pager", skip_accept_encoding=True)
    for name, value in {"content_length": str(len(body)), **headers}.items():
        if value:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    connection.sock.sendall(body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_it_listens_on_loopback_alone(webhook: tuple[int, subprocess.Popen[str]]) -> None:
    """By default. (Before: everywhere.)"""
    port, _ = webhook
    with socket.socket() as listener:  # another address of loopback is free as long as nobody listens everywhere
        listener.bind(("127.0.0.2", port))


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {"content_length": ""}, 411),
        (b"", {"content_length": "-1"}, 411),
        (b"", {"content_length": "9" * 5000}, 413),
        (b"", {"content_length": str(1 << 30)}, 413),
        (b"not JSON", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"[]", {}, 400),
        (b'{"alerts": [7]}', {}, 400),
        (b'{"alerts": [{"labels": []}]}', {}, 400),
        (b"\xff", {}, 400),
    ],
    ids=range(10),
)
def test_what_is_no_message(
    body: bytes, headers: dict[str, str], status: int, webhook: tuple[int, subprocess.Popen[str]]
) -> None:
    """Refused by status, without reading what it is too large for; the next message is taken."""
    port, process = webhook
    assert post(port, body, **headers) == status
    assert post(port, json.dumps({"alerts": [ALERT]}).encode()) == 204
    assert process.stdout is not None
    assert process.stdout.readline() == "pager firing A [shop] Too much.\n"


def test_texts_are_printable(webhook: tuple[int, subprocess.Popen[str]]) -> None:
    """No escape sequence, no second line, nothing endless."""
    port, process = webhook
    evil = {**ALERT, "annotations": {"summary": "\x1b[2J\r\nforged \u202e" + "x" * 10_000}}
    assert post(port, json.dumps({"alerts": [evil, ALERT]}).encode()) == 204
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("pager firing A [shop] ?[2J??forged ?xxx")
    assert len(line) < 300
    assert process.stdout.readline() == "pager firing A [shop] Too much.\n"
