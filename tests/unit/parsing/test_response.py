"""parse_throttle and parse_stream_event: real responses, properties over hostile input, and bounds on the work."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
from otel_ratelimit._core.parsing.durations import MAX_DELAY
from otel_ratelimit._core.throttle import Throttle
from tests.helpers.work import grows_at_most

DATA = Path(__file__).parents[2] / "data"
Row = dict[str, Any]


def _rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


FILES = ("throttles", "throttles-2", "more_throttles", "wide_throttles", "service_throttles")
ROWS = [row for name in FILES for row in _rows(f"{name}.jsonl")]


def _parse(row: Row) -> Throttle | None:
    if row["stream_event"] is not None:
        return parse_stream_event(row["stream_event"], now=row.get("now"))
    return parse_throttle(row["status"], row["headers"], row["body"], now=row.get("now"))


@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in ROWS])
def test_corpus(row: Row) -> None:
    """Every collected response gets the answer that its row gives."""
    check(_parse(row), row)


def test_the_names_of_headers_and_their_values_come_in_any_form() -> None:
    """Names in another case, values as bytes, pairs in place of a mapping: the same answer.

    The forms of a body are the subject of ``test_transformed``.
    """
    for row in (row for row in ROWS if row["headers"]):
        pairs = [(name.title(), value.encode()) for name, value in row["headers"].items()]
        other = parse_throttle(row["status"], pairs, row["body"], now=row.get("now"))
        assert other == parse_throttle(row["status"], row["headers"], row["body"], now=row.get("now")), row["id"]


def check(answer: Throttle | None, row: Mapping[str, Any]) -> None:
    """The answer that a row expects, but for what it calls ambiguous; and none of the values that it forbids."""
    expect, either = row["expect"], set(row.get("ambiguous", ()))
    if (answer is not None) != expect["throttle"]:
        assert "throttle" in either
        return
    if answer is None:
        return
    either |= {"source"} if "delay" in either else set()
    if "delay" not in either:
        assert answer.delay == (None if expect["delay"] is None else pytest.approx(expect["delay"], abs=1e-3))
    for name in ("source", "retryable"):
        assert name in either or getattr(answer, name) == expect[name], name
    if expect["kind"] != "unknown":
        assert "kind" in either or answer.kind == expect["kind"]
    if expect["kind"] != "unknown" or expect["window"] is not None:
        assert "window" in either or answer.window == expect["window"]
    for name in ("limit", "used", "requested"):
        assert name in either or expect[name] is None or getattr(answer, name) == expect[name], name
    for name, values in row.get("forbid", {}).items():
        value = getattr(answer, name)
        assert value is None or ("*" not in values and value not in values), name


@pytest.mark.parametrize(
    "text",
    [
        "Limit reached for v3-0324 and gpt-4-32k, see error-code-429 of 2024-02-15.",
        "Keep your rate stable for at least 15 minutes.",
        "The job timed out after 15000 ms, maxWaitMs is 15000ms, max wait 30s.",
        "Rate limit of 24 per 60s exceeded.",
        "100 requests per 1 hour or 400 per day are allowed; 5-hour quota.",
        "Gave up after 3 retries in 12 seconds. It took 40s.",
        "You waited 30 seconds. The retry failed after 20s.",
        "Your token expires in 3600 seconds.",
        "Please retry shortly, in a moment, or in a few minutes.",
        "Try again in -5 seconds.",
        "Try again in 3 attempts. Wait for 2 other requests.",
        "Retry limit exceeded after 30 seconds.",
        "Please reduce the length to 4096 tokens and try again.",
        "Retry 3 times within 60 seconds.",
        "request id: 20260416094124822021dae9564747",
        "24 per 60s, try again later",
    ],
)
def test_durations_that_are_no_waits(text: str) -> None:
    """Windows, budgets, history, advice and identifiers are not read as an instruction to wait."""
    answer = parse_throttle(429, {}, text, now=0)
    assert answer is not None
    assert answer.delay is None


@pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 400, 401, 403, 404, 408, 409, 413, 422, 500, 502, 504])
def test_statuses_that_say_nothing_of_limits(status: int) -> None:
    """Without a word of limits only 402, 429, 503 with a wait, and 529 are throttles."""
    assert (
        parse_throttle(status, {"retry-after": "5"}, {"error": {"message": "Sorry. Try again in 5 seconds."}}) is None
    )


@pytest.mark.parametrize("headers", [{"Retry-After": "5"}, {"x-ratelimit-remaining-requests": "0"}])
def test_a_success_is_no_throttle(headers: Mapping[str, str]) -> None:
    """A Retry-After or an empty bucket on a 200 asks for nothing."""
    assert parse_throttle(200, headers, {"object": "chat.completion", "choices": []}) is None


def test_dates_are_measured_from_the_date_header() -> None:
    """Without ``now`` the server's own clock counts, so that a wrong clock here does no harm."""
    headers = {"Date": "Fri, 29 Sep 2023 16:26:37 GMT", "Retry-After": "Fri, 29 Sep 2023 16:26:57 GMT"}
    answer = parse_throttle(429, headers, None)
    assert answer == Throttle(delay=20, source="retry-after-date")
    assert parse_throttle(429, headers, None, now=1696004816.5) == Throttle(delay=0.5, source="retry-after-date")


