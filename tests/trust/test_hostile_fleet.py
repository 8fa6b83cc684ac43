"""Redis and the other members of a fleet are judged, not believed: wrong answers, wrong reports, a state that was tampered with,
a member that wants everything. Calls go on, the others too, and nothing spins."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("redis")
import redis

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.fleet.member import FRUITLESS, STARVED
from otel_ratelimit._core.fleet.messages import MOST_BUCKETS, Answer, AnswerError, Flow, plain
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._stores import redis_client
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis import RedisStore
from otel_ratelimit._stores.redis_client import MOST_ANSWER, Script, decoded
from tests.helpers.redis_server import RedisServer
from tests.stores.conftest import keys, own_redis, script, shared_redis
from tests.stores.test_allocation_script import Fleet
from tests.stores.test_both_stores import open_redis_store, tell, wait
from tests.unit.fleet.test_member import COST, Member, answer

__all__ = ["keys", "own_redis", "script", "shared_redis"]

NAN, INFINITY = math.nan, math.inf
LEVEL = [1, 100.0, 1.0, 0.0, 100.0]

WRONG_ANSWERS: dict[str, Any] = {
    "a list": [],
    "nothing": {},
    "again of NaN": answer(again=NAN),
    "again of minus infinity": answer(again=-INFINITY),
    "again of text": {**answer(), "again": "soon"},
    "again of true": answer(again=True),
    "a lease of NaN": {**answer(), "lease": [NAN] * 4},
    "a lease of 1e308": {**answer(), "lease": [1e308] * 4},
    "a lease below zero": {**answer(), "lease": [-1.0] * 4},
    "a lease of three": {**answer(), "lease": [1.0] * 3},
    "a lease of text": {**answer(), "lease": "1234"},
    "a mark of infinity": {**answer(), "mark": [INFINITY] * 4},
    "others of null": {**answer(), "others": None},
    "live of text": answer(live="x"),
    "a long cause": answer(cause="x" * 201),
    "a cause of a number": answer(cause=7),
    "settings of a list": answer(other=["x"]),
    "20,000 buckets": answer(levels={str(number): LEVEL for number in range(20_000)}),
    "a bucket of a fifth unit": answer(levels={"a": [4, *LEVEL[1:]]}),
    "a bucket of a part less": answer(levels={"a": LEVEL[:4]}),
    "a bucket without a rate": answer(levels={"a": [1, 1.0, 0.0, 0.0, 1.0]}),
    "a bucket of NaN": answer(levels={"a": [1, NAN, 1.0, 0.0, 1.0]}),
    "buckets of a list": answer(levels=[LEVEL]),
}


@pytest.mark.parametrize("name", WRONG_ANSWERS)
def test_a_wrong_answer_is_none(name: str) -> None:
    """Nothing of it is taken over, and the process goes on alone."""
    member = Member()
    member.enter(0.0, COST, "normal")
    member.report(0.0)
    with pytest.raises(AnswerError):
        member.accept(WRONG_ANSWERS[name], 0.0)
    assert redis_client.kind_of(AnswerError("x")) == "response"
    member.fail(0.0)
    assert member.due == INFINITY
    assert member.enter(0.1, COST, "normal").admitted


def test_a_right_answer_is_taken_as_it_is() -> None:
    """With all that it may hold, at the bounds."""
    right = answer(
        7.0, 9.0, calm=True, levels={str(number): LEVEL for number in range(MOST_BUCKETS)}, other="pacing=True"
    )
    found = Answer.of(json.loads(json.dumps(right)))
    assert found == Answer(
        epoch=right["epoch"], lease=Amounts(*right["lease"]), ahead=True, mark=Amounts(), again=right["again"],
        cause=right["cause"], flows={str(number): Flow(int(LEVEL[0]), *LEVEL[1:]) for number in range(MOST_BUCKETS)},
        others=Amounts(), live=right["live"], settings="pacing=True",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"null", b"7", b"{", b"[" * 60_000, b"{" + b" " * MOST_ANSWER + b"}", b'{"again": ' + b"9" * 5000 + b"}",
        None, 7, b"\xff\xfe{}",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_answer_at_all(text: Any) -> None:
    """No JSON, no object, deep, or longer than any of ours."""
    with pytest.raises(AnswerError):
        decoded(text)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RedisStore, list[Any], list[int]]]:
    """A store whose exchanges get this answer, and how many there were."""
    answers: list[Any] = [answer()]
    exchanges = [0]

    def run(*_: Any, **__: Any) -> Any:
        exchanges[0] += 1
        time.sleep(0.0005)  # a round trip
        return answers[0]

    monkeypatch.setattr(Script, "run", run)
    store = open_redis_store("redis://127.0.0.1:1/0")
    yield store, answers, exchanges
    store.close()


@pytest.mark.parametrize("again", [NAN, 0.0, -INFINITY, 1e-300])
def test_the_courier_does_not_spin(again: float, told: tuple[RedisStore, list[Any], list[int]]) -> None:
    """Whatever it is told to come again after: some hundred exchanges a second at most, counted by the pauses that it takes."""
    store, answers, exchanges = told
    answers[0] = {**answer(0.0, 0.0), "again": again}
    account = Account("server", b"payer", "gpt-4o")
    for _ in range(3):
        store.place(store.line(account, "gpt-4o")).reserve(COST, "normal", None, time.monotonic())
    began = time.monotonic()
    time.sleep(1.0)
    seconds = time.monotonic() - began
    assert 1 <= exchanges[0] <= 130 * seconds + 3 * FRUITLESS


def test_names_from_redis_are_logged_as_text(
    told: tuple[RedisStore, list[Any], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    """The settings of others, with an escape sequence and a forged line in them."""
    store, answers, _ = told
    answers[0] = {**answer(), "other": "pacing=\x1b[31m\r\nERROR forged\u202e\u2028"}
    with caplog.at_level(logging.WARNING, logger="otel_ratelimit"):
        store.place(store.line(Account("server", b"payer", "m"), "m")).reserve(COST, "normal", None, time.monotonic())
        deadline = time.monotonic() + 20.0
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    (line,) = [record.getMessage() for record in caplog.records if "other settings" in record.getMessage()]
    assert "there: pacing=?[31m??ERROR forged??" in line
    assert plain("x" * 500) == "x" * 200


@pytest.mark.parametrize("kind", ["half a gigabyte", "a byte now and then", "a line without an end"])
def test_an_answer_without_an_end(kind: str) -> None:
    """Whatever a server announces: an exchange ends soon, with a failure of redis-py's, and little of it was read."""
    sent, closed = [0], threading.Event()

    def serve(listener: socket.socket) -> None:
        while not closed.is_set():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"+" if kind == "a line without an end" else b"$536870912\r\n")
                while not closed.is_set():
                    piece = b"x" if kind == "a byte now and then" else b"x" * 65536
                    connection.sendall(piece)
                    sent[0] += len(piece)
                    if len(piece) == 1:
                        closed.wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        script = Script(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", timeout=0.5)
        done: list[Exception] = []

        def exchange() -> None:
            try:
                script.run(["a", "b", "c", "d", "e"], "me", {})
            except Exception as error:
                done.append(error)

        exchanging = threading.Thread(target=exchange, daemon=True)
        exchanging.start()
        exchanging.join(20)
        closed.set()
        script.close()
        assert [redis_client.kind_of(error) for error in done] in (["connection"], ["timeout"])
        assert sent[0] < 32 << 20  # what lies in the buffers of two sockets is more than what was read
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname()).close()
        thread.join(10)


