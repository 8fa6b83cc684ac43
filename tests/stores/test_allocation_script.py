"""The shared rule itself: ``allocation.lua`` in a real Redis that is told the time."""

from __future__ import annotations

import json
import random
import secrets
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ratelimit._core.fleet.messages import VERSION
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis_client import Script
from tests.helpers.redis_server import RedisServer

LANES = {"interactive": 0, "normal": 1, "batch": 2}


class Fleet:
    """Processes that report by hand."""

    def __init__(self, script: Script, keys: list[str]) -> None:
        self.script = script
        self.keys = keys
        self.now = 1_000_000.0
        self.used: dict[str, float] = {}

    def say(self, process: str, **fields: Any) -> dict[str, Any]:
        """One exchange; what is not given is empty."""
        report: dict[str, Any] = {
            "version": VERSION, "epoch": "", "used": [0.0] * 4, "answers": 0, "silent": 0, "known": True, "said": {},
            "lanes": [[], [], []], "waits": [0.0] * 4, "hold": [0.0] * 4, "want": [0.0] * 4,
            "typical": [1.0, 100.0, 0.0, 0.0], "closed": 0.0, "cause": "", "live": 3.0, "settings": "s", "leaving": False,
            **fields,
        }  # fmt: skip
        return self.script.run(self.keys, process, report, now=self.now)

    def wait(self, process: str, *ages: float, priority: str = "normal", need: float = 100.0, **fields: Any) -> float:
        """Calls that have waited so long stand in line; returns how many of them may go."""
        lanes: list[list[list[float]]] = [[], [], []]
        lanes[LANES[priority]] = [[age, 1.0, need, 0.0, 0.0] for age in ages]
        waits = [float(len(ages)), need * len(ages), 0.0, 0.0]
        answer = self.say(process, lanes=lanes, waits=waits, **fields)
        lease: float = answer["lease"][0]
        return lease

    def hear(self, process: str, told: float, *, limit: float = 6000.0, age: float = 0.0, **fields: Any) -> Any:
        """The server has said what is left of a minute's limit: 6,000 tokens, 100 of them a second."""
        said = {"unit": 1, "limit": limit, "window": 60.0, "capacity": limit, "told": told, "age": age, "error": 0.0,
                "judged": 0}  # fmt: skip
        return self.say(process, said={"tokens///": said | fields.pop("more", {})}, **fields)

    def level(self) -> float:
        """What is left, by the script's own account."""
        level: float = self.say("looking")["levels"]["tokens///"][1]
        self.say("looking", leaving=True)
        return level


@pytest.fixture
def fleet(script: Script, keys: list[str]) -> Fleet:
    return Fleet(script, keys)


def test_no_more_is_granted_than_is_left_and_flows_in(fleet: Fleet) -> None:
    """Two fit at once, then one a second."""
    fleet.hear("a", 250.0)
    assert fleet.wait("a", 0.5, 0.4, 0.3, 0.2) == 2
    granted = 2.0
    for _ in range(20):
        fleet.now += 0.1
        granted += fleet.wait("a", 0.5, 0.4, used=[granted, 100 * granted, 0, 0])
    assert granted == 4


def test_first_come_first_served_over_the_fleet(fleet: Fleet) -> None:
    """Whoever came first goes first, whichever process asks first."""
    fleet.hear("a", 0.0)
    for process, ages in (("a", (0.3, 0.1)), ("b", (0.4,)), ("c", (0.2,))):
        assert fleet.wait(process, *ages) == 0
    order: list[str] = []
    for _ in range(4):
        fleet.now += 1.0
        # Whoever comes first grants for all; the others find it when they come.
        order += [name for name, ages in (("a", (0.3, 0.1)), ("b", (0.4,)), ("c", (0.2,)))
                  for _ in range(int(fleet.wait(name, *(1.0 + len(order) + age for age in ages[order.count(name):]),
                                                used=[order.count(name), 100.0 * order.count(name), 0, 0])))]  # fmt: skip
    assert order == ["b", "a", "c", "a"]


