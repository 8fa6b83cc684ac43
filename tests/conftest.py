"""What every test has: a clean environment, faults of ours raised instead of contained, no hooks left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import otel_ratelimit
from otel_ratelimit import _guard

# The same examples at each run of CI, so that a change is judged by itself; elsewhere new ones are searched for.
# No example has a deadline: how long one takes is the machine's affair.
hypothesis.settings.register_profile("everywhere", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "everywhere")

# A shell starts its background jobs deaf to Ctrl-C, and the programs that the tests start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each client of the SDK reads the system's certificates anew, 30 ms of a test that speaks plain HTTP. One will do. (What
# tests make of their own is named to their clients.)
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "data" / "certificate.pem")

# Hundreds of tests start a Python of their own: each would compile the whole SDK again, two seconds long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

collect_ignore = ["benchmarks"]  # measured on demand, not asserted: times on shared machines are noise


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "OPENAI_", "AZURE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def loud_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "raise_faults", True)


@pytest.fixture(autouse=True)
def no_hooks_left() -> Iterator[None]:
    yield
    if otel_ratelimit.RateLimitInstrumentor().is_instrumented_by_opentelemetry:
        otel_ratelimit.uninstrument()