SAID = {
    "unit": 1,
    "limit": 6000.0,
    "window": 60.0,
    "capacity": 6000.0,
    "told": 0.0,
    "age": 0.0,
    "error": 0.0,
    "judged": 0,
}
WRONG_REPORTS: dict[str, dict[str, Any]] = {
    **{f"{part} of 1e308": {part: [1e308] * 4} for part in ("used", "waits", "hold", "want", "typical")},
    **{f"{part} below zero": {part: [-5.0] * 4} for part in ("used", "waits", "hold", "want", "typical")},
    "waits of text": {"waits": ["1"] * 4},
    "waits of three": {"waits": [0.0] * 3},
    "answers of text": {"answers": "7"},
    "closed for ever": {"closed": 1e308},
    "live for ever": {"live": 1e9},
    "lanes of text": {"lanes": [["x"], [], []]},
    "two lanes": {"lanes": [[], []]},
    "a lane of thousands": {"lanes": [[[0.0, 1.0, 1.0, 0.0, 0.0]] * 1000, [], []]},
    "a call of tomorrow": {"lanes": [[[-86400.0, 1.0, 1.0, 0.0, 0.0]], [], []]},
    "20,000 buckets": {"said": {f"{number}///": SAID for number in range(20_000)}},
    "a long name": {"said": {"x" * 201: SAID}},
    "a bucket of text": {"said": {"tokens///": "x"}},
    "a fifth unit": {"said": {"tokens///": {**SAID, "unit": 4}}},
    "a word of tomorrow": {"said": {"tokens///": {**SAID, "age": -86400.0}}},
    "no window": {"said": {"tokens///": {**SAID, "window": 0.0}}},
    "no limit": {"said": {"tokens///": {**SAID, "limit": 0.0}}},
    "told 1e308": {"said": {"tokens///": {**SAID, "told": 1e308}}},
    "another version": {"version": 0},
    "no version": {"version": None},
    "settings of a number": {"settings": 7},
    "a long cause": {"cause": "x" * 201},
}


