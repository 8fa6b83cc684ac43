"""One call cannot lock out an account: what it was thought to take is given back, or found out, before anybody fails by it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import MAX_COST, Cost
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

REJECTED = Reply(status=400, json={"error": {"message": "max_tokens is too large", "type": "invalid_request_error"}})
HUGE: list[Any] = [
    pytest.param({"max_tokens": 10**15}, id="an absurd output limit"),
    pytest.param({"messages": [{"role": "user", "content": "x" * 12_000_000}]}, id="a prompt of 12 MB"),
]


def ask(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": MESSAGES, **options})


@pytest.mark.parametrize("known", [False, True], ids=["nothing known", "limit known"])
@pytest.mark.parametrize("options", HUGE)
def test_a_call_that_is_rejected_holds_nobody(
    caller: Caller, instrumented: Instrumented, options: dict[str, Any], known: bool
) -> None:
    """The 400 goes to its caller; everybody else of that key and model is sent at once, and nobody waits."""
    probe = instrumented()
    with ThrottlingServer([Limit("tokens", 200_000)]) as server:
        if known:
            caller(server, chat)
        server.script([REJECTED])

        def go(client: Any) -> Any:
            if not caller.asynchronous:
                with pytest.raises(openai.BadRequestError):
                    ask(client, **options)
                return [ask(client) for _ in range(10)]

            async def later() -> Any:
                with pytest.raises(openai.BadRequestError):
                    await ask(client, **options)
                return [await ask(client) for _ in range(10)]

            return later()

        assert len(caller(server, go)) == 10
        assert server.counts.throttled == 0
    assert probe.total("otel_ratelimit.wait.duration") == 0
    assert probe.total("otel_ratelimit.give_ups") == 0


@pytest.mark.parametrize("options", HUGE)
def test_while_it_is_under_way_nobody_fails(instrumented: Instrumented, options: dict[str, Any]) -> None:
    """A charge that nobody has confirmed is no ground to fail anyone: at most the others wait for the limit to be full again."""
    instrumented()
    slow = Reply(status=400, json=REJECTED.json, before=1.5)
    limit = Limit("tokens", 6_000_000)  # a minute; a tenth of it each six seconds
    with (
        ThrottlingServer([limit]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        chat(client)
        server.script([slow])
        refused: list[BaseException] = []

        def huge() -> None:
            try:
                ask(client, **options)
            except openai.BadRequestError as error:
                refused.append(error)

        thread = threading.Thread(target=huge)
        thread.start()
        while server.counts.requests < 1 or len(server.requests) < 2:
            threading.Event().wait(0.005)
        for _ in range(5):
            assert chat(client).choices
        thread.join()
        assert len(refused) == 1
        assert server.counts.throttled == 0


def test_headers_are_read_on_every_answer(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Also on a 400: what is left of the limit is known from it."""
    probe = instrumented()
    headers = {
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "12345",
        "x-ratelimit-reset-tokens": "35.3s",
    }
    server.script([Reply(status=400, json=REJECTED.json, headers=headers)])
    with pytest.raises(openai.BadRequestError):
        caller(server, chat)
    assert probe.total("otel_ratelimit.tokens.limit") == 30_000
    assert 12_345 <= probe.total("otel_ratelimit.tokens.remaining") < 30_000


# --- the rule itself, without a server ----------------------------------------------------------------------------------

LARGEST = Cost(input=MAX_COST, output=MAX_COST)
SMALL = Cost(input=100.0)


def known_limit() -> Admission:
    admission = Admission()
    first = admission.enter(0.0, SMALL, "normal")
    reading = LimitReading("tokens", "", "minute", 60_000.0, 59_900.0, 0.1)
    admission.settle(first, Attempt(0.1, readings=(reading,), succeeded=True))
    return admission


def test_a_reservation_is_no_larger_than_the_limit() -> None:
    """However much a call asks for: the others' turn comes within the window."""
    admission = known_limit()
    huge = admission.enter(1.0, LARGEST, "normal")
    assert huge.admitted
    other = admission.enter(1.1, SMALL, "normal")
    assert admission.turn(other, 1.1) - 1.1 < 65.0


@pytest.mark.parametrize("rejected", [True, False])
def test_a_rejected_call_gives_its_tokens_back_and_one_that_failed_otherwise_does_not(rejected: bool) -> None:
    """A 400 was no work; after a broken connection the server may have done it, and only its next headers tell."""
    admission = known_limit()
    huge = admission.enter(0.2, LARGEST, "normal")
    admission.settle(huge, Attempt(0.25, succeeded=False, rejected=rejected))
    admission.leave(huge, 0.25)
    other = admission.enter(0.3, SMALL, "normal")
    assert other.admitted is rejected
