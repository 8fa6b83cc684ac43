"""Installing and removing, and living with other wrappers above and below ours."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import openai
import pytest
import wrapt
from openai._base_client import AsyncAPIClient, BaseClient, SyncAPIClient
from openai._models import FinalRequestOptions

import otel_ratelimit
from otel_ratelimit import _guard
from otel_ratelimit._drivers import openai_sdk, session
from otel_ratelimit.testing import Limit, ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]


def standing() -> list[Any]:
    return [owner.__dict__[name] for owner, name in openai_sdk.SEAMS]


def passing(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


def test_uninstrument_restores_every_original() -> None:
    """The very objects that were there before."""
    before = standing()
    otel_ratelimit.instrument()
    assert [inspect.unwrap(wrapper) for wrapper in standing()] == before
    assert inspect.iscoroutinefunction(AsyncAPIClient.request)
    otel_ratelimit.uninstrument()
    assert standing() == before


def test_instrumenting_twice_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    """One layer, whoever asks how often."""
    otel_ratelimit.instrument()
    once = standing()
    with caplog.at_level(logging.WARNING):
        otel_ratelimit.instrument()
    assert "already instrumented" in caplog.text
    assert standing() == once


def test_a_client_made_before_is_covered(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The seam is on the class."""
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        instrumented()
        server.script([throttle_reply(delay=0.02)] * 4)  # more than the SDK alone would retry
        assert chat(client).choices


