"""Which calls share a limit: all that are charged to one account, by whatever credential; over sockets, with the real SDK.

The first call is refused for half a minute. A second one of the same account is turned away unsent; one of another is answered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from otel_ratelimit import AdmissionTimeoutError
from otel_ratelimit._stores.memory import Account
from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]
Options = dict[str, Any]


@pytest.fixture
def refused(instrumented: Instrumented, server: ThrottlingServer) -> Callable[..., bool]:
    """Whether what the second call is charged to is what the first one is."""
    instrumented(max_wait=0.3)

    def share(first: Callable[[], Any], second: Callable[[], Any]) -> bool:
        server.script([throttle_reply(30.0)])
        with pytest.raises(openai.RateLimitError) as raised:
            first()
        assert not isinstance(raised.value, AdmissionTimeoutError)
        requests = server.counts.requests
        try:
            assert second().choices
        except AdmissionTimeoutError:
            assert server.counts.requests == requests
            return True
        assert server.counts.requests == requests + 1
        return False

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
    header: str, caller: Caller, server: ThrottlingServer, refused: Callable[..., bool]
) -> None:
    """Two teams behind one gateway have one ``api_key`` for it and a key each in a header; a team's limit is its own."""

    def call(key: str) -> Callable[[], Any]:
        return lambda: caller(server, chat, default_headers={header: key})

    assert refused(call("team one"), call("team one"))
    assert not refused(call("team two"), call("team three"))


@pytest.mark.parametrize("parameter", ["subscription-key", "api-key", "key", "code"])
def test_keys_in_the_query(
    parameter: str, caller: Caller, server: ThrottlingServer, refused: Callable[..., bool]
) -> None:
    """The same in ``default_query``."""

    def call(key: str) -> Callable[[], Any]:
        return lambda: caller(server, chat, default_query={parameter: key})

    assert refused(call("team one"), call("team one"))
    assert not refused(call("team two"), call("team three"))


@pytest.mark.parametrize("where", ["extra_headers", "extra_query"])
def test_keys_of_one_call(where: str, server: ThrottlingServer, refused: Callable[..., bool]) -> None:
    """One client, and another key for each call."""
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:

        def call(key: str) -> Callable[[], Any]:
            return lambda: chat(client, **{where: {"api-key": key}})

        assert refused(call("one"), call("one"))
        assert not refused(call("two"), call("three"))
        assert not refused(call("four"), lambda: chat(client))


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
def test_what_is_no_credential(options: Options, server: ThrottlingServer, refused: Callable[..., bool]) -> None:
    """Differs from call to call, and tells no accounts apart."""
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        assert refused(lambda: chat(client), lambda: chat(client, **options))


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
def test_with_options(change: Options, same: bool, server: ThrottlingServer, refused: Callable[..., bool]) -> None:
    """A copy is the same account unless a credential of it is another. The client itself is seen first, and again after it."""
    with openai.OpenAI(base_url=server.base_url, api_key="test", default_headers={"api-key": "mine"}) as client:
        assert chat(client).choices
        assert refused(lambda: chat(client), lambda: chat(client.with_options(**change))) is same
        with pytest.raises(AdmissionTimeoutError):
            chat(client)


def rotating() -> Iterator[str]:
    return (f"token {number}" for number in itertools.count())


def test_a_callable_key(caller: Caller, server: ThrottlingServer, refused: Callable[..., bool]) -> None:
    """Its tokens change; what provides them stands for the account."""
    tokens = rotating()

    async def provide() -> str:
        return next(tokens)

    key = provide if caller.asynchronous else lambda: next(tokens)

    def call() -> Any:
        return caller(server, chat, api_key=key)

    assert refused(call, call)
    assert server.counts.requests == 1


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


def test_tokens_of_azure_ad(caller: Caller, server: ThrottlingServer, refused: Callable[..., bool]) -> None:
    """A provider is one account however often its token changes; two tokens, or two keys, are two."""
    tokens = rotating()

    def provide() -> str:
        return next(tokens)

    def call(**options: Any) -> Callable[[], Any]:
        return lambda: azure(caller, server, **options)

    assert refused(call(azure_ad_token_provider=provide), call(azure_ad_token_provider=provide))
    assert not refused(call(azure_ad_token="token one"), call(azure_ad_token="token two"))
    assert not refused(call(api_key="one"), call(api_key="two"))


def test_a_key_that_is_a_property(server: ThrottlingServer, refused: Callable[..., bool]) -> None:
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
        assert refused(lambda: chat(client), lambda: chat(client))
        with pytest.raises(AdmissionTimeoutError):
            chat(client.with_options(timeout=7.0))
        assert chat(other).choices


def test_a_key_that_is_set_anew(server: ThrottlingServer, refused: Callable[..., bool]) -> None:
    """``client.api_key = ...`` is another account, and the first one again when it comes back."""
    with openai.OpenAI(base_url=server.base_url, api_key="one") as client:

        def call(key: str) -> Any:
            client.api_key = key
            return chat(client)

        assert not refused(lambda: call("one"), lambda: call("two"))
        with pytest.raises(AdmissionTimeoutError):
            call("one")


def test_an_account_shows_nothing() -> None:
    """Its address may have a password in it."""
    assert repr(Account("https://user:planted@host/v1/", b"planted", "planted")) == "Account(...)"
