"""``explain`` reads what people really paste, and says of each what the library itself would do about it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ratelimit import parse_throttle
from otel_ratelimit._commands.explain import meaning, own, paste
from otel_ratelimit._core.events import GiveUp, GiveUpReason
from otel_ratelimit._drivers.notes import limit_words, note, queue_message
from otel_ratelimit.testing import Limit, ThrottlingServer
from tests.commands.conftest import Command

Here = Callable[..., tuple[int, str, str]]

SENTENCE = (
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29337, Requested 1831."
    " Please try again in 2.336s. Visit https://platform.openai.com/account/rate-limits to learn more."
)
BODY = {"error": {"message": SENTENCE, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
QUOTA = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details. It's all in"
        " https://platform.openai.com/docs/guides/error-codes/api-errors.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}
HEADERS = "content-type: application/json\nX-RateLimit-Limit-Tokens: 30000\nx-ratelimit-remaining-tokens: 663"

CURL = f"HTTP/2 429 \n{HEADERS}\n\n{json.dumps(BODY, indent=2)}\n"
CURL_V = (
    "*   Trying 104.18.6.192:443...\n> POST /v1/chat/completions HTTP/2\n> Host: api.openai.com\n>\n"
    "< HTTP/1.1 100 Continue\n<\n< HTTP/2 429\n"
    + "\n".join(f"< {line}" for line in HEADERS.splitlines())
    + f"\n<\n{{ [5 bytes data]\n{json.dumps(BODY)}\n* Connection #0 to host api.openai.com left intact\n"
)
TRACEBACK = (
    'Traceback (most recent call last):\n  File "/app/app.py", line 429, in <module>\n    client.chat.completions.create(\n'
    f"openai.RateLimitError: Error code: 429 - {BODY!r}\n"
)
LITELLM = (
    f"litellm.RateLimitError: RateLimitError: OpenAIException - Error code: 429 - {BODY!r} LiteLLM Retried: 2 times"
)
JSON_LOG = json.dumps({"time": "2026-11-24T03:00:00Z", "level": "error", "msg": f"Error code: 429 - {BODY!r}"})
SHIPPED = json.dumps({"kubernetes": {"pod": "a-429"}, "log": JSON_LOG + "\n"})
LOG = f"2026-11-24 03:00:00,503 ERROR worker-7 call failed: {SENTENCE}"
HAR = json.dumps(
    {
        "status": 429,
        "headers": [{"name": "Retry-After-Ms", "value": "2336"}],
        "content": json.dumps(BODY),
    }
)


@pytest.mark.parametrize(
    "text",
    [CURL, CURL.replace("\n", "\r\n"), CURL_V, TRACEBACK, LITELLM, json.dumps(BODY), JSON_LOG, SHIPPED, LOG, HAR],
    ids=["curl -i", "CRLF", "curl -v", "traceback", "litellm", "json", "json log", "shipped log", "log", "archive"],
)
def test_one_throttle_in_every_shape(text: str, here: Here) -> None:
    """The same limit, figures, delay and advice, whatever it was wrapped in; the status of the exit says that it was found."""
    status, out, _ = here("explain", text)
    assert status == 0
    assert "The limit of tokens per minute was reached." in out
    assert "(2 times)" not in out
    for figure in ("30,000 tokens per minute", "29,337", "1,831", "1,168, which refills in 2.336 s"):
        assert figure in out
    assert "Yes, after 2.336 s" in out
    assert "waits 2.361 s" in out
    assert "max_tokens" in out


def test_a_real_error_of_the_real_sdk(here: Here) -> None:
    """What the SDK prints about a refusal of the test server, as a traceback's last line and as its own exception text."""
    with (
        ThrottlingServer([Limit("tokens", 1000, used=1000)]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=400)
    error = caught.value
    said = parse_throttle(429, error.response.headers, error.body)
    assert said is not None
    _, out, _ = here("explain", "--json", f"openai.RateLimitError: {error}")
    found = json.loads(out)
    assert (found["kind"], found["limit"], found["requested"]) == ("tokens", 1000, 400)
    assert found["delay"] == pytest.approx(said.delay, abs=1)


def test_money_is_not_retried(here: Here) -> None:
    """A quota error in a Python repr with an apostrophe in it, which makes the repr change its quotes."""
    status, out, _ = here("explain", f"openai.RateLimitError: Error code: 429 - {QUOTA!r}")
    assert status == 0
    assert "about money" in out
    assert "Retry?  No" in out
    assert "billing" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Error code: 429 - {'error': {'message': 'Request too large for gpt-4o: Limit 30000, Requested 40000.'}}",
            "larger than",
        ),
        ("HTTP/1.1 503 Service Unavailable\nretry-after: 7\n\n", "overloaded"),
        ("Error code: 429 - {'error': {'code': 'slow_down', 'message': 'Slow down.'}}", "Traffic grew too fast"),
        (SENTENCE.replace("tokens per min (TPM)", "requests per day (RPD)"), "whole day"),
        (
            'INFO httpx HTTP Request: POST https://x/v1/chat/completions "HTTP/1.1 429 Too Many Requests"',
            "did not say which",
        ),
        (
            "DEBUG HTTP Response: POST https://x '429 Too Many Requests' Headers({'retry-after': '20'})",
            "Yes, after 20 s",
        ),
        (
            "Error code: 429 - {'error': {'message': 'Rate limit reached. Please try again in 20m0s.'}}",
            "more than the budget",
        ),
        ("Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4o. Please try aga", "named no delay"),
    ],
    ids=["too large", "overload", "slow_down", "day", "access log", "debug log", "over the budget", "cut off"],
)
def test_the_other_kinds(text: str, said: str, here: Here) -> None:
    """Each has words of its own."""
    status, out, _ = here("explain", text)
    assert status == 0
    assert said in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("HTTP/1.1 401 Unauthorized\n\n{}", "401 is not a throttle here: a missing, wrong or revoked API key"),
        ("2026-11-24 10:04:29,503 INFO all fine, 429 rows written", "No throttle found"),
        ("Error code: 500 - {'error': {'message': 'The server had an error'}}", "500 is not a throttle"),
        ("{}", "No throttle found"),
    ],
)
def test_what_is_no_throttle(text: str, said: str, here: Here) -> None:
    """Status 1, and the reason."""
    status, out, _ = here("explain", text)
    assert status == 1
    assert said in out


