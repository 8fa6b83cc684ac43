"""What traffic.py and those who look at its traces agree upon. (Importing traffic.py itself would instrument the importer.)"""

from __future__ import annotations

from dataclasses import dataclass

SECRET = "sk-proj-" + "Zx9" * 8
"""A key that nobody has, put where keys must not be."""

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "o4-mini")


@dataclass(frozen=True)
class Counted:
    """The server's own count, and what the caller saw."""

    requests: int
    throttled: int
    resent: int
    calls: int
    failed: int
    throttled_by_model: dict[str, int]
