"""A call whose turn comes too late is told so by an exception of the SDK's own kind, over sockets and with the real SDK."""

from __future__ import annotations

import copy
import math
import pickle
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import AdmissionTimeoutError
from otel_ratelimit.testing import Reply, ThrottlingServer
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

DELAY = 30.0
SECRET = "planted-it"  # as long as the other prompts here
ERROR = {
    "message": "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 6000, Used 6000, "
    f"Requested 3000. Please try again in {DELAY:g}s.",
    "type": "tokens",
    "param": None,
    "code": "rate_limit_exceeded",
}
REFUSAL = Reply(
    status=429,
    json={"error": ERROR},
    headers={
        "retry-after": f"{DELAY:g}",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "0",
        "x-request-id": "req-of-another-call",
        "openai-organization": "org-1",
        "set-cookie": f"session={SECRET}",
    },
)


IN_BODY = Reply(json={"error": {**ERROR, "code": 429}})


@pytest.fixture
def short(instrumented: Instrumented) -> Probe:
    """No call waits for longer than 2 s."""
    return instrumented(max_wait=2.0)


@pytest.fixture
def closed(short: Probe, server: ThrottlingServer) -> ThrottlingServer:
    """A server that has refused somebody just now, for half a minute."""
    refuse(server, REFUSAL)
    return server


def refuse(server: ThrottlingServer, reply: Reply) -> None:
    """A call that is sent and refused; its key, prompt and headers are marked. It is as large as the other calls
    of these tests: the refusal of a larger one would be no evidence against them."""
    server.script([reply])
    with (
        openai.OpenAI(base_url=server.base_url, api_key=f"{SECRET}-key") as client,
        nullcontext() if reply.status == 200 else pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": SECRET}], extra_headers={"x-mine": SECRET}
        )


@contextmanager
def asked(server: ThrottlingServer, reply: Reply = REFUSAL) -> Iterator[None]:
    """Another call asks whether the limit still holds, and is refused. What comes meanwhile waits for that answer."""
    asking = threading.Thread(target=refuse, args=(server, replace(reply, before=1.0)))
    asking.start()
    time.sleep(0.4)
    yield
    asking.join()


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def turned_away(
    server: ThrottlingServer, caller: Caller | None = None, reply: Reply = REFUSAL
) -> AdmissionTimeoutError:
    with asked(server, reply), pytest.raises(openai.RateLimitError) as raised:
        (caller or Caller("sync"))(server, chat, api_key=f"{SECRET}-key")
    assert isinstance(raised.value, AdmissionTimeoutError)
    return raised.value


def test_it_is_the_error_that_the_sdk_would_have_raised(closed: ThrottlingServer, caller: Caller) -> None:
    """Nothing is sent; class, status, code, body and response are those of a refusal; what tells it apart is ours."""
    error = turned_away(closed, caller)
    assert closed.counts.requests == 2
    assert isinstance(error, openai.APIStatusError)
    assert isinstance(error, TimeoutError)
    assert error.status_code == error.response.status_code == 429
    assert error.code == "admission_timeout"
    assert error.body == ERROR
    assert error.type == "tokens"
    assert error.response.json() == {"error": ERROR}
    assert error.response.headers["x-ratelimit-limit-tokens"] == "6000"


def test_retry_after_tells_when_the_turn_would_come(closed: ThrottlingServer, short: Probe) -> None:
    """Not what the server said then, some of which is over."""
    error = turned_away(closed)
    expected = float(error.response.headers["retry-after-ms"]) / 1000
    assert DELAY - 10 < expected < DELAY + 5
    assert int(error.response.headers["retry-after"]) == math.ceil(expected)


def test_message_and_note_say_what_happened(closed: ThrottlingServer) -> None:
    """Nothing was sent, when the turn would have come, what set the limit, what to set; in a traceback too."""
    error = turned_away(closed)
    (note,) = notes(error)
    for text in (str(error), error.message, note):
        assert "nothing was sent" in text or "before anything was sent" in text
        turn = re.search(r"would come in (\d+)", text)
        assert turn
        assert DELAY - 10 < int(turn[1]) < DELAY + 5
        assert "the server's last refusal" in text
        assert "asked for 30 s (limit: 6000 tokens a minute)" in text
    assert "Policy.max_wait" in str(error)
    printed = "".join(traceback.format_exception(error))
    assert "otel_ratelimit.AdmissionTimeoutError: nothing was sent" in printed