def test_no_small_call_overtakes_a_large_one(fleet: Fleet) -> None:
    """What it waits for would be taken away from it, again and again."""
    fleet.hear("a", 150.0)
    assert fleet.wait("large", 1.0, need=500.0) == 0
    assert fleet.wait("small", 0.5, need=100.0) == 0
    for age in (1.5, 3.0):
        fleet.now += 1.5
        assert fleet.wait("large", 1.0 + age, need=500.0) == 0
        assert fleet.wait("small", 0.5 + age, need=100.0) == 0
    fleet.now += 0.6
    assert fleet.wait("small", 4.1, need=100.0) == 0
    assert fleet.wait("large", 4.6, need=500.0) == 1


@pytest.mark.parametrize(
    ("priority", "others"), [("interactive", "batch"), ("interactive", "normal"), ("normal", "batch")]
)
def test_priorities_share_over_processes(fleet: Fleet, priority: str, others: str) -> None:
    """The lower one came first and waits for long; of the first 20 turns it has few, but not none for ever."""
    fleet.hear("a", 0.0)
    counts = {"high": 0.0, "low": 0.0}
    fleet.wait("low", *[50.0] * 16, priority=others)
    fleet.wait("high", *[1.0] * 16, priority=priority)
    for _ in range(200):
        fleet.now += 1.0
        for name, level in (("low", others), ("high", priority)):
            counts[name] += fleet.wait(
                name, *[1.0] * 16, priority=level, used=[counts[name], 100 * counts[name], 0, 0]
            )  # fmt: skip
    assert counts["low"] + counts["high"] == pytest.approx(200, abs=3)
    weights = {"interactive": 64, "normal": 8, "batch": 1}
    share = weights[others] / (weights[others] + weights[priority])
    assert counts["low"] / 200 == pytest.approx(share, abs=0.02)
    assert counts["low"] >= 2


def test_the_place_of_a_lost_process_comes_back(fleet: Fleet) -> None:
    """It stands first and never comes; after its three seconds the others go on, with what it had been granted too."""
    fleet.hear("a", 0.0)
    fleet.wait("lost", 5.0, 5.0)
    fleet.wait("a", 1.0)
    fleet.now += 1.0
    assert fleet.wait("a", 2.0) == 0  # its turn: granted, and kept for it
    fleet.now += 1.0
    assert fleet.wait("a", 3.0) == 0
    fleet.now += 1.1
    assert fleet.wait("a", 4.1) == 1
    assert fleet.level() == pytest.approx(310.0 - 100.0)


def test_what_a_lease_left_unused_comes_back(fleet: Fleet) -> None:
    """The next report says so, and somebody else goes at once."""
    fleet.hear("a", 100.0)
    assert fleet.wait("a", 1.0) == 1
    assert fleet.wait("b", 1.0) == 0
    fleet.say("a")  # its call was cancelled: nothing used, nobody waits
    assert fleet.wait("b", 1.0) == 1


def test_what_was_used_beyond_a_lease_is_counted(fleet: Fleet) -> None:
    """By the next report."""
    fleet.hear("a", 1000.0)
    fleet.wait("a", 1.0)
    fleet.say("a", used=[1.0, 130.0, 0.0, 0.0])
    assert fleet.level() == pytest.approx(870.0)


def test_a_repeated_exchange_counts_once(fleet: Fleet) -> None:
    """An answer was lost and the report is made again: nothing is charged or granted twice."""
    fleet.hear("a", 1000.0)
    for _ in range(3):
        assert fleet.wait("a", 1.0, used=[5.0, 500.0, 0.0, 0.0]) == 1
    fleet.say("a", used=[5.0, 500.0, 0.0, 0.0])
    # It had used these before the fleet knew it: the server's word includes them.
    assert fleet.level() == pytest.approx(1000.0 - 500.0)


