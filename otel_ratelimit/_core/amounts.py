"""What a call takes of each limit, as one value: requests, tokens, input tokens, output tokens.

Owns :class:`Amounts` and which of them a kind of limit counts. Knows no limit and no call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple


class Amounts(NamedTuple):
    """Amounts of the four things that servers limit, of one call or as running totals. Never NaN.

    Attributes:
        requests: calls; a resend is one again.
        tokens: tokens as a token limit counts them.
        input: tokens of prompts.
        output: tokens that may be produced.
    """

    requests: float = 0.0
    tokens: float = 0.0
    input: float = 0.0
    output: float = 0.0

    def plus(self, other: Amounts) -> Amounts:
        """The sums."""
        return amounts_of((self[0] + other[0], self[1] + other[1], self[2] + other[2], self[3] + other[3]))

    def minus(self, other: Amounts) -> Amounts:
        """The differences; they may be negative."""
        return amounts_of((self[0] - other[0], self[1] - other[1], self[2] - other[2], self[3] - other[3]))

    def fits(self, most: Amounts) -> bool:
        """Whether none of them is larger than in ``most``."""
        return self[0] <= most[0] and self[1] <= most[1] and self[2] <= most[2] and self[3] <= most[3]

    def ahead_of(self, requests: float, tokens: float) -> Amounts:
        """All four, where only requests and tokens are known of calls like this one: the others in the proportion of tokens."""
        share = tokens / self[1] if self[1] > 0 else requests
        return amounts_of((requests, tokens, self[2] * share, self[3] * share))


amounts_of: Final[Callable[[Iterable[float]], Amounts]] = partial(tuple.__new__, Amounts)
"""Four numbers as :class:`Amounts`. A named tuple's own constructor is a Python function, and each call makes some."""

NOTHING: Final = Amounts()

NEVER: Final = Amounts(-math.inf, -math.inf, -math.inf, -math.inf)
"""The limit that nothing fits."""

INDEX: Final = {"requests": 0, "tokens": 1, "input_tokens": 2, "output_tokens": 3, "images": 0}
"""Which of the four a kind of limit counts. A limit of images counts requests: one of the images API asks for one image unless
its ``n`` says otherwise, and the limit's own headers correct the rest."""
