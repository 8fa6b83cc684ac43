"""What a call will cost, before it is sent; and what this server turned out to charge for such calls.

Owns :class:`Cost`, the estimate from a request body (:func:`estimate`), and :class:`Tariff`, which learns the server's
own rule. Knows no tokeniser (megabytes of tables for a figure that admission only needs to some 15 %), no limit and no
queue. The estimate need not be right, it must be *proportional* to what the server charges: the tariff learns the rest.

OpenAI charges "the larger of the output limit and an estimate" of the input at admission, other servers their sum, or
the input alone. The rules differ by more than a factor only where calls differ, so the tariff keeps the three readings
side by side and believes the one whose ratio to what was charged scatters least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

CHARACTERS_PER_TOKEN: Final = 4.0
"""Characters of English text per token, OpenAI's rule of thumb. Other languages and code: the tariff learns."""

TOKENS_PER_MESSAGE: Final = 4.0
"""Framing that a chat message adds (role and separators), as OpenAI's cookbook counts."""

MESSAGE_CHARACTERS: Final = TOKENS_PER_MESSAGE * CHARACTERS_PER_TOKEN

LOW_DETAIL_IMAGE_TOKENS: Final = 85.0
HIGH_DETAIL_IMAGE_TOKENS: Final = 765.0
"""Tokens of an image in ``detail: low``, and of one of 1024 x 1024 in ``high`` (85 + 4 tiles of 170)."""

AUDIO_TOKENS_PER_CHARACTER: Final = 10.0 / (16_000 * 2 * 4 / 3)
"""Ten tokens a second of input audio, over base64 of 16-bit PCM at 16 kHz; a compressed form is learned."""

FILE_TOKENS: Final = 1000.0
"""An attached file that is only named by id: its size is not in the request, so one page or two."""

MAX_DEPTH: Final = 12
"""Levels of nesting that are read; deeper text counts as nothing. Keeps a body that contains itself from recursing."""

MAX_COST: Final = 1e7
"""Tokens. No call is taken to cost more, whatever its body says: ten million is the longest context there is (Llama 4 Scout)."""

LEAST_COST: Final = 1e-3
"""Tokens. Less than this teaches nothing about a ratio."""

_OUTPUT_LIMITS: Final = frozenset(("max_completion_tokens", "max_tokens", "max_output_tokens"))
# Where the text stands, over chat/completions, completions, responses, embeddings, images, audio and moderations.
_TEXT_FIELDS: Final = frozenset(
    ("messages", "input", "prompt", "instructions", "tools", "functions", "response_format", "text")
)


class Cost(NamedTuple):
    """What one call is expected to take, before the tariff of its server is known.

    Attributes:
        input: tokens of the prompt, tools and images, estimated.
        output: the output limit in tokens, over all ``n`` choices; 0 where the body names none.
        requests: calls of the request limit that it takes; a retry is one again.
    """

    input: float = 0.0
    output: float = 0.0
    requests: float = 1.0


NOTHING_KNOWN: Final = Cost()
_cost_of: Final = partial(tuple.__new__, Cost)  # its own constructor is a Python function: slow


def estimate(path: str, body: object) -> Cost:
    """Estimate the cost of a request from its body, in time linear in the prompt. Never raises.

    Args:
        path: the request's path; images and audio are charged by the request, not by their text.
        body: the decoded JSON body in OpenAI's wire format; what is no mapping tells nothing.
    """
    if type(body) is not dict and not isinstance(body, Mapping):
        return NOTHING_KNOWN
    try:
        characters = 0.0
        limit = 0.0
        for field, value in body.items():
            if field in _TEXT_FIELDS:
                characters += _characters(value, MAX_DEPTH)
            elif field in _OUTPUT_LIMITS and type(value) is int and value > 0:
                limit = float(value) if value < MAX_COST else MAX_COST
        choices = body.get("n")
        if choices is not None and type(choices) is int and choices > 1 and "images/" not in path:
            limit = min(limit * min(choices, 128), MAX_COST)  # 128: the most that the API takes
        return _cost_of((characters / CHARACTERS_PER_TOKEN if characters < MAX_COST else MAX_COST, limit, 1.0))
    except Exception:  # a body of the caller's own making must never fail the call
        return NOTHING_KNOWN