def test_answers_that_come_out_of_order_count_once(fleet: Fleet) -> None:
    """The word about the latest-sent request holds, whichever arrives last."""
    fleet.hear("a", 1000.0, age=1.0)
    fleet.hear("b", 1400.0, age=4.0)
    assert fleet.level() == pytest.approx(1100.0)


def test_what_was_handed_out_after_a_request_was_sent_is_counted_from_there(fleet: Fleet) -> None:
    """The server's word about an early request does not know of what was granted since."""
    epoch = fleet.hear("a", 2000.0)["epoch"]
    mark = fleet.say("a")["mark"][1]
    assert fleet.wait("b", *[1.0] * 5) == 5
    fleet.say("b", used=[5.0, 500.0, 0.0, 0.0])
    fleet.now += 1.0
    fleet.hear("a", 2000.0, age=0.9, more={"mark": mark, "epoch": epoch})
    assert fleet.level() == pytest.approx(2000.0 + 90.0 - 500.0, abs=15.0)  # less what seems to drain


def test_others_who_use_the_limit_are_noticed(fleet: Fleet) -> None:
    """Half of the refill goes to somebody who is no member: the fleet gets the other half."""
    told = 3000.0
    for _ in range(40):
        fleet.hear("a", told)
        fleet.now += 1.0
        told += 50.0
    rate = fleet.say("a")["levels"]["tokens///"][2]
    assert rate == pytest.approx(50.0, abs=5.0)


def test_mispredictions_make_a_margin_that_fades(fleet: Fleet) -> None:
    """As in the bucket of one process."""
    fleet.hear("a", 3000.0)
    fleet.hear("a", 2900.0, more={"error": -200.0, "judged": 1})
    assert fleet.say("a")["levels"]["tokens///"][3] == pytest.approx(200.0)
    fleet.hear("a", 2900.0, more={"error": 0.0, "judged": 256})
    assert fleet.say("a")["levels"]["tokens///"][3] == pytest.approx(200.0 / 2.72, rel=0.01)


def test_silence_is_asked_about_in_the_end(fleet: Fleet) -> None:
    """A server that speaks only when it refuses: after many silent answers the fleet dares one call beyond its belief."""
    fleet.hear("a", 100.0)
    assert fleet.wait("a", 1.0) == 1
    assert fleet.wait("a", 1.0, used=[1.0, 100.0, 0.0, 0.0]) == 0
    assert fleet.wait("a", 1.0, used=[1.0, 100.0, 0.0, 0.0], answers=201, silent=201) == 1


def test_far_from_the_limit_slices_are_handed_out(fleet: Fleet) -> None:
    """And nobody gets more than a part of what is above a quarter, however much it wants."""
    fleet.hear("a", 5500.0)
    answer = fleet.say("a", want=[1.0, 1e9, 0.0, 0.0])
    assert answer["calm"]
    assert answer["lease"][1] == pytest.approx((5500.0 - 1500.0) / 4)
    handed = answer["lease"][1]
    for number in range(20):
        answer = fleet.say(f"b{number}", want=[1.0, 1e9, 0.0, 0.0])
        handed += answer["lease"][1]
    assert handed <= 4000.0
    assert not answer["calm"]  # what would be left of it is less than a call


def test_no_slices_while_somebody_waits(fleet: Fleet) -> None:
    """Whoever has just come would overtake."""
    fleet.hear("a", 5000.0)
    assert fleet.wait("large", 1.0, need=5900.0) == 0
    assert not fleet.say("a", want=[1.0, 100.0, 0.0, 0.0])["calm"]


def test_without_limits_nobody_is_held(fleet: Fleet) -> None:
    """A server that names none: once it has answered, everybody has a slice without bound."""
    answer = fleet.say("a")
    assert answer["calm"]
    assert answer["lease"][:2] == [1e12, 1e12]


