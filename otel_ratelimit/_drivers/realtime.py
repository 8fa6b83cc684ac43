"""WebSockets of the Realtime API: they do not pass through ``request``, and nothing of theirs is retried or held.

What the server says of the limits on them is learned, though: each ``rate_limits.updated`` feeds the buckets and gauges of
its model, as the headers of an answer do. The SDK's modules are patched when the program imports them, not before; one
that lacks a seam is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, Final
from weakref import WeakKeyDictionary

import wrapt

from otel_ratelimit import _guard
from otel_ratelimit._core.cost import NOTHING_KNOWN
from otel_ratelimit._core.parsing.updates import TYPE, read_update
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.runtime import Runtime
from otel_ratelimit._drivers.scope import block_policy

Wrapped = Callable[..., Any]

_ENTRANCES: Final = {False: ("__enter__", "enter"), True: ("__aenter__", "enter")}


class RealtimeHooks:
    """The wrappers on the SDK's realtime connections; passive where ``runtime`` gives None."""

    def __init__(self, runtime: Callable[[], Runtime | None]) -> None:
        self._runtime = runtime
        self._registered = False
        self._clients: WeakKeyDictionary[Any, tuple[Any, str | None]] = WeakKeyDictionary()

    def install(self) -> None:
        """Patch the SDK's modules, now or as soon as they are imported; once for each process."""
        if self._registered:
            return
        self._registered = True
        for name in openai_sdk.REALTIME_MODULES:
            wrapt.register_post_import_hook(self._patch, name)

    @_guard.contained("realtime", lambda _self, _module: None)
    def _patch(self, module: ModuleType) -> None:
        for prefix, asynchronous in (("", False), ("Async", True)):
            connection = getattr(module, f"{prefix}RealtimeConnection", None)
            manager = getattr(module, f"{prefix}RealtimeConnectionManager", None)
            if not hasattr(connection, "parse_event") or manager is None:
                continue
            wrapt.wrap_function_wrapper(connection, "parse_event", self._parse_event)
            for name in _ENTRANCES[asynchronous]:
                if hasattr(manager, name):
                    wrapt.wrap_function_wrapper(manager, name, self._enter_async if asynchronous else self._enter)

    def _enter(self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        connection = wrapped(*args, **kwargs)
        self._remember(connection, instance)
        return connection

    async def _enter_async(
        self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        connection = await wrapped(*args, **kwargs)
        self._remember(connection, instance)
        return connection

    @_guard.contained("realtime", lambda _self, _connection, _manager: None)
    def _remember(self, connection: Any, manager: Any) -> None:
        client = openai_sdk.private(manager, "client")
        if client is not None:
            model = openai_sdk.private(manager, "model")
            self._clients[connection] = client, model if isinstance(model, str) else None

    def _parse_event(self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        event = wrapped(*args, **kwargs)
        if getattr(event, "type", None) == TYPE:
            self._learn(instance, event)
        return event

    @_guard.contained("realtime", lambda _self, _connection, _event: None)
    def _learn(self, connection: Any, event: object) -> None:
        runtime = self._runtime()
        known = self._clients.get(connection)
        if runtime is None or known is None or (block_policy.get() or runtime.policy).mode == "off":
            return
        client, model = known
        subject = runtime.known(
            client, SimpleNamespace(url="/realtime", json_data={"model": model}, headers=None, params=None)
        )
        place = runtime.store.place(subject.line, paced=False)
        now = runtime.clock.monotonic()
        place.reserve(NOTHING_KNOWN, "normal", None, now)
        place.settle(now, readings=read_update(event), succeeded=True)
        place.leave(now)
