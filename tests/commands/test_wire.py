"""``doctor`` by what it hears: real servers on free ports that speak this and that, and one sentence for each."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from otel_ratelimit._commands.doctor.wire import hear, unreachable
from tests.commands.conftest import Command
from tests.commands.test_doctor import found

TIMEOUT = 2.0


@contextlib.contextmanager
def serving(status: int, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """HTTP/1.1 that answers every POST with a status; GETs with 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(status)

        def answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that speaks something else is no news here
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def answering(reply: Callable[[socket.socket], object]) -> Iterator[int]:
    """A listener that does one thing with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def work() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                reply(connection)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in held:
            connection.close()


@pytest.fixture(scope="module")
def grpc_port() -> Iterator[int]:
    """A real gRPC server, without a service."""
    grpc = pytest.importorskip("grpc")
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed, for 127.0.0.1; key and certificate in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "pair.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(file.with_suffix(".crt"))],
        capture_output=True,
        check=True,
    )  # fmt: skip
    file.write_text(file.read_text() + file.with_suffix(".crt").read_text())
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def heard(url: str, protocol: str = "http/protobuf", certificate: str | None = None) -> str:
    headers = {"authorization": "Bearer secret"}
    said = hear(url, protocol, certificate=certificate, headers=headers, timeout=TIMEOUT)
    assert "secret" not in said
    return said


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, ""),
        (400, "answers 400"),
        (401, "401: the endpoint wants a credential"),
        (403, "403: the endpoint refuses the credential"),
        (404, "404: there is a server, but it does not take this signal"),
        (405, "405: there is a server, but none for OTLP"),
        (307, "307: the endpoint sends to another address"),
        (415, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        (503, "503: the endpoint is there and takes nothing now"),
    ],
)
def test_statuses(status: int, said: str) -> None:
    """Each with what it means for an exporter."""
    with serving(status) as port:
        answer = heard(f"http://127.0.0.1:{port}/v1/traces")
    assert answer == said if not said else said in answer


def test_http_where_grpc_is_expected() -> None:
    """On whatever port; with and without a scheme, as the exporter keeps it."""
    with serving(200) as port:
        for endpoint in (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"):
            assert (
                heard(endpoint, "grpc") == "HTTP is spoken there, not gRPC: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
            )


def test_grpc_where_http_is_expected(grpc_port: int) -> None:
    """A real server; to a client that speaks it nothing is wrong there."""
    said = heard(f"http://127.0.0.1:{grpc_port}/v1/traces")
    assert said.startswith("gRPC is spoken there, not HTTP: OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
    assert "opentelemetry-exporter-otlp-proto-grpc" in said
    assert heard(f"127.0.0.1:{grpc_port}", "grpc") == ""


def test_tls(tls: ssl.SSLContext, certificate: Path, tmp_path: Path) -> None:
    """Self-signed; trusted; a file that is none; TLS where none is expected, and none where it is."""
    with serving(200, tls) as port:
        said = heard(f"https://127.0.0.1:{port}/v1/traces")
        assert "is not trusted" in said
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in said
        assert heard(f"https://127.0.0.1:{port}/v1/traces", certificate=str(certificate)) == ""
        assert "is for another host" in heard(f"https://localhost:{port}/", certificate=str(certificate))
        (tmp_path / "none.pem").write_text("no certificate")
        for file in ("none.pem", "missing.pem"):
            assert "cannot be read" in heard(f"https://127.0.0.1:{port}/", certificate=str(tmp_path / file))
        assert heard(f"https://127.0.0.1:{port}", "grpc", str(certificate)).startswith("HTTP is spoken there")
        plain = heard(f"http://127.0.0.1:{port}/v1/traces")
        assert "https://" in plain or "closed without an answer" in plain
    with serving(200) as port:
        assert "must begin with http://" in heard(f"https://127.0.0.1:{port}/v1/traces")


def test_a_tls_alert() -> None:
    """What most TLS servers answer to plain HTTP."""
    with answering(lambda connection: connection.sendall(bytes([0x15, 3, 3, 0, 2, 2, 10]))) as port:
        assert "must begin with https://" in heard(f"http://127.0.0.1:{port}/v1/traces")


def test_who_hangs_who_hangs_up_and_who_speaks_something_else() -> None:
    """Each in bounded time."""
    with answering(lambda _: None) as port:
        assert hear(f"http://127.0.0.1:{port}/", "http/protobuf", certificate=None, headers={}, timeout=0.3).startswith(
            "no answer in time"
        )
    with answering(lambda connection: connection.close()) as port:
        assert "closed without an answer" in heard(f"http://127.0.0.1:{port}/")
    with answering(lambda connection: connection.sendall(b"220 mail.example.com ESMTP\r\n")) as port:
        assert "neither HTTP nor gRPC" in heard(f"http://127.0.0.1:{port}/")


def test_nobody_there() -> None:
    """A port that is bound and does not listen; a name that does not resolve; what is no address at all."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{holder.getsockname()[1]}"
        assert unreachable(endpoint, TIMEOUT).startswith("nothing listens there")
        assert heard(endpoint).startswith("nothing listens there")
    assert "resolved" in unreachable("http://no-such-host.invalid:4318", TIMEOUT)
    assert unreachable("", TIMEOUT) == heard("") == ""


