"""Where shared state lives, as a URL: which ones are allowed, and what is wrong with one that is not.

Owns the forms. Knows no client and opens nothing. No message quotes a URL or a part of it: it may hold a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

MEMORY: Final = "memory://"
"""The store that is none: each process for itself."""

DEFAULT_PREFIX: Final = "otel_ratelimit"
"""What all keys begin with."""

DEFAULT_PORTS: Final = {"cluster": 6379, "sentinel": 26379}

FORMS: Final = (
    "memory://, redis://[user:password@]host[:port][/database], rediss:// (TLS), unix://path,"
    " redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/database]"
    " or redis+cluster://[user:password@]host[:port][,host[:port]...]; ?prefix=... sets what the keys begin with"
)

_SCHEMES: Final = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}

MOST_PREFIX: Final = 100


@dataclass(frozen=True)
class StoreAddress:
    """A URL of a Redis or Valkey, taken apart.

    Attributes:
        kind: what stands there.
        url: for a single server: the URL for the client's own ``from_url``, without what is ours.
        hosts: for the others: where to ask.
        service: what the sentinels call the master.
        database: its number.
        user, password: as in the URL.
        tls: whether the connection is encrypted.
        options: what else the query held.
        prefix: what the keys begin with.
    """

    kind: Literal["single", "sentinel", "cluster"]
    url: str = field(default="", repr=False)
    hosts: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    service: str = field(default="", repr=False)
    database: int = 0
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    options: dict[str, str] = field(default_factory=dict, repr=False)
    prefix: str = DEFAULT_PREFIX


def parse_store(url: object) -> StoreAddress | None:
    """Take a store's URL apart; None for the memory of this process.

    Raises:
        ValueError: it is none; says what is wrong with it, and quotes nothing of it.
    """
    if url == MEMORY:
        return None
    if not isinstance(url, str):
        raise ValueError("it is no text")
    parts = _split(url)
    kind = _SCHEMES.get(parts.scheme)
    if kind is None:
        raise ValueError("its scheme is none of these")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = query.pop("prefix", DEFAULT_PREFIX)
    if not prefix or len(prefix) > MOST_PREFIX or not prefix.isprintable() or set(prefix) & set("{} "):
        raise ValueError(f"its prefix must be 1 to {MOST_PREFIX} printable characters without braces and spaces")
    if kind == "single":
        return _single(parts, query, prefix)
    tls = parts.scheme.startswith("rediss") or query.pop("ssl", "").lower() in ("true", "1", "yes")
    user, password, hosts = _authority(parts.netloc, DEFAULT_PORTS[kind])
    if kind == "cluster":
        return StoreAddress("cluster", "", hosts, "", 0, user, password, tls, query, prefix)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("it names no service after the sentinels")
    return StoreAddress(
        "sentinel", "", hosts, unquote(service), _database(database), user, password, tls, query, prefix
    )


def _split(url: str) -> SplitResult:
    """Its parts. The standard library reads one host only, and since Python 3.14 refuses brackets with more around them: it is
    shown none of the places.

    Raises:
        ValueError: it is no URL.
    """
    try:
        several = re.match(r"([a-z+]+)://([^/?#]*)", url)
        if several is None or _SCHEMES.get(several[1]) in (None, "single"):
            return urlsplit(url)
        scheme, places = several.groups()
        return urlsplit(f"{scheme}://{url[several.end() :]}")._replace(netloc=places)
    except ValueError:
        raise ValueError("it is no URL") from None


def _single(parts: SplitResult, query: dict[str, str], prefix: str) -> StoreAddress:
    scheme = "unix" if parts.scheme == "redis+unix" else parts.scheme
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("it names no socket")
    else:
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("its port is no number from 1 to 65535") from None
        if not host:
            raise ValueError("it names no host")
        if port == 0:
            raise ValueError("its port is no number from 1 to 65535")
        _database(parts.path.strip("/"))
    url = urlunsplit((scheme, parts.netloc, parts.path, urlencode(query), ""))
    if scheme == "unix" and not url.startswith("unix://"):
        url = "unix://" + url.partition(":")[2]  # urlunsplit drops an empty authority
    return StoreAddress("single", url=url, tls=scheme == "rediss", prefix=prefix)


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("its database is no number")
    return int(text or 0)


def _authority(netloc: str, default_port: int) -> tuple[str | None, str | None, tuple[tuple[str, int], ...]]:
    """User, password and hosts; the standard library reads one host only."""
    login, _, places = netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts = []
    for place in places.split(","):
        host, colon, port = place.rpartition(":")
        if not colon or place.endswith("]"):
            host, port = place, str(default_port)
        if not host:
            raise ValueError("it names no host")
        if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise ValueError("its port is no number from 1 to 65535")
        hosts.append((host.strip("[]"), int(port)))
    return unquote(user) or None, unquote(password) or None, tuple(hosts)