def test_nothing_of_the_other_call_is_in_it(closed: ThrottlingServer) -> None:
    """Its key, headers, cookie and prompt are not; nor the ids by which somebody would look for this call at the server."""
    error = turned_away(closed)
    assert error.request_id is None
    assert not {"x-request-id", "openai-organization", "set-cookie"} & set(error.response.headers)
    assert error.request.method == "POST"
    assert str(error.request.url) == f"{closed.base_url}/chat/completions"
    assert "authorization" not in error.request.headers
    assert error.request.content == error.response.request.content == b""
    everything = [repr(error), str(error), *notes(error), str(error.response.headers), error.response.text]
    everything += ["".join(traceback.format_exception(error)), str(error.request.headers), repr(vars(error))]
    assert not [text for text in everything if SECRET in text]
    assert SECRET.encode() not in pickle.dumps(error)
    for text in (repr(error), str(error), *notes(error)):
        assert "org-1" not in text


@pytest.mark.parametrize(
    "copied",
    [
        lambda error: pickle.loads(pickle.dumps(error)),
        lambda error: pickle.loads(pickle.dumps(error, protocol=2)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle", "pickle 2", "copy", "deepcopy"],
)
def test_it_can_be_passed_on(closed: ThrottlingServer, copied: Callable[[Any], Any]) -> None:
    """To another process, as task queues do, or as a copy."""
    error = turned_away(closed)
    twin = copied(error)
    assert type(twin) is AdmissionTimeoutError
    assert twin is not error
    assert (str(twin), repr(twin), notes(twin)) == (str(error), repr(error), notes(error))
    assert (twin.code, twin.status_code, twin.body, twin.type) == (error.code, 429, error.body, "tokens")
    assert twin.response.json() == error.response.json()
    assert twin.response.headers["retry-after"] == error.response.headers["retry-after"]
    assert twin.request.url == error.request.url
    assert type(twin.response) is type(error.response)


def test_without_a_429_there_is_a_stand_in(short: Probe, server: ThrottlingServer) -> None:
    """After a refusal in a 200, which is no response of a ``RateLimitError``."""
    refuse(server, IN_BODY)
    error = turned_away(server, reply=IN_BODY)
    assert (error.status_code, error.code, error.type) == (429, "admission_timeout", "rate_limit_error")
    assert error.response.json()["error"]["message"] == str(error)
    assert DELAY / 2 < int(error.response.headers["retry-after"]) < DELAY + 5
    assert otel_ratelimit.parse_throttle(429, error.response.headers, error.response.content)


@pytest.mark.parametrize(
    "body", [b"<html>no</html>", b"[" * 4000, b'{"error": "' + b"x" * 5000 + b'"}', b"\xff\xfe", b"[1]", b""]
)
def test_a_refusal_of_any_body(short: Probe, server: ThrottlingServer, body: bytes) -> None:
    """It is bounded, and what is no JSON is text, as with the SDK."""
    headers = {
        "retry-after": "30",
        "x-ratelimit-long": "x" * 300,
        **{f"x-ratelimit-{number}": "1" for number in range(50)},
    }
    reply = Reply(status=429, body=body, headers=headers)
    refuse(server, reply)
    error = turned_away(server, reply=reply)
    assert error.status_code == 429
    assert len(error.response.content) <= 5000
    assert len(error.response.headers) < 40
    assert "x-ratelimit-long" not in error.response.headers
    assert pickle.loads(pickle.dumps(error)).body == error.body


def test_one_made_by_hand() -> None:
    """As in a program's own tests."""
    error = AdmissionTimeoutError("nothing was sent")
    assert (error.status_code, error.code, str(error)) == (429, "admission_timeout", "nothing was sent")
    assert str(pickle.loads(pickle.dumps(error))) == "nothing was sent"
    assert AdmissionTimeoutError.__module__ == "otel_ratelimit"


def test_except_rate_limit_error_and_a_fallback(closed: ThrottlingServer) -> None:
    """What programs have: another model where the first one's limit is reached."""
    with openai.OpenAI(base_url=closed.base_url, api_key=f"{SECRET}-key") as client, asked(closed):
        try:
            answer = chat(client)
        except openai.RateLimitError:
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert answer.choices
    assert (closed.counts.succeeded, closed.counts.requests) == (1, 3)


def test_tenacity(closed: ThrottlingServer) -> None:
    """``retry_if_exception_type(openai.RateLimitError)`` takes it for what it says."""
    tenacity = pytest.importorskip("tenacity", reason="tenacity is not installed: uv sync --group benchmarks")
    with openai.OpenAI(base_url=closed.base_url, api_key=f"{SECRET}-key") as client, asked(closed):
        models = iter(["gpt-4o", "gpt-4o-mini"])
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(openai.RateLimitError), stop=tenacity.stop_after_attempt(2)
        )
        answer = retrying(lambda: client.chat.completions.create(model=next(models), messages=MESSAGES))
    assert answer.choices
    assert retrying.statistics["attempt_number"] == 2
    assert closed.counts.requests == 3  # two refusals, and the answer of the other model