def test_dates_are_measured_from_this_clock_at_last() -> None:
    """Without ``now`` and without a Date header, the clock of this machine counts."""
    answer = parse_throttle(429, {"retry-after": str(int(time.time()) + 100)}, None)
    assert answer is not None
    assert answer.delay == pytest.approx(100, abs=5)


@pytest.mark.parametrize(("value", "kind"), [("2", int), ("2.0", int), ("2.5", float)])
def test_whole_numbers_are_ints(value: str, kind: type) -> None:
    """Numbers are ``int`` where they are whole."""
    answer = parse_throttle(429, {"retry-after": value}, None)
    assert answer is not None
    assert type(answer.delay) is kind


class _Model:
    """Stands for an SDK event: attributes, and a dump."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def test_sdk_events() -> None:
    """Events of the SDK are read by their own dump."""
    error = {"code": "rate_limit_exceeded", "message": "Try again in 3s."}
    failed = _Model(type="response.failed", response={"status": "failed", "error": error})
    assert parse_stream_event(failed) == Throttle(delay=3, source="body-message")
    assert parse_stream_event(_Model(type="response.created", response={"error": error})) is None
    assert parse_stream_event(_Model(choices=[], error=None)) is None
    assert parse_stream_event(_Model(choices=[], error=error)) == Throttle(delay=3, source="body-message")


def test_a_bare_error_object() -> None:
    """What the SDK keeps as ``exc.body`` is the inner error object."""
    error = {"code": "rate_limit_exceeded", "type": "tokens", "message": "Please try again in 564ms."}
    assert parse_stream_event(error) == Throttle(delay=0.564, source="body-message", kind="tokens")
    assert parse_throttle(429, {}, error) == Throttle(delay=0.564, source="body-message", kind="tokens")


RATE = {"code": 429, "message": "Rate limit exceeded"}


@pytest.mark.parametrize(
    "body",
    [
        {"error": RATE},
        {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "error", "error": RATE}]},
        {"object": "response", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Slow down"}},
        _Model(object="chat.completion", choices=[_Model(error=RATE)], error=None),
        _Model(object="chat.completion", choices=None, error=RATE),
        _Model(object="response", status="failed", error={"code": "rate_limit_exceeded", "message": "Slow down"}),
        json.dumps({"error": RATE}),
    ],
)
def test_an_error_in_a_success_is_read_with_its_headers(body: Any) -> None:
    """Decoded JSON, SDK models and text; of the headers an instruction and an empty limit count, and no room."""
    answer = parse_throttle(200, {"retry-after": "6"}, _dumped(body))
    assert answer is not None
    assert (answer.delay, answer.source, answer.retryable) == (6, "retry-after", True)
    empty = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3s", "x-ratelimit-reset-requests": "60s"}
    assert (parse_throttle(200, empty, _dumped(body)) or Throttle()).delay == 3
    room = {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "60s"}
    assert (parse_throttle(200, room, _dumped(body)) or Throttle(delay=1)).delay is None


def _dumped(body: Any) -> Any:
    """A model whose dump is plain, as the SDK's are; anything else as it is."""
    if not isinstance(body, _Model):
        return body
    plain = {
        key: [one.to_dict() for one in value] if key == "choices" and value else value
        for key, value in vars(body).items()
    }
    model = _Model(**vars(body))
    model.to_dict = lambda: plain  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    "body",
    [
        _Model(choices=[_Model(error=None, message="rate limit exceeded")], error=None),
        _Model(choices=[], error=None),
        {"choices": [{"message": {"content": "429 rate limit exceeded"}, "error": None}], "error": None},
        {"object": "response", "status": "completed", "error": None, "output": []},
        {"object": "response", "status": "failed", "error": {"code": "server_error", "message": "oops"}},
        {"error": {"code": 500, "message": "retry in 5 s"}},
    ],
)
def test_a_success_or_another_error_is_no_throttle(body: Any) -> None:
    """Whatever its headers say."""
    headers = {"retry-after": "6", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3s"}
    assert parse_throttle(200, headers, body) is None
    assert parse_stream_event(body, headers=headers) is None


def test_a_stream_event_is_read_with_the_head_of_its_stream() -> None:
    """Azure puts Retry-After there; a Date there is the clock."""
    event = {"type": "error", "error": {"code": "rate_limit_exceeded", "message": "Too fast"}}
    assert parse_stream_event(event, headers={"retry-after": "4"}) == Throttle(delay=4, source="retry-after")
    dated = {"Date": "Fri, 29 Sep 2023 16:26:37 GMT", "Retry-After": "Fri, 29 Sep 2023 16:26:57 GMT"}
    assert parse_stream_event(event, headers=dated) == Throttle(delay=20, source="retry-after-date")


class _Hostile(Mapping[str, str]):
    """A mapping whose every method raises."""

    def __getitem__(self, key: str) -> str:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize(
    "thing",
    [_Hostile(), object(), 5, math.nan, "x", b"\xff", [1], [("a",)], [(1, 2)], {1: 2}, {"retry-after": object()}, None,
     {"retry-after": b"\xff\xfe"}, {"retry-after": 10**5000}, memoryview(b"abc"), bytearray(b"{"), _Model(to_dict=5)],
)  # fmt: skip
def test_foreign_objects(thing: Any) -> None:
    """Whatever stands for headers, body or event, nothing is raised, and a 429 stays a throttle."""
    assert parse_throttle(429, thing, thing) is not None
    parse_throttle(thing, thing, {"error": thing})
    parse_stream_event(thing)
    parse_stream_event({"error": thing})


@pytest.mark.parametrize(
    "body",
    [
        "[" * 60_000,
        '{"error":' * 6_000,
        '{"error": {"retry_after": ' + "9" * 5_000 + "}}",
        '{"error": {"message": "Try again in 5s", "retry_after": 1e400}}',
        {"error": {"retry_after": 10**400, "limit": -(10**400), "code": 10**5000}},
        {"error": {"retry_after": math.inf, "reset_at": math.nan, "wait": True}},
        "\ud800 try again in 5s",
        "\x00" * 1000,
    ],
)
def test_broken_bodies(body: Any) -> None:
    """Deep, cut, or absurd bodies give an answer, not an exception."""
    answer = parse_throttle(429, {}, body, now=0)
    assert answer is not None
    assert answer.delay in (None, 5)


def test_a_deep_object() -> None:
    """Nesting is walked to a fixed depth."""
    deep: Any = {"message": "Try again in 5s"}
    for _ in range(100_000):
        deep = {"error": deep}
    assert parse_throttle(429, {}, deep) == Throttle()
    while deep:  # taken apart by hand: freeing it in one go would recurse
        deep = deep.pop("error", None)


# --- properties ---------------------------------------------------------------------------------------------------

VOCABULARY = """
try again in after retry Retry-After: wait limit Limit: Used Requested reset resets at per minute 20 5s 1m26.4s 6m0s
564ms tokens requests quota exceeded { } [ ] " ' : , = 2026-10-03T14:00:00Z 1791036000 -1 NaN 1e300 请 在 秒 后重试
RESOURCE_EXHAUSTED insufficient_quota retryDelay \\n Fri, 29 Sep 2023 16:26:57 GMT
"""
FIELDS = """
error message code type details retryDelay retry_after retryAfterMs resets_at reset headers metadata limit used status
status_code response errors quotaId detail base_resp
"""
HEADER_NAMES = """
retry-after retry-after-ms Date x-ratelimit-reset-tokens x-ratelimit-remaining-tokens ratelimit ratelimit-policy
ratelimit-reset x-codex-primary-used-percent x-codex-primary-reset-at anthropic-ratelimit-unified-reset
"""
FRAMES = ["Please try again in {}.", "retry after {}", "Resets in {}", "wait {} before retrying", "(reset after {})"]
NONSENSE = "alpha 12 7s 40ms v3-0324 gpt-4-32k 2026 tokens 30k /min a.b.c 99% #5 x=1 3rd"

_TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(VOCABULARY.split()), max_size=40).map(" ".join))
_KEYS = st.one_of(st.sampled_from(FIELDS.split()), st.text(max_size=8))
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=12,
)
_HEADERS = st.dictionaries(
    st.one_of(st.sampled_from(HEADER_NAMES.split()), st.text(max_size=12)),
    st.one_of(_TEXTS, st.binary(max_size=30), st.integers().map(str), st.floats().map(str)),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(
    status=st.sampled_from([429, 200, 503, 400, 402, 500, 529, 0, -5]),
    headers=_HEADERS,
    body=_JSON | _TEXTS | st.binary(),
)
@example(status=429, headers={"retry-after": "Thu, 01 Jan 9999 00:00:00 GMT"}, body=None)
@example(status=429, headers={"retry-after": "0000-00-00T00:00:00Z"}, body="try again in 99999999999999999s")
def test_any_response(status: int, headers: dict[str, Any], body: Any) -> None:
    """Nothing raises; every number is finite and in range; source and delay go together."""
    _is_sane(parse_throttle(status, headers, body, now=1_791_000_000.0))
    _is_sane(parse_throttle(status, headers, body))


@settings(max_examples=300, deadline=None)
@given(event=_JSON | _TEXTS | st.binary())
def test_any_event(event: Any) -> None:
    """The same for events."""
    _is_sane(parse_stream_event(event, now=1_791_000_000.0))


def _is_sane(answer: Throttle | None) -> None:
    if answer is None:
        return
    assert (answer.delay is None) == (answer.source is None)
    assert answer.delay is None or 0 <= answer.delay <= MAX_DELAY
    for value in (answer.limit, answer.used, answer.requested):
        assert value is None or (math.isfinite(value) and value >= 0)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(categories=["L", "P", "S", "Z"]), max_size=300))