def stored(script: Script, keys: list[str]) -> dict[str, Any]:
    client: Any = script._client
    return {key: client.dump(key) for key in keys}


@pytest.mark.parametrize("name", WRONG_REPORTS)
def test_a_wrong_report_is_refused(name: str, script: Script, keys: list[str]) -> None:
    """Before a byte is written, so that the others do not even notice."""
    fleet = Fleet(script, keys)
    fleet.hear("honest", 6000.0)
    before = stored(script, keys)
    with pytest.raises(redis.exceptions.ResponseError, match="no report"):
        fleet.say("hostile", **WRONG_REPORTS[name])
    assert stored(script, keys) == before
    assert fleet.wait("honest", 0.0) >= 1


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("part", ["used", "waits", "hold", "want", "typical"])
def test_numbers_that_are_none(part: str, value: float, script: Script, keys: list[str]) -> None:
    """We do not send them; whoever does is refused as well."""
    fleet = Fleet(script, keys)
    fleet.hear("honest", 6000.0)
    with pytest.raises(ValueError, match="JSON compliant"):
        fleet.say("hostile", **{part: [value] * 4})
    before = stored(script, keys)
    with pytest.MonkeyPatch.context() as patch:
        dumps = json.dumps
        patch.setattr(json, "dumps", lambda report, **_: dumps(report))
        with pytest.raises(redis.exceptions.ResponseError, match="no report"):
            fleet.say("hostile", **{part: [value] * 4})
    assert stored(script, keys) == before
    assert fleet.wait("honest", 0.0) >= 1


CHANGED = """local s = cmsgpack.unpack(redis.call('HGET', KEYS[1], 'state')); {};
redis.call('HSET', KEYS[1], 'state', cmsgpack.pack(s))"""


@pytest.mark.parametrize(
    "poison",
    [
        "redis.call('HSET', KEYS[1], 'state', 'x')",
        "redis.call('HSET', KEYS[1], 'state', cmsgpack.pack({seen = 0/0, buckets = {}}))",
        "redis.call('HSET', KEYS[1], 'state', cmsgpack.pack('x'))",
        CHANGED.format("s.spent = {0/0, 0/0, 0/0, 0/0}"),
        CHANGED.format("s.waits = {1/0, 0, 0, 0}"),
        "redis.call('HSET', KEYS[1], 'honest', 'x')",
    ],
)  # fmt: skip
def test_a_state_that_was_tampered_with(poison: str, script: Script, keys: list[str]) -> None:
    """What is not ours is begun anew; nobody is stopped by it for more than one exchange."""
    fleet = Fleet(script, keys)
    fleet.hear("honest", 6000.0)
    script._client.eval(poison, len(keys), *keys)
    fleet.now += 1.0
    fleet.say("another")
    fleet.say("honest")
    assert fleet.wait("honest", 0.0) >= 1