def _characters(part: Any, depth: int) -> float:
    """Characters that a part of a body stands for. Token arrays count as the text they stand for."""
    kind = type(part)
    if kind is str:
        return len(part)
    if kind is list or kind is tuple:
        if not part or depth <= 0:
            return 0.0
        if type(part[0]) is int:  # one prompt, already tokenised
            return len(part) * CHARACTERS_PER_TOKEN
        total = 0.0
        for item in part:
            form = type(item)
            if form is str:
                total += len(item)
            elif form is dict and len(item) == 2 and type(item.get("content")) is str and "role" in item:
                total += len(item["content"]) + MESSAGE_CHARACTERS  # by far the usual message
            elif form is dict and depth > 0:
                total += _characters_of_mapping(item, depth - 1)
            else:
                total += _characters(item, depth - 1)
        return total
    if isinstance(part, Mapping) and depth > 0:
        return _characters_of_mapping(part, depth)
    return 0.0


def _characters_of_mapping(part: Mapping[str, Any], depth: int) -> float:
    form = part.get("type")
    if form in ("image_url", "input_image"):
        image = part.get("image_url")
        detail = part.get("detail") or (image.get("detail") if isinstance(image, Mapping) else None)
        tokens = LOW_DETAIL_IMAGE_TOKENS if detail == "low" else HIGH_DETAIL_IMAGE_TOKENS
        return tokens * CHARACTERS_PER_TOKEN
    if form == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, Mapping) else None
        return len(data) * AUDIO_TOKENS_PER_CHARACTER * CHARACTERS_PER_TOKEN if type(data) is str else 0.0
    if form in ("file", "input_file"):
        return FILE_TOKENS * CHARACTERS_PER_TOKEN
    total = MESSAGE_CHARACTERS if "role" in part else 0.0
    for key, value in part.items():  # a tool's schema: its keys are text to the model as well
        total += len(key) if type(key) is str else 0
        total += len(value) if type(value) is str else _characters(value, depth - 1)
    return total


MEMORY: Final = 0.95
"""Weight that older samples keep when a new one comes in: about twenty samples' memory, so that a change of model mix
or of prompt language is followed within seconds, and the 15 % that single calls vary by averages out to 3 %."""

ENOUGH_CALLS: Final = 10.0
"""Calls in what the factor rests on, from which on single refused calls are left out of it."""

LEAST_STRAY: Final = 0.1
"""Share by which costs stray at least, however well a few samples happen to agree."""

BETTER: Final = 0.5
"""Another reading of the tariff is believed once its scatter is less than this share of the present one's."""


def _larger(cost: Cost) -> float:
    return max(cost.input, cost.output)


def _sum(cost: Cost) -> float:
    return cost.input + cost.output


def _input(cost: Cost) -> float:
    return cost.input


_RULES: Final = (_larger, _sum, _input)


class _Ratio:
    """A ratio learned as the quotient of two fading sums, so that totals come out right, and how far samples stray."""

    __slots__ = ("calls", "charged", "expected", "samples", "scatter")

    def __init__(self) -> None:
        self.expected = 0.0
        self.charged = 0.0
        self.calls = 0.0
        self.samples = 0
        self.scatter = 1.0

    @property
    def value(self) -> float:
        return self.charged / self.expected if self.expected > 0 else 1.0

    def learn(self, expected: float, charged: float, *, alone: bool = False) -> None:
        """One call that was expected to take ``expected`` was charged ``charged``."""
        if not LEAST_COST <= expected <= MAX_COST or not 0 <= charged <= MAX_COST:
            return
        if self.samples:
            stray = min(1.0, (charged / expected / max(self.value, 1e-9) - 1.0) ** 2)
            self.scatter += (stray - self.scatter) / min(self.samples, 10)
        self.samples += 1
        if not alone:
            self.add(expected, charged, 1.0)

    def add(self, expected: float, charged: float, calls: float) -> None:
        """Several calls together; says nothing of how far single ones stray."""
        if LEAST_COST <= expected <= MAX_COST and 0 <= charged <= MAX_COST:
            self.expected = self.expected * MEMORY + expected
            self.charged = self.charged * MEMORY + charged
            self.calls = self.calls * MEMORY + calls