def test_a_cold_fleet_is_one_cold_start(fleet: Fleet) -> None:
    """Eight processes that know nothing begin with 24 calls together, not each; 50 ms later with as many again."""
    ages = [1.0] * 16
    names = [f"p{number}" for number in range(8)]
    first = {name: fleet.wait(name, *ages, known=False) for name in names}
    assert sum(first.values()) == 24
    fleet.now += 0.05
    more = {name: fleet.wait(name, *ages[int(first[name]):], known=False, used=[first[name], 100 * first[name], 0, 0])
            for name in names}  # fmt: skip
    assert sum(more.values()) == pytest.approx(24, abs=1)


def test_a_closed_gate_is_closed_for_all_but_not_for_ever(fleet: Fleet) -> None:
    """A delay without numbers holds everybody; a day's delay is asked about after a minute."""
    fleet.hear("a", 1000.0)
    fleet.say("a", closed=2.0)
    assert fleet.wait("b", 1.0) == 0
    fleet.now += 2.1
    assert fleet.wait("b", 3.1) == 1
    fleet.hear("a", 1000.0, closed=86_400.0)
    fleet.now += 30.0
    assert fleet.wait("b", 0.1, used=[1.0, 100.0, 0.0, 0.0]) == 0
    fleet.now += 31.0
    fleet.hear("a", 1000.0)
    assert fleet.wait("b", 31.1, used=[1.0, 100.0, 0.0, 0.0]) == 1


def test_what_is_promised_to_a_throttled_call_is_kept(fleet: Fleet) -> None:
    """Others pass only if they fit beside it."""
    fleet.hear("a", 150.0)
    fleet.say("a", hold=[1.0, 100.0, 0.0, 0.0])
    assert fleet.wait("b", 1.0) == 0
    fleet.say("a")
    assert fleet.wait("b", 1.0) == 1


def test_a_call_larger_than_the_limit_goes_at_once(fleet: Fleet) -> None:
    """Only the server can say for sure that it never fits, and that is the caller's answer."""
    fleet.hear("a", 10.0)
    assert fleet.wait("a", 1.0, need=7000.0) == 1


def test_a_limit_that_changes_is_followed(fleet: Fleet) -> None:
    """Its size and its pace."""
    fleet.hear("a", 3000.0)
    fleet.now += 1.0
    answer = fleet.hear("b", 1000.0, limit=12_000.0)
    unit, level, rate, _, capacity = answer["levels"]["tokens///"]
    assert (unit, level, capacity) == (1, 1000.0, 12_000.0)
    assert rate == pytest.approx(200.0, rel=0.25)


def test_a_wrong_bucket_does_not_live_for_ever(fleet: Fleet) -> None:
    """Nobody speaks of it for ten minutes: it is dropped, although the fleet goes on exchanging."""
    fleet.hear("a", 0.0, limit=0.001)
    assert fleet.wait("a", 1.0, need=0.0009) == 0
    for _ in range(30):
        fleet.now += 21.0
        answer = fleet.say("a")
    assert answer["levels"] == {}


