"""What a program calls the keys and projects of its clients: the one label of ours that it chooses.

Kept by what tells accounts apart, so that a client's copies and another client with the same key have the same name. No key is
shown, and a name that could be one is refused.
"""

from __future__ import annotations

import re
from typing import Any, Final

from otel_ratelimit._core.policy import ConfigurationError
from otel_ratelimit._drivers.identity import Payer, payer_of

MAX_ALIASES: Final = 100
"""Each makes series of its own; a program that names its users this way would make them without end."""

_ALLOWED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,39}\Z")
_LIKE_A_KEY: Final = re.compile(r"(?:sk|gsk|xai|org|proj|hf)[-_]", re.IGNORECASE)

_names: Final[list[tuple[Payer, str]]] = []


def alias(client: Any, name: str) -> None:
    """Give the key or project of a client a name, which telemetry then carries as ``otel_ratelimit.alias``.

    Call it before the client's first call: what was seen by then keeps its labels. It holds for every client that uses the same
    key, organisation and project. A second name replaces the first.

    Example::

        otel_ratelimit.alias(client, "batch project")

    Args:
        client: an ``OpenAI`` or ``AsyncOpenAI``, or one of their kind.
        name: 1 to 40 characters: letters, digits, space, ``.``, ``_``, ``/``, ``-``.

    Raises:
        ConfigurationError: the name is not allowed (or looks like a key), or there are 100 already.
    """
    if not isinstance(name, str) or not _ALLOWED.match(name) or _LIKE_A_KEY.match(name):
        raise ConfigurationError(
            "an alias has 1 to 40 characters (letters, digits, space, '.', '_', '/', '-') and does not begin as a key does"
        )
    payer = payer_of(client)
    others = [(known, its_name) for known, its_name in _names if known != payer]
    if len(others) >= MAX_ALIASES:
        raise ConfigurationError(f"there are {MAX_ALIASES} aliases already")
    _names[:] = [*others, (payer, name)]


def alias_of(client: Any) -> str | None:
    """The name that was given; None for none."""
    if not _names:
        return None
    payer = payer_of(client)
    return next((name for known, name in _names if known == payer), None)