class Tariff:
    """How this server charges tokens for a call, learned from what it said it charged."""

    __slots__ = ("_factor", "_ratios", "_rule", "_usage", "typical")

    def __init__(self) -> None:
        self._rule = 0
        self._factor = 1.0
        self._ratios = tuple(_Ratio() for _ in _RULES)
        self._usage = _Ratio()
        self.typical = 0.0
        """Tokens that calls took of late; stands in for a call whose body says nothing."""

    def tokens(self, cost: Cost) -> float:
        """Tokens that the server is expected to charge for this call."""
        inputs, outputs, _ = cost
        # The first rule, without a step into another function: each call comes here.
        expected = inputs if inputs > outputs else outputs
        if self._rule:
            expected = _RULES[self._rule](cost)
        expected *= self._factor
        return expected if expected > 0 else self.typical

    def learn_requested(self, cost: Cost, charged: float) -> None:
        """``Requested`` of a refused call. Those that cost more than expected are refused more often, so where sums over
        all calls have been learned, this one only tells which rule it is."""
        self.learn(cost, charged, alone=self._ratios[self._rule].calls >= ENOUGH_CALLS)

    def learn(self, cost: Cost, charged: float, *, alone: bool = False) -> None:
        """One call's exact charge is known; ``alone``: it is not like the others, and tells of the scatter only."""
        for rule, ratio in zip(_RULES, self._ratios, strict=True):
            ratio.learn(rule(cost), charged, alone=alone)
        best = min(range(len(_RULES)), key=lambda index: self._ratios[index].scatter)
        present = self._ratios[self._rule]
        if present.samples >= 3 and self._ratios[best].scatter < BETTER * present.scatter:
            self._rule = best
        self._settle_factor()

    def learn_sum(self, expected: float, charged: float, calls: int) -> None:
        """``calls`` calls together were charged ``charged`` where :meth:`tokens` had said ``expected``."""
        for ratio in self._ratios:  # which rule it was cannot be told from a sum: all of them move alike
            ratio.add(expected / max(ratio.value, 1e-9), charged, calls)
        self._settle_factor()

    def seen(self, used: float) -> None:
        """A call reported ``used`` tokens."""
        self.typical += 0.05 * (used - self.typical) if self.typical else min(used, MAX_COST)

    def learn_usage(self, used: float, charged: float) -> None:
        """One call that was charged ``charged`` reported ``used`` tokens in its answer."""
        self._usage.learn(used, charged)

    def charge_of_usage(self, used: float) -> float | None:
        """What a call that reported ``used`` tokens was charged at admission; None where usage does not tell."""
        return used * self._usage.value if self.usage_tells else None

    @property
    def usage_tells(self) -> bool:
        """Whether this server charges what it reports: seen twice, and within 2 %."""
        return self._usage.samples >= 2 and self._usage.scatter <= 0.02**2

    @property
    def stray(self) -> float:
        """Share by which a call's charge strays from what was expected, in the end: usage may tell what it was."""
        if self.usage_tells:
            return 0.0
        return math.sqrt(max(self._ratios[self._rule].scatter, LEAST_STRAY**2))

    @property
    def certainty(self) -> float:
        """Root of the number of calls that the factor rests on: its own error is this much smaller than a call's."""
        return math.sqrt(max(self._ratios[self._rule].calls, 1.0))

    def _settle_factor(self) -> None:
        self._factor = min(max(self._ratios[self._rule].value, 1e-3), 1e3)
