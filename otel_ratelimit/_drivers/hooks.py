"""The wrapt wrappers on the SDK's seams, their installation and removal.

Each wrapper belongs to one ``Hooks`` object, and goes passive with it: the SDK, or a wrapper above ours, may have kept a
reference that outlives the removal.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import wrapt

from otel_ratelimit import _guard
from otel_ratelimit._drivers import aio, openai_sdk, streams, sync
from otel_ratelimit._drivers.chains import Place, family, join, unbound
from otel_ratelimit._drivers.observed import ObservedSession, ObservedStreamSession
from otel_ratelimit._drivers.prelude import Opening
from otel_ratelimit._drivers.realtime import RealtimeHooks
from otel_ratelimit._drivers.runtime import Runtime
from otel_ratelimit._drivers.scope import block_policy, current
from otel_ratelimit._drivers.session import Session

_log: Final = logging.getLogger("otel_ratelimit")

Wrapped = Callable[..., Any]
Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]


_SESSIONS: Final[Mapping[str, tuple[type[Session], type[streams.StreamSession]]]] = {
    "wait": (Session, streams.StreamSession),
    "observe": (ObservedSession, ObservedStreamSession),
}
"""For each ``Policy.mode`` but ``off``: what carries a call, and one that opens a stream."""


class UnsupportedSDKError(RuntimeError):
    """The installed SDK lacks a seam that the hooks need."""


class Hooks:
    """The wrappers on the SDK, and the runtime that they serve; ``None`` makes all of them pass through."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self._installed: list[Place] = []
        self._joined: list[Place] = []
        self._warned: set[str] = set()
        self._realtime = RealtimeHooks(lambda: self.runtime)

    def install(self, runtime: Runtime) -> None:
        """Wrap every seam.

        A wrapper of an earlier installation that is still in place (because somebody wrapped above it, so that it could
        not be removed) is put to work again instead of adding a second layer.

        Raises:
            UnsupportedSDKError: a seam is missing; nothing has been changed then.
        """
        missing = [f"{owner.__name__}.{name}" for owner, name in openai_sdk.SEAMS if not hasattr(owner, name)]
        if missing:
            raise UnsupportedSDKError(f"this openai version has no {', '.join(missing)}")
        self.runtime = runtime
        self._installed = [place for place in self._installed if place.is_met()]
        standing = {(place.holder, place.name) for place in self._installed}
        for owner, name in openai_sdk.SEAMS:
            if (owner, name) in standing:
                continue
            original = owner.__dict__[name]
            wrapper = wrapt.FunctionWrapper(original, self._wrapper_for(owner, name))
            setattr(owner, name, wrapper)
            self._installed.append(Place(owner, name, wrapper, original))
        for owner in openai_sdk.CLIENTS:
            for heir in family(owner):
                self._join(owner, heir)
        self._realtime.install()

    def remove(self) -> None:
        """Restore what is still ours to restore; the rest goes passive."""
        self.runtime = None
        kept = [place for place in self._installed if not place.stands()]
        for place in (*self._joined, *self._installed):
            place.restore()
        self._installed, self._joined = kept, []
        for owner in openai_sdk.CLIENTS:
            for heir in family(owner):
                left = unbound(heir.__dict__.get("request"))  # by a neighbour that saved ours, and put it back
                if self._is_ours(left):
                    heir.request = left.__wrapped__  # type: ignore[attr-defined]

    def outermost(self) -> bool:
        """Whether every wrapper of ours is in place with nobody else's above it."""
        return len(self._installed) == len(openai_sdk.SEAMS) and all(place.stands() for place in self._installed)

    # --- neighbours that wrap or restore request on a subclass --------------------------------------------------------------

    def _is_ours(self, link: Any) -> bool:
        return getattr(getattr(link, "_self_wrapper", None), "__self__", None) is self

    def _join(self, owner: type, heir: type) -> None:
        """Stand in the way of the heir's own ``request`` too, if it has one that leads past us."""
        base = inspect.unwrap(owner.__dict__["request"])
        wrapper = self._wrapper_for(owner, "request")
        place = join(heir, "request", base, self._is_ours, lambda link: wrapt.FunctionWrapper(link, wrapper))
        if place is not None:
            self._joined.append(place)
            if place.holder is heir and place.original is not base:
                self._warn_of_closure(heir, place.original)

    def _warn_of_closure(self, heir: type, method: Any) -> None:
        """What keeps the method that it wraps to itself can only be wrapped from outside; Logfire's instrumentation does."""
        package = getattr(method, "__globals__", {}).get("__name__", "another library").partition(".")[0]
        if package not in self._warned:
            self._warned.add(package)
            _log.warning(
                "%s wraps %s.request, and sees each attempt as a call; instrument otel_ratelimit before it, and it sees one",
                package,
                heir.__name__,
            )

    @_guard.contained("join", lambda _self, _client: None)
    def _passed_by(self, client: Any) -> None:
        """An answer came in no call of ours: if somebody took us out of the way, be back in it from the next call on."""
        if self.runtime is None or self.runtime.policy.mode == "off":
            return
        heir = next(heir for heir in type(client).__mro__ if "request" in heir.__dict__)
        for owner in openai_sdk.CLIENTS:
            if issubclass(heir, owner):
                self._join(owner, heir)

    def _wrapper_for(self, owner: type, name: str) -> Callable[..., Any]:
        function = owner.__dict__[name]
        asynchronous = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        return {
            "request": self._request_async if asynchronous else self._request,
            "_process_response": self._process_response,
            "_sleep_for_retry": self._sleep_for_retry_async if asynchronous else self._sleep_for_retry,
            "_should_retry": self._should_retry,
            "__stream__": self._stream_async if asynchronous else self._stream,
        }[name]

    # --- request: where a call begins and ends ----------------------------------------------------------------------

    def _request(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: Keywords) -> Any:
        session = self._open(wrapped, instance, args, kwargs)
        return wrapped(*args, **kwargs) if session is None else sync.request(session, wrapped, args, kwargs)

    async def _request_async(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: Keywords) -> Any:
        # Opened once it is awaited: a coroutine that nobody awaits must not hold a place.
        session = self._open(wrapped, instance, args, kwargs)
        return await (wrapped(*args, **kwargs) if session is None else aio.request(session, wrapped, args, kwargs))

    @_guard.contained("open", lambda _self, _wrapped, _client, _args, _kwargs: None)
    def _open(self, wrapped: Wrapped, client: Any, args: Arguments, kwargs: Keywords) -> Session | None:
        """A session for this call, or None where it is to pass untouched."""
        runtime = self.runtime
        if runtime is None:
            return None
        policy = block_policy.get() or runtime.policy
        sessions = _SESSIONS.get(policy.mode)
        # What is switched off for the program stays so in every block: whoever runs it must be able to.
        if sessions is None or runtime.policy.mode == "off":
            return None
        # Code of ours may have been at work in this thread when what runs now (a signal handler, a finaliser) began: a lock may
        # be held then, ours or one of OpenTelemetry's, and a state be half changed. So a call that is made now passes through.
        outer = current.get()
        if (outer is not None and outer.ours) or runtime.store.owned() or runtime.setting_up():
            return None
        if runtime.on_first_call is not None:
            runtime.first_call()
        options = args[1] if len(args) > 1 else kwargs["options"]
        if kwargs.get("stream") and openai_sdk.may_be_opened_again(options):
            return sessions[1](runtime, policy, client, options, (wrapped, args, kwargs))
        return sessions[0](runtime, policy, client, options)

    # --- streams, which are read after a call's end ----------------------------------------------------------------------

    def _stream(self, wrapped: Wrapped, instance: Any, _args: Arguments, _kwargs: Keywords) -> Any:
        opening = self._opening(instance, wrapped)
        return wrapped() if opening is None else streams.read(opening)

    def _stream_async(self, wrapped: Wrapped, instance: Any, _args: Arguments, _kwargs: Keywords) -> Any:
        opening = self._opening(instance, wrapped)
        return wrapped() if opening is None else streams.read_async(opening)

    @_guard.contained("open", lambda _self, _stream, _wrapped: None)
    def _opening(self, stream: Any, wrapped: Wrapped) -> Opening | None:
        """What watches over this stream; None for one of no call of ours, and for the answer to another attempt of one."""
        session = openai_sdk.attached(stream) if self.runtime is not None else None
        if session is None or session.claimed:
            return None
        session.claimed = True
        return Opening(session, stream, wrapped)

    # --- the SDK's own loop, which runs inside of request --------------------------------------------------------------

    def _process_response(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        session = current.get()
        if session is not None and session.client is instance:
            if session.listens:
                session.answered(kwargs)
            else:  # a step into another function would cost more than all that there is to do
                session.response = kwargs.get("response")
        else:
            self._passed_by(instance)
        return wrapped(*args, **kwargs)

    def _should_retry(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: Keywords) -> Any:
        session = current.get()
        if session is None or session.client is not instance:
            self._passed_by(instance)
            return wrapped(*args, **kwargs)
        response = args[0] if args else kwargs["response"]
        return False if session.takes_over(response) else wrapped(*args, **kwargs)

    def _sleep_for_retry(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: Keywords) -> Any:
        session = current.get()
        if session is None or session.client is not instance:
            return wrapped(*args, **kwargs)
        session.backoff_began(kwargs.get("response"))
        result = wrapped(*args, **kwargs)
        session.backoff_ended(kwargs.get("options"))
        return result

    async def _sleep_for_retry_async(self, wrapped: Wrapped, instance: Any, args: Arguments, kwargs: Keywords) -> Any:
        session = current.get()
        if session is None or session.client is not instance:
            return await wrapped(*args, **kwargs)
        session.backoff_began(kwargs.get("response"))
        result = await wrapped(*args, **kwargs)
        session.backoff_ended(kwargs.get("options"))
        return result
