"""Attacks by the body of a refusal, each against the SDK alone and against the SDK with us: ``python -m tests.trust.bodies``.

Prints for each how the call ended, how long it took and by how much the peak of the process's memory grew. A call is made
in a process of its own, whose memory can be measured (Linux: VmHWM). ``stream=True``, because everything else is read by the
HTTP client before the SDK sees it. The SDK alone reads the body of a refusal that it does not retry; with us, of any.
"""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from tests.trust.broken_server import Behaviour, BrokenServer, head, read_request

ERROR = json.dumps(
    {"error": {"message": "Rate limit reached. Please try again in 20ms.", "code": "rate_limit_exceeded"}}
).encode()
REFUSED = "429 Too Many Requests"
lasts = 12.0
"""Seconds after which an attack ends by itself, so that a program that falls for it ends too."""


def bomb(encoding: str, megabytes: int) -> bytes:
    """An error object, and blanks behind it, compressed."""
    if "," in encoding:
        first, last = encoding.split(", ")
        return compress(last, bomb(first, megabytes))
    return compress(encoding, ERROR + b" " * (megabytes << 20))


def compress(encoding: str, data: bytes) -> bytes:
    """As ``content-encoding`` names it."""
    if encoding == "gzip":
        return gzip.compress(data)
    if encoding == "deflate":
        return zlib.compress(data)
    if encoding == "raw deflate":
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(data) + packer.flush()
    if encoding == "br":
        import brotli  # type: ignore[import-untyped,unused-ignore]

        return bytes(brotli.compress(data, quality=5))
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def encoded(encoding: str, body: bytes) -> Behaviour:
    """A refusal whose body is encoded so."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        name = encoding.removeprefix("raw ")
        connection.sendall(head(REFUSED, len(body), f"content-encoding: {name}") + body)

    return behave


def _for_a_while(connection: socket.socket, pieces: Iterator[bytes], pause: float) -> None:
    end = time.monotonic() + lasts
    while time.monotonic() < end:
        connection.sendall(next(pieces))
        time.sleep(pause)


def _repeated(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def stalls(connection: socket.socket) -> None:
    """A head, and no body."""
    read_request(connection)
    connection.sendall(head(REFUSED, 100))
    time.sleep(lasts)


def body_drips(connection: socket.socket) -> None:
    """A byte in a fifth of a second."""
    read_request(connection)
    connection.sendall(head(REFUSED, 1 << 20))
    _for_a_while(connection, _repeated(b" "), 0.2)


def framing_drips(connection: socket.socket) -> None:
    """A chunk's extension that does not end: no byte of the body ever comes."""
    read_request(connection)
    connection.sendall(head(REFUSED, None, "transfer-encoding: chunked") + b"5;")
    _for_a_while(connection, _repeated(b"x"), 0.2)


def endless_body(connection: socket.socket) -> None:
    """As fast as the network takes it."""
    read_request(connection)
    connection.sendall(head(REFUSED, None, "transfer-encoding: chunked"))
    _for_a_while(connection, _repeated(b"10000\r\n" + b" " * 65536 + b"\r\n"), 0.002)


def head_drips(connection: socket.socket) -> None:
    """A byte of the head in a fifth of a second."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 429 Too Many Requests\r\nx-slow: ")
    _for_a_while(connection, _repeated(b"x"), 0.2)


def endless_head(connection: socket.socket) -> None:
    """One header after the other."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 429 Too Many Requests\r\n")
    _for_a_while(connection, (b"x-ratelimit-limit-%d: 1\r\n" % number for number in range(1 << 60)), 0.0)


def breaks_off(connection: socket.socket) -> None:
    """A body of which a part never comes."""
    read_request(connection)
    connection.sendall(head(REFUSED, len(ERROR) + 10) + ERROR)


SLOW: dict[str, Behaviour] = {
    "no body": stalls,
    "a body that drips": body_drips,
    "framing that drips": framing_drips,
    "a body without an end": endless_body,
}
HEADS: dict[str, Behaviour] = {"a head that drips": head_drips, "a head without an end": endless_head}
ENCODINGS = ("gzip", "deflate", "br", "zstd", "gzip, gzip", "br, gzip", "zstd, br")


def call(base_url: str, library: str, ours: bool) -> dict[str, Any]:
    """Make one call, in this process."""
    import importlib

    import openai

    http = importlib.import_module(library)
    if ours:
        import otel_ratelimit

        otel_ratelimit.uninstrument()
        otel_ratelimit.instrument(policy=otel_ratelimit.Policy(max_wait=0.001))
    retries = 1 if ours else 0  # without any we look at nothing, and the SDK alone reads
    with openai.OpenAI(
        base_url=base_url, api_key="test", http_client=http.Client(timeout=60), max_retries=retries
    ) as client:
        before, began = _peak(), time.monotonic()
        try:
            client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
            end = "answered"
        except Exception as error:
            end = type(error).__name__
            told = getattr(error, "code", None)
            end += f" ({told})" if told else ""
        return {"end": end, "seconds": time.monotonic() - began, "mebibytes": (_peak() - before) / 1024}


def _peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def measured(behaviours: Sequence[Behaviour], library: str, *, ours: bool) -> list[dict[str, Any]]:
    """Make a call of each, one after the other, in a process of its own, against servers that behave so."""
    servers = [BrokenServer(behaviour) for behaviour in behaviours]
    try:
        urls = ",".join(server.base_url for server in servers)
        command = [sys.executable, "-m", "tests.trust.bodies", "--call", urls, library, str(int(ours))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    finally:
        for server in servers:
            server.close()
    result: list[dict[str, Any]] = json.loads(done.stdout)
    return result


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", nargs=3)
    parser.add_argument("--megabytes", type=int, default=256)
    options = parser.parse_args()
    if options.call:
        urls, library, ours = options.call
        print(json.dumps([call(url, library, ours == "1") for url in urls.split(",")]))
        return
    attacks = {f"{name}, {options.megabytes} MiB": encoded(name, bomb(name, options.megabytes)) for name in ENCODINGS}
    for library in ("httpx2", "httpx"):
        for name, behaviour in (attacks | SLOW | HEADS).items():
            for ours in (False, True):
                (found,) = measured([behaviour], library, ours=ours)
                print(
                    f"{library:7}{name:24}{'with us' if ours else 'alone':9}{found['seconds']:6.1f} s"
                    f"{found['mebibytes']:8.1f} MiB  {found['end']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
