"""Whether the ledgers are to be believed alone, and whether the headers are that say that there is room.

A ledger is a model. Where a server does something that no model of ours has, it may find room for call after call that the
server then refuses. So refusals of calls that the ledgers had let go are counted, by generation (what was in flight
together says one thing once); once there have been too many, the pacer, which needs no model, holds beside them until they
have been right for as long.

Likewise headers that show room, after a refusal that no ledger explains: some gateways refuse the first calls of a burst and are
idle afterwards, so the backoff ends. Where it was needed after all, the headers are believed so much more seldom.
"""

from __future__ import annotations

from typing import Final

SURPRISES: Final = 4.0
"""Generations of requests in a row, let go and refused, that are put down to chance: others' bursts, a limit that changed."""

RIGHT_CALLS: Final = 8.0
"""Calls served that make up for one of them."""

MOST_BELIEVED: Final = 2.0
"""Times that headers may end a backoff; counted down again by one in BELIEVED_CALLS calls served. A burst that is refused at
its beginning makes one of it; headers of another limit than the one that refuses are found out after the second."""

BELIEVED_CALLS: Final = 200.0


class Trust:
    """Counts surprises.

    Attributes:
        tried: whether there were any that have not been made up for.
    """

    __slots__ = ("_believed", "_generation", "_surprises")

    def __init__(self) -> None:
        self._surprises = 0.0
        self._believed = 0.0
        self._generation = -1

    @property
    def tried(self) -> bool:
        return self._surprises > 0.0

    def believes_headers(self) -> bool:
        """Whether headers that show room may end a backoff; if so, it counts as done."""
        if self._surprises > SURPRISES or self._believed + 1.0 > MOST_BELIEVED:
            return False
        self._believed += 1.0
        return True

    def surprised(self, sent: int, latest: int) -> bool:
        """Request ``sent`` was refused though it had room, when ``latest`` was the last one sent; True: do not rely on it."""
        if sent > self._generation:
            self._surprises += 1.0
            self._generation = latest
        return self._surprises > SURPRISES

    def served(self) -> None:
        """Any request was served."""
        self._believed = max(self._believed - 1.0 / BELIEVED_CALLS, 0.0)

    def right(self, sent: int) -> bool:
        """Request ``sent`` was served as expected; True if the ledgers are believed again by that."""
        if sent <= self._generation:
            return False
        doubted = self._surprises > SURPRISES
        self._surprises = max(self._surprises - 1.0 / RIGHT_CALLS, 0.0)
        return doubted and self._surprises <= SURPRISES