def test_the_cause_of_a_throttle_reaches_the_others(fleet: Fleet) -> None:
    """For their spans to link to."""
    fleet.say("a", cause="0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert fleet.say("b")["cause"] == "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_two_settings_are_reported_to_whoever_differs(fleet: Fleet) -> None:
    """Not merged: each keeps its own, and says so."""
    assert "other" not in fleet.say("a", settings="buffer=1")
    assert "other" not in fleet.say("b", settings="buffer=1")
    assert fleet.say("c", settings="buffer=2")["other"] == "buffer=1"
    fleet.now += 10.0
    assert "other" not in fleet.say("c", settings="buffer=2")  # the others are gone


def test_a_redis_that_was_emptied_is_taught_again(fleet: Fleet, shared_redis: RedisServer) -> None:
    """Everybody tells all it knows at each exchange; marks of the former life are not believed."""
    epoch = fleet.hear("a", 1000.0)["epoch"]
    with shared_redis.client() as client:
        client.delete(*fleet.keys)
    fleet.now += 1.0
    answer = fleet.hear("a", 1000.0, age=1.0, more={"mark": 123456.0, "epoch": epoch}, used=[9.0, 900.0, 0.0, 0.0])
    assert answer["epoch"] != epoch
    assert answer["levels"]["tokens///"][1] == pytest.approx(1100.0)


def test_what_a_newcomer_used_since_the_servers_word_is_counted(fleet: Fleet) -> None:
    """It made calls before the fleet had answered for the first time."""
    fleet.hear("a", 200.0, more={"since": 150.0}, used=[2.0, 250.0, 0.0, 0.0])
    assert fleet.level() == pytest.approx(50.0)


def test_a_key_that_was_evicted_by_itself_takes_the_others_with_it(fleet: Fleet, shared_redis: RedisServer) -> None:
    """Otherwise what lost processes held would stay held."""
    fleet.hear("a", 1000.0)
    fleet.wait("lost", 1.0, hold=[1.0, 900.0, 0.0, 0.0])
    with shared_redis.client() as client:
        client.delete(fleet.keys[1])
    fleet.hear("a", 1000.0)
    assert fleet.wait("a", *[1.0] * 9) == 9


def test_a_clock_that_is_set_back_holds_nobody(fleet: Fleet) -> None:
    """Another server took over, whose clock is an hour behind: the fleet starts anew instead of waiting for an hour."""
    fleet.hear("a", 0.0)
    fleet.now -= 3600.0
    fleet.hear("a", 100.0)
    assert fleet.wait("a", 1.0) == 1


def test_a_stale_word_makes_no_bucket(fleet: Fleet) -> None:
    """What an idle process heard minutes ago says nothing about now."""
    assert fleet.hear("a", 0.0, age=120.0)["levels"] == {}


def test_idle_accounts_vanish_and_renewals_alone_do_not_keep_them(fleet: Fleet, shared_redis: RedisServer) -> None:
    """Every key has a time to live, which only traffic sets anew."""
    fleet.hear("a", 0.0)
    fleet.wait("a", 1.0)
    with shared_redis.client() as client:
        kept = [key for key in fleet.keys if client.exists(key)]
        assert len(kept) == 3
        for key in kept:
            assert 0 < client.pttl(key) <= 3_600_000
            client.pexpire(key, 5_000)
        fleet.wait("a", 1.0)
        assert all(client.pttl(key) <= 5_000 for key in kept)
        fleet.say("a", used=[1.0, 100.0, 0.0, 0.0])
        assert client.pttl(fleet.keys[0]) > 3_000_000


def test_all_keys_lie_in_one_slot_and_hold_no_credential(script: Script, shared_redis: RedisServer) -> None:
    """One tag; neither the key nor the organisation, the server or the model can be read."""
    from otel_ratelimit._stores.redis_client import payer_of

    payer = payer_of("sk-marked-key", "org-marked", "None")
    keys = script.keys_of(Account("https://marked.example/v1/", payer, "marked-model"))
    assert len({key.split("{")[1].split("}")[0] for key in keys}) == 1
    assert keys == script.keys_of(Account("https://marked.example/v1/", payer, "marked-model"))
    assert keys != script.keys_of(Account("https://marked.example/v1/", payer, "other"))
    assert keys != script.keys_of(
        Account("https://marked.example/v1/", payer_of("sk-other", "org-marked", "None"), "marked-model")
    )  # fmt: skip
    fleet = Fleet(script, keys)
    fleet.hear("a", 10.0)
    with shared_redis.client() as client:
        text = json.dumps(keys) + client.execute_command("DUMP", keys[0], NEVER_DECODE=True).decode("latin-1")
    assert "marked" not in text
    assert payer.hex() not in text


def test_redis_own_time_is_used(script: Script, keys: list[str]) -> None:
    """Where none is handed in: the epoch is named by it."""
    import time

    report = Fleet(script, keys)
    report.now = None  # type: ignore[assignment]
    epoch = float(report.say("a")["epoch"])
    assert abs(epoch - time.time()) < 60.0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_never_more_than_the_limit_and_nobody_starves(script: Script, seed: int, processes: int) -> None:
    """Whatever the processes do (come late, lose answers, die, cancel): what is used never exceeds what there was, and as long as
    calls wait what flows in is handed out."""
    rng = random.Random(seed)
    fleet = Fleet(script, script.keys_of(Account(secrets.token_hex(8), b"property", None)))
    fleet.now += rng.random()
    fleet.hear("p0", 500.0)
    began = fleet.now
    waiting = {f"p{number}": rng.randint(0, 30) for number in range(processes)}
    used = dict.fromkeys(waiting, 0.0)
    arrived = {name: [began - rng.random() for _ in range(count)] for name, count in waiting.items()}
    for calls in arrived.values():
        calls.sort()
    while any(arrived.values()) and fleet.now < began + 300.0:
        fleet.now += rng.random() * 0.6
        name = rng.choice(list(arrived))
        if rng.random() < 0.02 and len(arrived) > 1:
            del arrived[name]  # killed, with whatever it had been granted and not used
            continue
        calls = arrived[name]
        if calls and rng.random() < 0.05:
            calls.pop(rng.randrange(len(calls)))  # cancelled
        granted = fleet.wait(name, *(fleet.now - at for at in calls[:16]), used=[used[name], 100.0 * used[name], 0, 0])
        if rng.random() < 0.05:
            continue  # the answer was lost
        for _ in range(min(int(granted), len(calls))):
            calls.pop(0)
            used[name] += 1
        assert 100.0 * sum(used.values()) <= 500.0 + 100.0 * (fleet.now - began) + 1e-6
    assert not any(arrived.values())
    cancelled_or_lost = sum(waiting.values()) - sum(used.values())
    # No slower than the refill, but for what the dead ones held until they were missed, and the pauses between exchanges.
    assert fleet.now - began <= max(sum(waiting.values()) - 5.0, 0.0) + 8.0 + 4.0 * cancelled_or_lost


def test_a_broken_report_leaves_no_half_written_state(fleet: Fleet) -> None:
    """The script fails before it writes anything."""
    fleet.hear("a", 1000.0)
    with pytest.raises(redis.exceptions.ResponseError):
        fleet.script.run(fleet.keys, "a", {"used": "nonsense"}, now=fleet.now)
    assert fleet.level() == pytest.approx(1000.0)


def test_that_there_are_several_buckets_is_passed_on_for_a_minute(fleet: Fleet) -> None:
    """With its age; the newest finding counts."""
    assert "several" not in fleet.say("a")
    assert fleet.say("b", several=["tokens/", 2.0])["several"] == ["tokens/", pytest.approx(2.0)]
    fleet.now += 10.0
    assert fleet.say("a", several=["requests/", 30.0])["several"] == ["tokens/", pytest.approx(12.0)]
    fleet.say("b", several=["tokens/", 1.0])
    fleet.now += 58.0
    assert fleet.say("a")["several"] == ["tokens/", pytest.approx(59.0)]
    fleet.now += 2.0
    assert "several" not in fleet.say("a")


@pytest.mark.parametrize(
    "told", ["tokens/", [1.0, 1.0], ["tokens/", -1.0], ["tokens/", "1"], ["x" * 201, 1.0], [None, None]]
)
def test_a_finding_of_another_shape_is_no_report(fleet: Fleet, told: Any) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="several"):
        fleet.say("a", several=told)


def test_that_a_call_went_early_is_passed_on_for_a_minute(fleet: Fleet) -> None:
    """The latest counts; whoever reports none, or an earlier one, changes nothing."""
    assert "early" not in fleet.say("a")
    assert fleet.say("b", early=2.0)["early"] == pytest.approx(2.0)
    fleet.now += 10.0
    assert fleet.say("a", early=30.0)["early"] == pytest.approx(12.0)
    assert fleet.say("c", early=None)["early"] == pytest.approx(12.0)
    fleet.now += 49.0
    assert "early" not in fleet.say("a")


@pytest.mark.parametrize("told", [-1.0, "1", [1.0]])
def test_a_time_of_another_shape_is_no_report(fleet: Fleet, told: Any) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="early"):
        fleet.say("a", early=told)
