"""The composition root: the only place that builds the store, the telemetry and the runtime, and installs the hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped module
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_ratelimit import _early, _settings, _setup
from otel_ratelimit._core.policy import ConfigurationError, Policy, Priority, check_setting
from otel_ratelimit._core.store_url import MEMORY
from otel_ratelimit._drivers import loops
from otel_ratelimit._drivers.scope import block_policy, block_priority
from otel_ratelimit._telemetry.callbacks import Callbacks, OnThrottle, OnWait, block_callbacks
from otel_ratelimit._telemetry.callbacks import check as check_callback

if TYPE_CHECKING:
    from otel_ratelimit._drivers.hooks import Hooks
    from otel_ratelimit._drivers.runtime import Clock
    from otel_ratelimit._stores.memory import MemoryStore
    from otel_ratelimit._telemetry.instruments import Instruments, Level

_log: Final = logging.getLogger("otel_ratelimit")

INSTRUMENTS: Final = ("openai >= 1.99, < 4",)


class RateLimitInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the same
    """Installs and removes the hooks; what ``opentelemetry-instrument`` loads as ``openai_ratelimit``.

    A singleton, as ``BaseInstrumentor`` makes it (whose ``__init__`` runs again each time: no state is made there).
    """

    _hooks: Hooks | None = None
    _listener: ClassVar[Callable[[Instruments], None] | None] = None
    """Told the instruments of each installation: how ``otel-ratelimit run`` counts along."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """The distributions, with versions, that this instruments."""
        return INSTRUMENTS

    def _instrument(self, **kwargs: Any) -> None:
        # The SDK is imported only here: importing otel_ratelimit alone stays cheap.
        from otel_ratelimit._drivers.hooks import Hooks, UnsupportedSDKError  # noqa: PLC0415
        from otel_ratelimit._drivers.runtime import Clock, Runtime  # noqa: PLC0415
        from otel_ratelimit._telemetry.instruments import Instruments  # noqa: PLC0415

        tracer_provider: TracerProvider | None = kwargs.get("tracer_provider")
        meter_provider: MeterProvider | None = kwargs.get("meter_provider")
        policy: Policy | None = kwargs.get("policy")
        if policy is None:
            policy = _settings.lenient_policy_from_environment()
        clock: Clock = kwargs.get("clock") or Clock()

        if tracer_provider is None and meter_provider is None and policy.mode != "off":
            _setup.keep_early_spans()

        def on_first_call() -> None:
            if tracer_provider is None and meter_provider is None:
                _setup.set_up()

        if self._hooks is None:
            type(self)._hooks = Hooks()
        assert self._hooks is not None
        store = _open_store(policy, clock, lenient=kwargs.get("policy") is None)
        callbacks = Callbacks(kwargs.get("on_wait"), kwargs.get("on_throttle"))
        instruments = Instruments(tracer_provider, meter_provider, lambda: _levels(store), callbacks)
        listener = type(self)._listener
        if listener is not None:
            listener(instruments)
        store.count_failures(instruments.store_failed)
        try:
            self._hooks.install(Runtime(policy, store, instruments, clock, on_first_call))
        except UnsupportedSDKError as error:
            _log.warning("openai stays uninstrumented: %s", error)

    def _uninstrument(self, **_kwargs: Any) -> None:
        _early.forget()
        if self._hooks is not None:
            runtime = self._hooks.runtime
            self._hooks.remove()
            if runtime is not None:
                runtime.store.close()


def _levels(store: MemoryStore) -> Iterable[Level]:
    loops.settle_closed()  # else their calls would count as waiting in all metrics to come
    return store.levels()


def _open_store(policy: Policy, clock: Clock, *, lenient: bool) -> MemoryStore:
    """Where the policy says that shared state lives; nothing is connected to yet. Where nobody can catch an error
    (``lenient``) it is logged, and the memory of this process is used.
    """
    from otel_ratelimit._stores.memory import MemoryStore  # noqa: PLC0415

    if policy.store == MEMORY or policy.mode != "wait" or not policy.pacing:
        return MemoryStore()
    try:
        from otel_ratelimit._stores.redis import RedisStore, settings_of  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        message = "a store in Redis needs redis-py: pip install 'otel-ratelimit[redis]'"
        if not lenient:
            raise ConfigurationError(message) from None
        _log.error("%s; the memory of this process is used", message)
        return MemoryStore()
    from otel_ratelimit._telemetry.causes import decode_cause, encode_cause  # noqa: PLC0415

    return RedisStore(
        policy.store,
        random=clock.random,
        clock=clock.monotonic,
        settings=settings_of(policy),
        encode=encode_cause,
        decode=decode_cause,
    )


def instrument(
    *,
    policy: Policy | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    on_wait: OnWait | None = None,
    on_throttle: OnThrottle | None = None,
) -> None:
    """Patch the ``openai`` SDK: from now on throttled calls wait, and every wait is a span and a metric.

    Clients that exist already are covered too. A second call only logs a warning; call ``uninstrument`` first to change
    the settings.

    Args:
        policy: how calls wait; None takes it from ``OTEL_RATELIMIT_*`` (a value there that is not allowed is logged as
            an error, and its default is used).
        tracer_provider: where spans go; None for the global provider, also if it is set later.
        meter_provider: where metrics go; the same.
        on_wait: called with a :class:`WaitEvent` whenever a call begins to wait, and again when its turn moves, in that
            call's thread or task, before the wait: keep it short. What it raises is logged once, and the call goes on.
        on_throttle: called with a :class:`ThrottleEvent` for each throttled response; the same.

    Raises:
        TypeError: ``policy`` is no ``Policy``, or a callback no plain function.
    """
    if policy is not None and not isinstance(policy, Policy):
        raise TypeError(f"policy must be an otel_ratelimit.Policy or None; got {type(policy).__name__}")
    check_callback("on_wait", on_wait)
    check_callback("on_throttle", on_throttle)
    RateLimitInstrumentor().instrument(
        policy=policy,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        on_wait=on_wait,
        on_throttle=on_throttle,
    )


def uninstrument() -> None:
    """Undo ``instrument``: the SDK's own methods are restored where nobody else has wrapped them since; elsewhere our
    wrappers stay and pass every call through untouched.
    """
    RateLimitInstrumentor().uninstrument()


@contextmanager
def use(
    policy: Policy | None = None, *, on_wait: OnWait | None = None, on_throttle: OnThrottle | None = None
) -> Iterator[Policy]:
    """Use another policy for the calls made inside the block (in this thread or task, and in tasks started from it).

    Example::

        with otel_ratelimit.use(Policy(max_wait=5)):
            client.chat.completions.create(...)

    Args:
        policy: None for the one that holds outside of the block.
        on_wait: as in ``instrument``, in place of that one; None for the one that holds outside of the block.
        on_throttle: the same.

    Raises:
        TypeError: ``policy`` is no ``Policy``, or a callback no plain function.
    """
    if policy is None:
        runtime = RateLimitInstrumentor._hooks.runtime if RateLimitInstrumentor._hooks is not None else None
        policy = block_policy.get() or (runtime.policy if runtime is not None else Policy())
    elif not isinstance(policy, Policy):
        raise TypeError(f"policy must be an otel_ratelimit.Policy or None; got {type(policy).__name__}")
    check_callback("on_wait", on_wait)
    check_callback("on_throttle", on_throttle)
    _warn_if_uninstrumented("use")
    token = block_policy.set(policy)
    told = block_callbacks.set(Callbacks(on_wait, on_throttle).over(block_callbacks.get()))
    try:
        yield policy
    finally:
        block_callbacks.reset(told)
        block_policy.reset(token)


@contextmanager
def priority(level: Priority) -> Iterator[None]:
    """Whose turn comes first among the calls that wait for one limit, for the calls made inside the block.

    While several priorities have calls waiting, each gets a share: ``"interactive"`` 64, ``"normal"`` 8, ``"batch"`` 1, so that
    a batch never starves entirely. Inside a priority it is first come, first served. Goes before ``Policy.priority``.

    Example::

        with otel_ratelimit.priority("batch"):
            client.embeddings.create(...)

    Raises:
        ConfigurationError: ``level`` is none of the three.
    """
    check_setting("priority", level, label="priority")
    _warn_if_uninstrumented("priority")
    token = block_priority.set(level)
    try:
        yield
    finally:
        block_priority.reset(token)


def _warn_if_uninstrumented(name: str) -> None:
    """Once in a process: a block has no effect where nothing is instrumented, the import perhaps deleted by a linter."""
    if _warned or RateLimitInstrumentor().is_instrumented_by_opentelemetry:
        return
    _warned.append(name)
    _log.warning(
        "otel_ratelimit.%s has no effect: openai is not instrumented in this process. Call otel_ratelimit.instrument(), or"
        " import otel_ratelimit.auto  # noqa: F401",
        name,
    )


_warned: Final[list[str]] = []
