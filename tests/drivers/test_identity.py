"""Which calls share a limit: all that are charged to one account, by whatever credential; over sockets, with the real SDK.

Two calls of one account have one line of callers; and a refusal of the one holds the other, which a test of the whole shows.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from otel_ratelimit._drivers.runtime import Known, Runtime
from otel_ratelimit._stores.memory import Account, Line
from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.helpers.eventually import eventually
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]
Options = dict[str, Any]


@pytest.fixture
def shared(instrumented: Instrumented, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether two calls, both of which are answered, are charged to one account."""
    instrumented()
    lines: list[Line] = []
    known = Runtime.known

    def noting(self: Runtime, client: Any, options: Any) -> Known:
        found = known(self, client, options)
        lines.append(found.line)
        return found

    monkeypatch.setattr(Runtime, "known", noting)

    def share(first: Callable[[], Any], second: Callable[[], Any]) -> bool:
        lines.clear()
        assert first().choices
        assert second().choices
        assert len(lines) == 2
        return lines[0] is lines[1]

    return share


HEADERS = [
    "api-key",
    "x-api-key",
    "Authorization",
    "authorization",
    "Ocp-Apim-Subscription-Key",
    "x-goog-api-key",
    "x-portkey-virtual-key",
    "cf-aig-authorization",
    "OpenAI-Project",
    "OpenAI-Organization",
]


@pytest.mark.parametrize("header", HEADERS)
def test_keys_in_default_headers(
    header: str, caller: Caller, server: ThrottlingServer, shared: Callable[..., bool]
) -> None:
    """Two teams behind one gateway have one ``api_key`` for it and a key each in a header; a team's limit is its own."""

    def call(key: str) -> Callable[[], Any]:
        return lambda: caller(server, chat, default_headers={header: key})

    assert shared(call("team one"), call("team one"))
    assert not shared(call("team two"), call("team three"))


@pytest.mark.parametrize("parameter", ["subscription-key", "api-key", "key", "code"])
def test_keys_in_the_query(
    parameter: str, caller: Caller, server: ThrottlingServer, shared: Callable[..., bool]
) -> None:
    """The same in ``default_query``."""

    def call(key: str) -> Callable[[], Any]:
        return lambda: caller(server, chat, default_query={parameter: key})

    assert shared(call("team one"), call("team one"))
    assert not shared(call("team two"), call("team three"))