@pytest.mark.parametrize("command", [("set", "x"), ("lpush", "x")])
def test_keys_of_another_type(command: tuple[str, str], own_redis: RedisServer) -> None:
    """Somebody has put something else there: the process goes on alone, and calls wait for nothing."""
    store = open_redis_store(own_redis.url)
    account = Account(secrets.token_hex(8), b"payer", "gpt-4o")
    with own_redis.client() as client:
        for key in Script(own_redis.url).keys_of(account):
            getattr(client, command[0])(key, command[1])
    for _ in range(3):
        place = store.place(store.line(account, "gpt-4o"))
        wait(place)
        tell(place, 50_000.0)
    store.close()


def waiting(now: float, lease: float = 0.0) -> Member:
    """A member whose first call went, and whose second waits."""
    member = Member()
    member.enter(now, COST, "normal")
    member.report(now)
    member.accept(answer(lease), now)
    return member


def test_a_fleet_that_grants_nothing_is_not_believed_for_ever() -> None:
    """After a minute one call goes by itself; the better the server answers such calls, the sooner the next one goes."""
    member = waiting(0.0)
    now = 0.0
    went: list[float] = []
    calls = [member.enter(now, COST, "normal") for _ in range(30)]
    while now < 200.0 and len(went) < 30:
        now += 0.05
        member.report(now)
        member.accept(answer(live=9, others=[1e6] * 4), now)
        for call in [call for call in calls if call.admitted]:
            calls.remove(call)
            went.append(now)
            member.settle(call, Attempt(now + 0.01, succeeded=True))
    assert went[0] == pytest.approx(STARVED, abs=0.2)
    gaps = [later - earlier for earlier, later in itertools.pairwise(went)]
    assert gaps[:3] == pytest.approx([15.0, 3.75, 0.9375], abs=0.2)
    assert max(gaps[4:]) < 0.5


def test_a_throttled_probe_believes_the_fleet_again() -> None:
    """The server says that there is nothing, too: the next one goes a minute later at the soonest."""
    member = waiting(0.0)
    now = 0.0
    went: list[float] = []
    calls = [member.enter(now, COST, "normal") for _ in range(5)]
    while now < 250.0:
        now += 0.1
        member.report(now)
        member.accept(answer(live=9, others=[1e6] * 4), now)
        for call in [call for call in calls if call.admitted]:
            calls.remove(call)
            went.append(now)
            member.settle(call, Attempt(now + 0.01, throttle=Throttle(0.02, "body-message"), succeeded=False))
    assert 3 <= len(went) <= 4
    assert min(later - earlier for earlier, later in itertools.pairwise(went)) >= STARVED - 0.2


def test_one_member_cannot_starve_the_others(script: Script, keys: list[str]) -> None:
    """A member that always says that nothing is left, and always has the oldest call, which needs the whole limit. The calls
    of the others go all the same, on a virtual clock: first one a minute, then, as the server answers them well, as many as
    come."""
    member, began, now = Member(), 1_000_000.0, 0.0
    hostile = Fleet(script, keys)
    reading = LimitReading("tokens", "", "minute", 6000.0, 6000.0, None)
    calls: list[Any] = []
    went = 0
    while now < 150.0:
        now += 0.5
        hostile.now = began + now
        hostile.say(
            "hostile",
            said={"tokens//minute/": {**SAID, "told": -6000.0}, "tokens///": {**SAID, "told": -6000.0}},
            lanes=[[[1e6, 1.0, 6000.0, 0.0, 0.0]] * 16] * 3,
            waits=[1e9] * 4,
            hold=[1e9] * 4,
        )
        calls.append(member.enter(now, Cost(100.0, 0.0), "normal"))
        report = member.report(now)
        member.accept(script.run(keys, "honest", report.wire(), now=began + now), now)
        for call in [call for call in calls if call.admitted]:
            calls.remove(call)
            went += 1
            member.settle(call, Attempt(now + 0.01, readings=[reading], succeeded=True))
    assert went > 50