def test_a_wrapper_above_ours_survives_our_removal(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """What is not outermost is not torn out: it stays, passive. Installing again wakes it instead of adding a layer."""
    probe = instrumented()
    original = SyncAPIClient.__dict__["request"].__wrapped__
    ours = SyncAPIClient.__dict__["request"]
    seen: list[str] = []

    def watch(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("above")
        return wrapped(*args, **kwargs)

    above = wrapt.FunctionWrapper(ours, watch)
    SyncAPIClient.request = above  # type: ignore[method-assign]
    try:
        otel_ratelimit.uninstrument()
        assert SyncAPIClient.__dict__["request"] is above
        server.script([throttle_reply(delay=0.01)] * 3)
        with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
            with pytest.raises(openai.RateLimitError):  # the SDK alone again
                chat(client)
            assert probe.spans() == []
            otel_ratelimit.instrument(tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider)
            server.script([throttle_reply(delay=0.01)] * 3)
            assert chat(client).choices
        assert probe.recoveries() == {"rate_limited": 1, "throttle": 3, "retry": 3}
        assert seen == ["above", "above"]
    finally:
        SyncAPIClient.request = ours  # type: ignore[method-assign]
        otel_ratelimit.uninstrument()
    assert SyncAPIClient.__dict__["request"] is original


def test_a_wrapper_below_ours_sees_every_attempt(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Somebody who wrapped ``request`` before us is called once for each of our attempts."""
    owner = AsyncAPIClient if caller.asynchronous else SyncAPIClient
    original = owner.__dict__["request"]
    seen: list[str] = []

    def watch(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("below")
        return wrapped(*args, **kwargs)

    owner.request = wrapt.FunctionWrapper(original, watch)  # type: ignore[method-assign]
    try:
        instrumented()
        server.script([throttle_reply(delay=0.01)])
        assert caller(server, chat).choices
        assert seen == ["below", "below"]
        otel_ratelimit.uninstrument()
        assert owner.__dict__["request"]._self_wrapper is watch
    finally:
        owner.request = original  # type: ignore[method-assign]


def watching(seen: list[str]) -> Callable[[Any], Any]:
    """What makes, of a method, one that notes its calls: with wrapt, and as a plain closure."""

    def watch(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("request")
        return wrapped(*args, **kwargs)

    return lambda method: wrapt.FunctionWrapper(method, watch)


def closing_over(seen: list[str]) -> Callable[[Any], Any]:
    """The same without wrapt."""

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def request(*args: Any, **kwargs: Any) -> Any:
            seen.append("request")
            return method(*args, **kwargs)

        return request

    return decorate


@pytest.mark.parametrize(
    ("decorator", "attempts"), [(watching, 1), (closing_over, 2)], ids=["that can be opened", "that cannot"]
)
def test_a_wrapper_on_a_client_class_from_before_us(
    decorator: Any, attempts: int, caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """It leads past the class that we wrap. Ours goes below it, so that it sees the call once; below a closure nobody can get,
    so above it."""
    base, heir = (AsyncAPIClient, openai.AsyncOpenAI) if caller.asynchronous else (SyncAPIClient, openai.OpenAI)
    seen: list[str] = []
    above = decorator(seen)(base.__dict__["request"])
    heir.request = above  # type: ignore[method-assign]
    try:
        probe = instrumented()
        server.script([throttle_reply(delay=0.01)])
        assert caller(server, chat).choices
        assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}
        assert len(seen) == attempts
        otel_ratelimit.uninstrument()
        assert heir.__dict__["request"] is above
        assert inspect.unwrap(above) is above.__wrapped__ is base.__dict__["request"]
    finally:
        del heir.request


def test_a_client_class_with_a_request_of_its_own(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """It calls the inherited one, and is left alone."""

    class Client(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    own = Client.__dict__["request"]
    probe = instrumented()
    server.script([throttle_reply(delay=0.01)])
    with Client(base_url=server.base_url, api_key="test") as client:
        assert chat(client).choices
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}
    assert Client.__dict__["request"] is own


def test_somebody_who_restores_the_original_loses_us_one_call(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The call after it is the SDK's own; it shows that we are out of the way, and the next one finds us back."""
    owner = AsyncAPIClient if caller.asynchronous else SyncAPIClient
    original = owner.__dict__["request"]
    probe = instrumented()
    owner.request = original  # type: ignore[method-assign]
    for expected in ({}, {"rate_limited": 1, "throttle": 1, "retry": 1}):
        server.script([throttle_reply(delay=0.01, retry_after=True)])
        assert caller(server, chat).choices
        assert probe.recoveries() == expected
    otel_ratelimit.uninstrument()
    assert owner.__dict__["request"] is original


def test_an_sdk_without_a_seam_gives_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays uninstrumented, whole."""
    before = standing()
    monkeypatch.setattr(openai_sdk, "SEAMS", (*openai_sdk.SEAMS, (BaseClient, "_no_such_method")))
    with caplog.at_level(logging.WARNING, logger="otel_ratelimit"):
        otel_ratelimit.instrument()
    assert "BaseClient._no_such_method" in caplog.text
    monkeypatch.undo()
    assert standing() == before


def test_a_custom_http_client(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Whatever sends: the hooks are above it."""
    instrumented()
    server.script([throttle_reply(delay=0.01)] * 3)
    http_client = openai.DefaultHttpxClient(headers={"x-mine": "yes"})
    with openai.OpenAI(base_url=server.base_url, api_key="test", http_client=http_client) as client:
        assert chat(client).choices
    assert {request.headers["x-mine"] for request in server.requests} == {"yes"}


def test_the_azure_client(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Deployments and the version in the query, and the wording of Azure."""
    probe = instrumented()
    server.script([throttle_reply(delay=0.01)] * 3)
    endpoint = server.base_url.removesuffix("/v1")
    options: dict[str, Any] = {"azure_endpoint": endpoint, "api_key": "test", "api_version": "2024-10-21"}
    if caller.asynchronous:
        import anyio

        async def main() -> Any:
            async with openai.AsyncAzureOpenAI(**options) as client:
                return await chat(client)

        answer = anyio.run(main, backend=caller.flavour)
    else:
        with openai.AzureOpenAI(**options) as client:
            answer = chat(client)
    assert answer.choices
    assert server.requests[0].path == "/openai/deployments/gpt-4o/chat/completions"
    call = probe.only("rate_limited")
    assert call.name == "rate_limited chat gpt-4o"
    assert call.attributes is not None
    assert call.attributes["gen_ai.provider.name"] == "azure.ai.openai"


@pytest.mark.parametrize(
    "component",
    [
        "start",
        "resend_arguments",
        "failed",
        "received",
        "wait_began",
        "woke",
        "answered",
        "takes_over",
    ],
)
def test_a_fault_of_ours_never_reaches_the_call(
    component: str,
    caller: Caller,
    server: ThrottlingServer,
    instrumented: Instrumented,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each place where our code meets the SDK is made to raise: the call still succeeds, as the SDK alone would have."""
    monkeypatch.setattr(_guard, "raise_faults", False)
    _guard._reported.clear()
    instrumented()

    def broken(*_arguments: object) -> Any:
        raise ZeroDivisionError("the prompt was: secret")

    guarded = getattr(session.Session, component)
    monkeypatch.setattr(session.Session, component, _guard.contained(guarded.place, guarded.fallback)(broken))
    server.script([throttle_reply(delay=0.02)])
    with caplog.at_level(logging.ERROR, logger="otel_ratelimit"):
        assert caller(server, chat).choices
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


def test_a_fault_while_opening_passes_the_call_through(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of ours is there, the SDK alone has the call."""
    monkeypatch.setattr(_guard, "raise_faults", False)
    monkeypatch.setattr(openai_sdk, "subject_of", lambda *_: 1 / 0)
    probe = instrumented()
    server.script([throttle_reply(delay=0.02)])
    assert caller(server, chat).choices
    assert probe.spans() == []


def test_an_sdk_that_has_lost_a_seam() -> None:
    """In a process of its own, each seam in turn is deleted before the hooks come: one warning that names it, and nothing is
    patched. The last one stays away for ``auto``."""
    program = f"""
        import importlib, logging, sys
        import otel_ratelimit

        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        seams = {[(owner.__module__, owner.__name__, name) for owner, name in openai_sdk.SEAMS]!r}
        for module, owner, name in seams:
            cls = getattr(importlib.import_module(module), owner)
            original = cls.__dict__[name]
            delattr(cls, name)
            before = dict(vars(cls))
            if name != seams[-1][2] or owner != seams[-1][1]:
                otel_ratelimit.instrument()
                otel_ratelimit.uninstrument()
            else:
                import otel_ratelimit.auto
            assert dict(vars(cls)) == before
            setattr(cls, name, original)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100, check=True
    )
    assert run.stdout.splitlines() == [
        f"WARNING otel_ratelimit openai stays uninstrumented: this openai version has no {owner.__name__}.{name}"
        for owner, name in openai_sdk.SEAMS
    ]
    assert run.stderr == ""


def test_a_call_finds_another_line_where_its_own_was_dropped(
    server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """What is remembered of a client does not outlive the account's place in the store."""
    probe = instrumented()
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        chat(client)
        hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
        assert hooks is not None
        assert hooks.runtime is not None
        store = hooks.runtime.store
        (line,) = store._lines.values()
        store._forget()
        assert line.dropped
        chat(client)
    (fresh,) = store._lines.values()
    assert fresh is not line
    assert fresh.admission.last_used > line.admission.last_used
    assert probe.total("otel_ratelimit.call.duration") == 2


def test_a_coroutine_that_nobody_awaits_holds_no_place(instrumented: Instrumented) -> None:
    """Not even where every limit has room, so that its place would be free at once."""
    instrumented()

    async def main(server: ThrottlingServer) -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            for _ in range(3):
                await client.chat.completions.create(model="gpt-4o", messages=[])
            options = chat_options()
            client.request(openai.types.chat.ChatCompletion, options).close()
            hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
            assert hooks is not None
            assert hooks.runtime is not None
            assert [line.admission.in_flight for line in hooks.runtime.store._lines.values()] == [0]

    with ThrottlingServer([Limit("tokens", 1_000_000)]) as server:
        asyncio.run(main(server))


def chat_options() -> FinalRequestOptions:
    """What the SDK's own methods hand to ``request``."""
    return FinalRequestOptions.construct(
        method="post", url="/chat/completions", json_data={"model": "gpt-4o", "messages": []}
    )