def test_a_whole_log_is_grouped(tmp_path: Path, here: Here) -> None:
    """Each kind once, with how often it was there, most frequent first; bare lines of the same responses do not hide it."""
    log = tmp_path / "app.log"
    access = 'INFO httpx HTTP Request: POST https://x "HTTP/1.1 429 Too Many Requests"\n'
    log.write_text((access + TRACEBACK) * 5 + f"Error code: 429 - {QUOTA!r}\n" + "INFO done\n" * 100)
    status, out, _ = here("explain", log)
    assert status == 0
    assert out.index("The limit of tokens per minute was reached. (5 times)") < out.index("about money")
    assert "did not say" not in out


def test_from_standard_input_and_its_exit_status(command: Command) -> None:
    """A pipe, as in ``curl -i … | otel-ratelimit explain``; no colour in it."""
    done = command("explain", stdin=CURL)
    assert done.returncode == 0, done.stderr
    assert "2.336 s" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [("missing.log",), ("  ",)])
def test_nothing_to_read(arguments: tuple[str, ...], here: Here) -> None:
    """Status 2 and a reason."""
    status, out, err = here("explain", *arguments)
    assert (status, out) == (2, "")
    assert "otel-ratelimit explain: " in err


def test_the_settings_of_the_environment_count(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library does depends on them."""
    monkeypatch.setenv("OTEL_RATELIMIT_MAX_WAIT", "1")
    assert "more than the budget of 1 s" in here("explain", LOG)[1]
    monkeypatch.setenv("OTEL_RATELIMIT_MODE", "observe")
    assert "OTEL_RATELIMIT_MODE is observe" in here("explain", LOG)[1]


REQUESTS_LOG = (
    "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://x/v1 headers="
    "{'x-ratelimit-limit-tokens': '200,000', 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '20m'}"
)


def test_headers_tell_the_kind_before_the_name_of_the_status(here: Here) -> None:
    """Every 429 is called "Too Many Requests"; the header says that tokens ran out, of how many, and until when."""
    _, out, _ = here("explain", REQUESTS_LOG)
    assert "The limit of tokens was reached." in out
    assert "200,000 tokens" in out
    assert "the limit's reset time" in out


def test_a_reset_time_over_the_budget_is_told_as_what_is_done(here: Here) -> None:
    """A reset time is no instruction for a call (``_core.call``): the estimate of the limit decides."""
    _, out, _ = here("explain", REQUESTS_LOG)
    assert "its own estimate of the limit" in out
    _, out, _ = here("explain", "HTTP/1.1 429 x\nretry-after: 1200\n\n")
    assert "more than the budget" in out


@pytest.mark.parametrize("reason", GiveUpReason.__args__)  # type: ignore[attr-defined]
def test_our_own_notes_are_understood(reason: GiveUpReason, here: Here) -> None:
    """Each reason of a note, as ``notes`` writes it below the SDK's error: told once, with advice, and not as a quota error."""
    said = note(GiveUp(reason, 5.0, 12.5, 15.0), 3)
    status, out, _ = here("explain", f"{TRACEBACK}{said}\n")
    assert status == 0
    assert f"otel_ratelimit gave up: {own.KNOWN[reason][0]}." in out
    assert "12.5 s" in out
    assert own.KNOWN[reason][1] in out
    assert "The limit of tokens per minute was reached." in out
    assert "about money" not in out
    _, out, _ = here("explain", "--json", said)
    assert json.loads(out) == {"otel_ratelimit": "gave_up", "count": 1, "seconds": 12.5, "reason": reason}


def test_our_own_log_is_understood(here: Here) -> None:
    """Waits are added up; a give-up in the log and its note on the exception are one; the queue's error is one too."""
    log = (
        "INFO:otel_ratelimit._telemetry.trace:chat gpt-4o waits 2.361 s (throttled)\n"
        "INFO:otel_ratelimit._telemetry.trace:chat gpt-4o waits 1.000 s (admission)\n"
        "WARNING:otel_ratelimit._telemetry.trace:chat gpt-4o gave up after 1 throttle and 3.361 s of waiting (budget_exceeded)\n"
        + note(GiveUp("budget_exceeded", 5.0, 3.361, 4.0), 2)
        + "\notel_ratelimit.AdmissionTimeoutError: "
        + queue_message(GiveUp("queue_budget_exceeded", 9.0, 1.0, 2.0), limit_words())
        + "\n"
    )
    status, out, _ = here("explain", log)
    assert status == 0
    assert "otel_ratelimit held calls back (2 times): 3.361 s in all, the longest 2.361 s." in out
    assert "otel_ratelimit gave up: the delay that the server asked for does not fit the budget." in out
    assert "otel_ratelimit gave up: the turn in the local queue would come too late." in out
    assert "not say which" not in out


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "Error code: 429 - " * n,
        lambda n: "Error code: 429 - {'a': " * n,
        lambda n: "HTTP/1.1 429 x\n" + "retry-after: 5\n" * 10 * n + "\n{}",
        lambda n: "retry-after: 5, " * n + " 429",
        lambda n: "chat x waits 1.000 s (throttled) " * n,
        lambda n: "otel_ratelimit: gave up after " * n,
    ],
    ids=["error codes", "open dicts", "one header", "headers in a line", "waits", "notes"],
)
def test_time_is_linear(make: Callable[[int], str]) -> None:
    """Eight times the text costs about eight times the time; it was sixty-four times for the first and the third."""

    def seconds(text: str) -> float:
        best = math.inf
        for _ in range(3):
            begin = time.thread_time()
            meaning.explain(paste.read(own.take_out(text)[0]))
            best = min(best, time.thread_time() - begin)
        return best

    assert seconds(make(4000)) < max(24 * seconds(make(500)), 0.02)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["HTTP/1.1 429 x\n", "Error code: 429 - ", "{'error': ", '{"error": ', "'", '"', "}", "]", "[", "\\", "429", "\n",
             ": ", "retry-after: ", "rate limit", "status", "< ", "null", "\x1b[0m", "9" * 400]
        )
        | st.text(max_size=20),
        max_size=30,
    )
)  # fmt: skip
def test_nothing_that_is_pasted_breaks_it(parts: list[str]) -> None:
    """Text made of the pieces that the reader looks for, in any order."""
    found, other = meaning.explain(paste.read("".join(parts)))
    assert isinstance(found, list)
    assert isinstance(other, list)


def corpus() -> list[dict[str, Any]]:
    file = Path(__file__).parents[1] / "data" / "throttles.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    "case", [case for case in corpus() if case["status"] and case["status"] >= 400], ids=lambda case: case["id"]
)
def test_real_responses_pasted_as_curl_prints_them(case: dict[str, Any]) -> None:
    """The collected responses: pasted, they are read as the parser reads them from the wire."""
    body = (
        case["body"] if isinstance(case["body"], str) else json.dumps(case["body"]) if case["body"] is not None else ""
    )
    headers = "".join(f"{name}: {value}\n" for name, value in case["headers"].items())
    (response, *_) = paste.read(f"HTTP/1.1 {case['status']} x\n{headers}\n{body}\n")
    direct = parse_throttle(case["status"], case["headers"], case["body"], now=1_795_561_461.0)
    pasted = parse_throttle(response.status or 0, response.headers, response.body, now=1_795_561_461.0)
    assert pasted == direct