# --- the command --------------------------------------------------------------------------------------------------------


def advice(command: Command, **environment: str) -> dict[str, dict[str, str]]:
    """What it says of each signal."""
    done = command("doctor", "--json", OTEL_SERVICE_NAME="shop", OTEL_EXPORTER_OTLP_TIMEOUT="1", **environment)
    return {check["text"].split(":")[0]: check for check in found(done.stdout, "export")}


def test_the_command_says_what_it_heard(command: Command, grpc_port: int) -> None:
    """A gRPC receiver on a port that is not 4317: named as what it is, with the package that is missing."""
    checks = advice(command, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{grpc_port}")
    for signal in ("traces", "metrics"):
        assert checks[signal]["status"] == "failure"
        assert checks[signal]["advice"].startswith("gRPC is spoken there, not HTTP")


def test_http_on_the_port_of_grpc_is_no_mistake(command: Command) -> None:
    """Ports prove nothing: a receiver of HTTP on 4317 is fine, if it is one."""
    with serving(200) as port:
        done = command("doctor", OTEL_SERVICE_NAME="shop", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
        assert done.returncode == 0, done.stdout
    with serving(503) as port:
        checks = advice(command, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
        assert checks["traces"]["advice"].startswith("503: the endpoint is there")


def test_the_wrong_extra(command: Command) -> None:
    """gRPC is asked for, and only HTTP's exporter is installed."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with contextlib.suppress(ImportError):
        import opentelemetry.exporter.otlp.proto.grpc  # type: ignore[import-not-found]  # noqa: F401

        pytest.skip("the exporter for gRPC is installed")
    checks = advice(command, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    (check,) = {check["advice"] for check in checks.values()}
    assert "pip install opentelemetry-exporter-otlp-proto-grpc" in check
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in check


@pytest.mark.parametrize(
    ("sampler", "argument", "said"),
    [
        ("always_off", "", "drops every trace"),
        ("parentbased_traceidratio", "0.1", "drops traces by chance"),
        ("parentbased_always_on", "", None),
    ],
)
def test_a_sampler_that_drops(command: Command, sampler: str, argument: str, said: str | None) -> None:
    """The test span is sent all the same, so that the wire is tested; and the sampler is named."""
    with serving(200) as port:
        done = command(
            "doctor", "--json", OTEL_SERVICE_NAME="shop", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument,
        )  # fmt: skip
    checks = found(done.stdout, "export")
    assert done.returncode == 0, done.stdout
    assert [check["status"] for check in checks if "was taken" in check["text"]] == ["ok", "ok"]
    dropping = [check["text"] for check in checks if "sampler" in check["text"]]
    assert len(dropping) == (said is not None)
    assert said is None or said in dropping[0]
