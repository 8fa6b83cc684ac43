"""Spans that a program opens before its first OpenAI call, where it relies on the environment to set OpenTelemetry up.

``_setup`` sets the SDK up at the first OpenAI call, because a program may set a provider of its own until then. A span that is
opened earlier, around that call, goes through one of the API's proxies, which would drop it. Here such a proxy gets a provider
made from the environment in the meantime. It is nobody's global provider: one that the program sets has every span from then on,
and where it sets none the first OpenAI call makes this one the global one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace

from otel_ratelimit import _guard

_lock: Final = threading.RLock()
_provider: Any = None
_make: Callable[[], Any] | None = None
_original: property | None = None


def keep(make: Callable[[], Any]) -> None:
    """From now on, proxies do not drop spans. Harmless when repeated.

    Args:
        make: the provider that they go to, called at the first of them; None where it cannot be made.
    """
    global _make, _original
    found = trace.ProxyTracer.__dict__.get("_tracer")
    # Another API than the one this was written for (1.39 to 1.45) is left alone: spans are dropped there as ever.
    if _original is None and isinstance(found, property):
        _make, _original = make, found
        trace.ProxyTracer._tracer = property(_tracer)  # type: ignore[method-assign,assignment]


def forget() -> None:
    """The proxies are as they were."""
    global _make, _original, _provider  # noqa: PLW0603
    if _original is not None:
        trace.ProxyTracer._tracer = _original  # type: ignore[method-assign,assignment]
        _original = None
    _make = _provider = None


def adopt() -> bool:
    """Make the provider of the early spans the global one; False where there have been none."""
    if _provider is None:
        return False
    trace.set_tracer_provider(_provider)
    return True


def _tracer(proxy: Any) -> Any:
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        tracer = _early_tracer(proxy)
        if tracer is not None:
            return tracer
    assert _original is not None
    assert _original.fget is not None
    return _original.fget(proxy)


@_guard.contained("early span", lambda _proxy: None)
def _early_tracer(proxy: Any) -> Any:
    provider = _made()
    if provider is None:
        return None
    return provider.get_tracer(proxy._instrumenting_module_name, proxy._instrumenting_library_version)


def _made() -> Any:
    """The provider, made at the first such span; None while it is made, and where it cannot be."""
    global _make, _provider  # noqa: PLW0603
    with _lock:
        make, _make = _make, None  # once: what fails would fail at every span
        if make is not None:
            _provider = make()
        return _provider