def test_no_hint_without_a_number(text: str) -> None:
    """A text without a digit asks for no wait, unless it spells the number out."""
    answer = parse_throttle(429, {}, text)
    assert answer is not None
    assert answer.delay is None or any(word in text.lower() for word in ("one", "two", "three", "ten", "thirty"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(NONSENSE.split()), max_size=40))
def test_no_hint_from_nonsense(words: list[str]) -> None:
    """Numbers and durations without words of waiting are no hint."""
    answer = parse_throttle(429, {}, " ".join(words), now=0)
    assert answer is not None
    assert answer.delay is None


@settings(max_examples=100, deadline=None)
@given(
    hours=st.integers(0, 99), minutes=st.integers(0, 59), millis=st.integers(1, 59_999),
    frame=st.sampled_from(FRAMES),
)  # fmt: skip
def test_go_durations_in_sentences(hours: int, minutes: int, millis: int, frame: str) -> None:
    """Every duration in Go's format is read exactly, in every frame."""
    seconds = f"{millis / 1000:.3f}".rstrip("0").rstrip(".")
    written = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"
    answer = parse_throttle(429, {}, frame.format(written))
    assert answer is not None
    assert answer.delay == pytest.approx(hours * 3600 + minutes * 60 + millis / 1000, abs=1e-6)
    assert answer.source == "body-message"


