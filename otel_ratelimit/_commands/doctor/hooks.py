"""Whether the hooks are in place, which other instrumentations there are, and how they nest.

For real: in this process, which ends soon, everything is instrumented as ``opentelemetry-instrument`` would, and then the
wrappers are read off the SDK's own methods.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from importlib import import_module, metadata
from typing import Any, Final

from otel_ratelimit import _instrumentor
from otel_ratelimit._commands.doctor.check import Check, fault

AREA: Final = "hooks"

_OURS: Final = "openai_ratelimit"
_CONCERNED: Final = ("openai", "httpx")
"""Instrumentations whose name or module has one of these touch the way of a call."""

_PLACES: Final = (
    ("openai.resources.chat.completions", "Completions", "create"),
    ("openai", "OpenAI", "request"),
    ("openai._base_client", "SyncAPIClient", "request"),
)
"""The way of a call, from the outside in; behind them comes the HTTP client's transport."""


def check() -> Iterator[Check]:
    """Neighbours first, since whoever comes last is outermost, as it is with ``opentelemetry-instrument``."""
    try:
        import_module("openai")
    except Exception as error:
        yield Check(AREA, "failure", f"openai cannot be imported: {fault(error)}")
        return
    yield from _neighbours()
    instrumentor = _instrumentor.RateLimitInstrumentor()
    was_there = instrumentor.is_instrumented_by_opentelemetry
    if not was_there:
        instrumentor.instrument()
    try:
        hooks = instrumentor._hooks
        if hooks is None or hooks.runtime is None:
            yield Check(AREA, "failure", "the hooks could not be installed", "see the versions above")
        elif hooks.outermost():
            yield Check(AREA, "ok", "the hooks are in place, and outermost where they sit")
        else:
            yield Check(
                AREA,
                "warning",
                "somebody else wraps the SDK's transport above our hooks",
                "import otel_ratelimit.auto last",
            )
        yield Check(AREA, "note", "a call goes through: " + " > ".join(_way()))
    finally:
        if not was_there:
            instrumentor.uninstrument()


def _neighbours() -> Iterator[Check]:
    disabled = [name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")]
    for entry in metadata.entry_points(group="opentelemetry_instrumentor"):
        concerned = any(word in f"{entry.name} {entry.value}" for word in _CONCERNED)
        if entry.name == _OURS or not concerned:
            continue
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        if entry.name in disabled or "*" in disabled:
            yield Check(
                AREA, "note", f"{entry.name} ({distribution}) is disabled by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
            )
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own modules: nothing that concerns this environment
                neighbour = entry.load()()
                neighbour.instrument()
        except Exception as error:
            yield Check(
                AREA,
                "warning",
                f"{entry.name} ({distribution}) does not load: {type(error).__name__}",
                "it cannot work with the installed versions; otel_ratelimit does not need it",
            )
            continue
        if neighbour.is_instrumented_by_opentelemetry:
            yield Check(AREA, "ok", f"{entry.name} ({distribution}) is here too")
        else:
            yield Check(AREA, "note", f"{entry.name} ({distribution}) has nothing here to instrument")


def _way() -> Iterator[str]:
    """Whose wrappers a call meets, outermost first."""
    replaced = "request" in vars(import_module("openai").OpenAI)  # by a neighbour, instead of the inherited one
    for module, owner, name in (*_PLACES, (_http_library(), "HTTPTransport", "handle_request")):
        try:
            method = vars(getattr(import_module(module), owner)).get(name)
        except (ImportError, AttributeError):
            continue
        if replaced and owner == "SyncAPIClient":
            continue
        for wrapper in _wrappers(method):
            yield f"{wrapper} ({owner}.{name})"


def _http_library() -> str:
    """The one that this SDK sends with: httpx2 since openai 3, httpx before. Both may be installed."""
    bases = import_module("openai").DefaultHttpxClient.__mro__
    return next(str(name) for base in bases if (name := base.__module__.partition(".")[0]).startswith("httpx"))


def _wrappers(method: Any) -> Iterator[str]:
    while hasattr(method, "__wrapped__"):
        wrapper = getattr(method, "_self_wrapper", None)
        wrapper = getattr(wrapper, "func", wrapper)  # a functools.partial
        module = getattr(wrapper, "__module__", None)
        if wrapper is not None and module:
            yield module.partition("._drivers")[0]
        method = method.__wrapped__
