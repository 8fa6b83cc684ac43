"""The connection to Redis or Valkey, and the one script that is ever run there.

Owns the client (single, Sentinel or Cluster: redis-py's own), the keys of an account, and the sorting of failures. Used by
one thread. Imported only where a Redis is configured: redis-py is an extra.

*Keys.* ``{prefix}:1:{tag}:...``: the version of what is stored (programs of two versions never meet in one state), and a tag in
braces, so that all keys of an account lie in one slot of a cluster.

*Identity.* The tag has to be the same in all processes of the fleet, which share nothing but the credential itself; so it
is derived from that, and nobody who reads Redis shall turn it back. It is an HMAC of server, organisation, project and
model, keyed by the credential (:func:`payer_of`), and then stretched by PBKDF2 (:meth:`Script.keys_of`). A real API key has more
than 128 random bits, and cannot be guessed from that at all; the stretching is for the short keys of home-made gateways
("test"), where each guess costs whoever tries it some milliseconds. Where a function provides tokens, they differ from process to
process and from hour to hour, and the server's address and the organisation alone tell accounts apart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, Literal, get_args

import redis
import redis.backoff
import redis.cluster
import redis.exceptions
import redis.retry
import redis.sentinel

from otel_ratelimit._core.fleet.limiter import BOUND
from otel_ratelimit._core.fleet.messages import AnswerError
from otel_ratelimit._core.store_url import StoreAddress, parse_store
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis_socket import KINDS

FailureKind = Literal["timeout", "connection", "response", "internal"]
FAILURE_KINDS: Final[tuple[FailureKind, ...]] = get_args(FailureKind)

VERSION: Final = 1
"""Of what the keys hold and what report and answer look like."""

CONNECT_TIMEOUT: Final = 1.0
"""Seconds to open a connection. No call waits for that: calls wait for :data:`otel_ratelimit._core.fleet.limiter.BOUND` at
most."""

MOST_ANSWER: Final = 1 << 16
"""Bytes. Ours have a few hundred; with as many buckets as one account can have, a tenth of this."""

STRETCH: Final = 20_000
"""Rounds of PBKDF2: some 6 ms, once for each account of a process."""

PARTS: Final = ("account", "processes", "interactive", "normal", "batch")


def payer_of(credential: object, *others: str) -> bytes:
    """Who pays, the same in every process that has this credential; see the module."""
    secret = credential if isinstance(credential, str) else "provider"
    digest = hmac.new(secret.encode("utf-8", "surrogatepass"), digestmod=hashlib.sha256)
    for part in others:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


class Script:
    """``allocation.lua`` on a Redis. Not thread-safe. Has no ``repr`` of its parts.

    Args:
        url: of the store, valid.
        timeout: seconds after which an exchange has failed.
    """

    def __init__(self, url: str, timeout: float = BOUND) -> None:
        address = parse_store(url)
        assert address is not None
        self._address: StoreAddress = address
        self._timeout = timeout
        self._client: Any = None
        self._source = resources.files(__package__).joinpath("allocation.lua").read_text("utf-8")
        self._sha = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    def keys_of(self, account: Account) -> list[str]:
        """The keys of an account."""
        text = f"{account.server}\0{account.model or ''}"
        tag = hashlib.pbkdf2_hmac("sha256", account.payer, text.encode("utf-8", "surrogatepass"), STRETCH, 16).hex()
        return [f"{self._address.prefix}:{VERSION}:{{{tag}}}:{part}" for part in PARTS]

    def run(self, keys: list[str], process: str, report: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
        """One exchange: one round trip, but for the first one after a (re)start of the server.

        Args:
            keys: of the account.
            process: who reports.
            report: see ``_core.fleet.messages``.
            now: the time, where it is not that of Redis.
        """
        if self._client is None:
            self._client = connect(self._address, self._timeout)
        arguments = (
            len(keys),
            *keys,
            process,
            json.dumps(report, separators=(",", ":"), allow_nan=False),
            "" if now is None else repr(now),
        )
        try:
            answer = self._client.evalsha(self._sha, *arguments)
        except redis.exceptions.NoScriptError:
            answer = self._client.eval(self._source, *arguments)
        return decoded(answer)

    def close(self) -> None:
        """Close the connections; the next ``run`` opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def forget(self) -> None:
        """After a fork: the connections are the parent's, and are left alone."""
        self._client = None


def decoded(answer: object) -> dict[str, Any]:
    """An answer of the script, which may come from anything that calls itself a Redis.

    Raises:
        AnswerError: it is no JSON object, or longer than any of ours.
    """
    if not isinstance(answer, (bytes, str)) or len(answer) > MOST_ANSWER:
        raise AnswerError("its type or its length")
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        raise AnswerError("it is no JSON") from None
    if not isinstance(found, dict):
        raise AnswerError("it is no object")
    return found


def connect(address: StoreAddress, timeout: float) -> Any:
    """A client that tries once and gives up after ``timeout`` seconds: trying again is the courier's business."""
    common: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "client_name": "otel_ratelimit",
        "protocol": 2,  # every server and proxy speaks it, and it takes one exchange less to begin with
    }
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    if address.kind == "single":
        measured = KINDS[address.url.partition(":")[0].lower()]
        return redis.Redis.from_url(address.url, **common, retry=once, connection_class=measured)
    login: dict[str, Any] = {"username": address.user, "password": address.password}
    if address.tls:
        common["ssl"] = True
        common.update({name: value for name, value in address.options.items() if name.startswith("ssl_")})
    if address.kind == "sentinel":
        own = {name: address.options.get(f"sentinel_{name}") for name in ("username", "password")}
        guards: Any = _untyped(redis.sentinel.Sentinel)(
            list(address.hosts),
            sentinel_kwargs={**common, **{name: value for name, value in own.items() if value}},
            **common,
            **login,
            db=address.database,
            retry=once,
        )
        return guards.master_for(address.service)
    node = _untyped(redis.cluster.ClusterNode)
    nodes = [node(host, port) for host, port in address.hosts]
    return redis.cluster.RedisCluster(startup_nodes=nodes, **common, **login, retry=once)


def _untyped(function: Any) -> Any:
    """A part of redis-py that has no types."""
    return function


def kind_of(error: Exception) -> FailureKind:
    """What a failed exchange is counted as."""
    if isinstance(error, (redis.exceptions.TimeoutError, TimeoutError)):
        return "timeout"
    if isinstance(error, (AnswerError, redis.exceptions.AuthenticationError)):  # to redis-py it is a ConnectionError
        return "response"
    if isinstance(error, (redis.exceptions.ConnectionError, OSError)):
        return "connection"
    return "response" if isinstance(error, redis.exceptions.RedisError) else "internal"
