"""Every form of a store's URL, against a real server of that kind; and what is wrong with those that are none."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from otel_ratelimit import ConfigurationError, Policy
from otel_ratelimit._core.store_url import parse_store
from otel_ratelimit._settings import policy_from_environment
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis_client import Script
from tests.helpers import redis_server
from tests.helpers.redis_server import RedisServer, free_port
from tests.stores.test_allocation_script import Fleet

needs_redis = pytest.mark.skipif(redis_server.PROGRAM is None, reason=redis_server.MISSING)


def exchange(url: str) -> str:
    """One exchange through this URL; returns a key."""
    script = Script(url, timeout=20.0)
    try:
        keys = script.keys_of(Account(secrets.token_hex(8), b"payer", "gpt-4o"))
        fleet = Fleet(script, keys)
        fleet.hear("a", 100.0)
        assert fleet.wait("a", 1.0) == 1
        return keys[0]
    finally:
        script.close()


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    with RedisServer("--requirepass", "pass/word") as server:
        yield server


@needs_redis
def test_a_single_server(shared_redis: RedisServer) -> None:
    """By name and port, by database, and by socket; the prefix is ours."""
    assert exchange(f"redis://localhost:{shared_redis.port}").startswith("otel_ratelimit:1:{")
    assert exchange(f"redis://127.0.0.1:{shared_redis.port}/3?prefix=mine").startswith("mine:1:{")
    assert exchange(f"unix://{shared_redis.socket}")


@needs_redis
def test_a_password(locked: RedisServer) -> None:
    """Quoted as URLs do, with and without a user."""
    assert exchange(f"redis://:pass%2Fword@127.0.0.1:{locked.port}/0")
    assert exchange(f"redis://default:pass%2Fword@127.0.0.1:{locked.port}/0")
    with pytest.raises(redis.exceptions.AuthenticationError):
        exchange(f"redis://:wrong@127.0.0.1:{locked.port}/0")


@needs_redis
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_tls(tmp_path: Path) -> None:
    """``rediss://``: the certificate is checked."""
    if not redis_server.has_tls():
        pytest.skip(f"{redis_server.PROGRAM} was built without TLS")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    with RedisServer("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
                     "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"):  # fmt: skip
        assert exchange(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        with pytest.raises(redis.exceptions.ConnectionError):
            exchange(f"rediss://localhost:{port}/0")


@needs_redis
def test_sentinels(locked: RedisServer, tmp_path: Path) -> None:
    """The first sentinel is dead: the second one names the master, which wants the password."""
    assert redis_server.PROGRAM is not None
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor here 127.0.0.1 {locked.port} 1\n"
        "sentinel auth-pass here pass/word\n"
    )
    process = subprocess.Popen(
        [redis_server.PROGRAM, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20.0
        while True:
            try:
                with redis.Redis(port=port) as client:
                    client.ping()
                break
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert exchange(f"redis+sentinel://:pass%2Fword@127.0.0.1:{free_port()},127.0.0.1:{port}/here/0")
    finally:
        process.kill()
        process.wait(10)


@needs_redis
def test_a_cluster() -> None:
    """All keys of an account lie in one slot: a cluster takes the script."""
    with RedisServer("--cluster-enabled", "yes") as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            deadline = time.monotonic() + 20.0
            while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert exchange(f"redis+cluster://127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://secret", "scheme"),
        ("redis", "scheme"),
        ("", "scheme"),
        (None, "no text"),
        ("redis://", "names no host"),
        ("redis://:secret@", "names no host"),
        ("redis://host:secret", "port"),
        ("redis://host:99999", "port"),
        ("redis://host:0", "port"),
        ("redis://host/secret", "database"),
        ("redis://[secret", "no URL"),
        ("unix://", "socket"),
        ("redis+sentinel://host", "service"),
        ("redis+sentinel://host/here/secret", "database"),
        ("redis+sentinel://:secret@/here", "host"),
        ("redis+cluster://host:secret", "port"),
        ("redis://host?prefix={secret}", "prefix"),
        ("redis://host?prefix=", "prefix"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_quoted(url: object, wrong: str) -> None:
    """Policy and environment alike; the message says what is allowed."""
    with pytest.raises(ConfigurationError, match=wrong) as raised:
        Policy(store=url)  # type: ignore[arg-type]
    assert "redis://" in str(raised.value)
    assert "secret" not in str(raised.value)
    if isinstance(url, str) and url:
        with pytest.raises(ConfigurationError, match="OTEL_RATELIMIT_STORE must be one of") as raised:
            policy_from_environment({"OTEL_RATELIMIT_STORE": url})
        assert "secret" not in str(raised.value)


def test_a_password_is_never_shown() -> None:
    """Not by a policy, and not by what became of its URL."""
    for url in (
        "redis://user:secret@host:1/2",
        "rediss://:secret@host?ssl_cert_reqs=none",
        "unix://:secret@/tmp/socket",
        "redis+sentinel://user:secret@a:1,b/here?sentinel_password=secret",
        "redis+cluster://user:secret@a,b:7000",
    ):
        assert "secret" not in repr(Policy(store=url))
        assert "secret" not in repr(parse_store(url))


def test_the_parts_of_a_url() -> None:
    """Hosts with default ports, quoted passwords, bracketed addresses."""
    address = parse_store("redis+sentinel://us%40er:pa%3Ass@a:1,b,[::1]:7/here/2?ssl=true&x=y&prefix=p")
    assert address is not None
    assert address.hosts == (("a", 1), ("b", 26379), ("::1", 7))
    assert (address.user, address.password, address.service, address.database) == ("us@er", "pa:ss", "here", 2)
    assert (address.tls, address.options, address.prefix) == (True, {"x": "y"}, "p")
    cluster = parse_store("rediss+cluster://a")
    assert cluster is not None
    assert (cluster.hosts, cluster.tls) == ((("a", 6379),), True)
    assert parse_store("memory://") is None