@pytest.mark.parametrize("where", ["extra_headers", "extra_query"])
def test_keys_of_one_call(where: str, server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """One client, and another key for each call."""
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:

        def call(key: str) -> Callable[[], Any]:
            return lambda: chat(client, **{where: {"api-key": key}})

        assert shared(call("one"), call("one"))
        assert not shared(call("two"), call("three"))
        assert not shared(call("four"), lambda: chat(client))


@pytest.mark.parametrize(
    "options",
    [
        {"extra_headers": {"Idempotency-Key": "another"}},
        {"extra_headers": {"x-request-id": "another", "x-cache-key": "another"}},
        {"extra_query": {"api-version": "another"}},
        {"timeout": 7.0},
    ],
    ids=str,
)
def test_what_is_no_credential(options: Options, server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """Differs from call to call, and tells no accounts apart."""
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        assert shared(lambda: chat(client), lambda: chat(client, **options))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"timeout": 7.0}, True),
        ({"default_headers": {"x-team": "another"}}, True),
        ({"default_headers": {"api-key": "another"}}, False),
        ({"default_query": {"api-key": "another"}}, False),
        ({"api_key": "another"}, False),
        ({"organization": "another"}, False),
        ({"project": "another"}, False),
    ],
    ids=str,
)
def test_with_options(change: Options, same: bool, server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """A copy is the same account unless a credential of it is another. The client itself is seen first, and again after it."""
    with openai.OpenAI(base_url=server.base_url, api_key="test", default_headers={"api-key": "mine"}) as client:
        assert chat(client).choices
        assert shared(lambda: chat(client), lambda: chat(client.with_options(**change))) is same
        assert shared(lambda: chat(client.with_options(**change)), lambda: chat(client)) is same


def rotating() -> Iterator[str]:
    return (f"token {number}" for number in itertools.count())


def test_a_callable_key(caller: Caller, server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """Its tokens change; what provides them stands for the account."""
    tokens = rotating()

    async def provide() -> str:
        return next(tokens)

    key = provide if caller.asynchronous else lambda: next(tokens)

    def call() -> Any:
        return caller(server, chat, api_key=key)

    assert shared(call, call)


def azure(caller: Caller, server: ThrottlingServer, **options: Any) -> Any:
    """A call with an Azure client."""
    options = {"azure_endpoint": server.base_url.removesuffix("/v1"), "api_version": "2024-10-21", **options}
    if not caller.asynchronous:
        with openai.AzureOpenAI(**options) as client:
            return chat(client)

    import anyio

    async def main() -> Any:
        async with openai.AsyncAzureOpenAI(**options) as client:
            return await chat(client)

    return anyio.run(main, backend=caller.flavour)


def test_tokens_of_azure_ad(caller: Caller, server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """A provider is one account however often its token changes; two tokens, or two keys, are two."""
    tokens = rotating()

    def provide() -> str:
        return next(tokens)

    def call(**options: Any) -> Callable[[], Any]:
        return lambda: azure(caller, server, **options)

    assert shared(call(azure_ad_token_provider=provide), call(azure_ad_token_provider=provide))
    assert not shared(call(azure_ad_token="token one"), call(azure_ad_token="token two"))
    assert not shared(call(api_key="one"), call(api_key="two"))


def test_a_key_that_is_a_property(server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """Of a class of the program's own: one account for a client and its copies, another for each further client."""
    tokens = rotating()

    class Rotating(openai.OpenAI):
        @property
        def api_key(self) -> str:
            return next(tokens)

        @api_key.setter
        def api_key(self, _value: str) -> None:
            pass

    with (
        Rotating(base_url=server.base_url, api_key="unused") as client,
        Rotating(base_url=server.base_url, api_key="unused") as other,
    ):
        assert shared(lambda: chat(client), lambda: chat(client))
        assert shared(lambda: chat(client), lambda: chat(client.with_options(timeout=7.0)))
        assert not shared(lambda: chat(client), lambda: chat(other))


def test_a_key_that_is_set_anew(server: ThrottlingServer, shared: Callable[..., bool]) -> None:
    """``client.api_key = ...`` is another account, and the first one again when it comes back."""
    with openai.OpenAI(base_url=server.base_url, api_key="one") as client:

        def call(key: str) -> Any:
            client.api_key = key
            return chat(client)

        assert not shared(lambda: call("one"), lambda: call("two"))
        assert shared(lambda: call("one"), lambda: call("one"))


def test_a_team_waits_for_its_own_limit_only(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """What it is good for: one team is refused for a while, and only that team's next call is held."""
    probe = instrumented(buffer=0.01)
    server.script([throttle_reply(5.0)])
    with (
        openai.OpenAI(base_url=server.base_url, api_key="one", default_headers={"api-key": "team one"}) as one,
        openai.OpenAI(base_url=server.base_url, api_key="one", default_headers={"api-key": "team two"}) as two,
    ):
        began = time.monotonic()
        held = threading.Thread(target=chat, args=(one,))
        held.start()
        eventually(lambda: probe.total("otel_ratelimit.request.waiting") == 1)
        assert chat(two).choices
        assert held.is_alive()
        assert chat(one).choices
        assert time.monotonic() - began > 5.0
        held.join()


def test_an_account_shows_nothing() -> None:
    """Its address may have a password in it."""
    assert repr(Account("https://user:planted@host/v1/", b"planted", "planted")) == "Account(...)"
