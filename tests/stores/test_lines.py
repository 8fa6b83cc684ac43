"""How many accounts a process remembers, and which ones it forgets."""

from __future__ import annotations

from otel_ratelimit._core.cost import NOTHING_KNOWN
from otel_ratelimit._stores.memory import MAX_ACCOUNTS, Account, MemoryStore


def full_store() -> tuple[MemoryStore, list[Account]]:
    """As many accounts as are kept, each used once, in order."""
    store = MemoryStore()
    accounts = [Account("server", b"payer", f"model {number}") for number in range(MAX_ACCOUNTS)]
    for now, account in enumerate(accounts):
        place = store.place(store.line(account, "label"))
        place.reserve(NOTHING_KNOWN, "normal", None, float(now))
        place.settle(float(now), succeeded=True)
    return store, accounts


def test_those_that_were_used_longest_ago_make_room() -> None:
    """A tenth of them; whoever kept a line of one is told."""
    store, accounts = full_store()
    kept = {account: store.line(account, "label") for account in accounts}
    again = store.place(kept[accounts[0]])  # used longest ago until now
    again.reserve(NOTHING_KNOWN, "normal", None, float(MAX_ACCOUNTS))
    again.settle(float(MAX_ACCOUNTS), succeeded=True)
    store.line(Account("server", b"payer", "one more"), "label")
    dropped = [account for account, line in kept.items() if line.dropped]
    assert dropped == accounts[1 : 1 + MAX_ACCOUNTS // 10]
    assert store.line(accounts[0], "label") is kept[accounts[0]]
    assert store.line(accounts[1], "label") is not kept[accounts[1]]


def test_nobody_is_forgotten_while_a_call_is_under_way() -> None:
    """However long ago the account was used otherwise."""
    store, accounts = full_store()
    line = store.line(accounts[0], "label")
    place = store.place(line)  # kept: a place that dies gives back what it holds
    place.reserve(NOTHING_KNOWN, "normal", None, 0.5)
    for number in range(3 * MAX_ACCOUNTS):
        store.line(Account("server", b"payer", f"another {number}"), "label")
    assert not line.dropped
    assert line.admission.in_flight == 1