# --- bounds on the work -------------------------------------------------------------------------------------------

HOSTILE: list[tuple[str, Callable[[int], Any]]] = [
    ("spaces", lambda n: " " * n),
    ("digits", lambda n: "9" * n),
    ("durations", lambda n: "1s " * (n // 3)),
    ("compound", lambda n: "1h1m1s" * (n // 6)),
    ("cues", lambda n: "try again in " * (n // 13)),
    ("cue and number", lambda n: "try again in 5s " * (n // 16)),
    ("limits", lambda n: "limit is of to " * (n // 15)),
    ("keys", lambda n: "a:" * (n // 2)),
    ("quotes", lambda n: '"a": "b", ' * (n // 10)),
    ("backslashes", lambda n: "\\" * n),
    ("brackets", lambda n: "[" * n),
    ("braces", lambda n: '{"' * (n // 2)),
    ("dates", lambda n: "2026-10-03T14:00:00Z " * (n // 21)),
    ("months", lambda n: "jan 1, " * (n // 7)),
    ("commas", lambda n: "1,111" * (n // 5)),
    ("fillers", lambda n: "wait " + "about " * (n // 6) + "5s"),
    ("camel", lambda n: "aB" * (n // 2)),
    ("words", lambda n: "exceeded a b c d e f " * (n // 21)),
    ("tokens per", lambda n: "tokens per model " * (n // 17)),
    ("json", lambda n: json.dumps({"error": {"message": "x" * n}})),
    ("json list", lambda n: json.dumps([{"message": "try again in 5s"}] * (n // 30))),
    ("json end", lambda n: json.dumps({"pad": "y " * (n // 2), "error": {"retry_after": 5}})),
    ("chinese", lambda n: "请在 5 秒" * (n // 6)),
    ("json in a row", lambda n: '{"a":{"message":"Try again in 5 s"}} ' * (n // 37)),
    ("midnights", lambda n: "a minute, midnight " * (n // 19)),
    ("fractions", lambda n: "1/2 of 3/4, " * (n // 12)),
    ("pairs", lambda n: "current rpm: 1, rpm limit: " * (n // 27)),
    ("rates", lambda n: "5 requests per 1 a b c " * (n // 23)),
    ("codes in parentheses", lambda n: "limit exceeded (1) " * (n // 19)),
    ("ranges", lambda n: "1-2-3 to " * (n // 9)),
    ("clocks", lambda n: "at 14:00:30 asia/ " * (n // 18)),
    ("addresses", lambda n: "https://a.b/" * (n // 12)),
    ("python", lambda n: "{'a': {'b': '\\'" * (n // 15)),
    ("bytes in bytes", lambda n: "b'{\\x" * (n // 6)),
    ("escapes", lambda n: "\\u8bf7" * (n // 6)),
    ("entities", lambda n: "&quot;{" * (n // 7)),
    ("frames", lambda n: "data: {\n" * (n // 8)),
    ("lines of json", lambda n: '{"a": 1}\n' * (n // 9)),
    ("zeros", lambda n: b"a\0" * (n // 2)),
    ("no characters", lambda n: b"\xff\x81" * (n // 2)),
    ("credits", lambda n: "daily free used all credits " * (n // 28)),
    ("decoded", lambda n: {"error": {str(i): "try again in 5s" for i in range(n // 20)}}),
]


def _read(body: Any, headers: Mapping[str, str] | None = None) -> Callable[[], Any]:
    return lambda: parse_throttle(429, headers or {}, body, now=0)


@pytest.mark.parametrize(("shape", "make"), [pytest.param(name, make, id=name) for name, make in HOSTILE])
def test_a_megabyte_takes_no_longer_than_a_part_of_it(shape: str, make: Callable[[int], Any]) -> None:
    """The work is bounded: 1 MB costs about what 128 KiB cost, and not eight times that."""
    assert grows_at_most(4, _read(make(128 * 1024)), _read(make(1024 * 1024))), shape


@pytest.mark.parametrize(("shape", "make"), [pytest.param(name, make, id=name) for name, make in HOSTILE])
def test_time_is_linear(shape: str, make: Callable[[int], Any]) -> None:
    """Within the bound, eight times the text (512 bytes to 4 KB) costs about eight times as much, and not 64 times."""
    assert grows_at_most(20, _read(make(512)), _read(make(4096))), shape


def test_huge_headers() -> None:
    """Many and long headers are read in linear time."""
    few, many = ({f"x-ratelimit-reset-{i}": "9" * 10_000 for i in range(count)} for count in (1_000, 8_000))
    assert grows_at_most(20, _read(None, few), _read(None, many))
