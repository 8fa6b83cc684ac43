"""The wrappers on the SDK's seams, their installation and removal.

Each wrapper belongs to one ``Hooks`` object, and goes passive with it: the SDK, or a wrapper above ours, may have kept a
reference that outlives the removal.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from otel_ratelimit import _guard
from otel_ratelimit._drivers import aio, openai_sdk, sync
from otel_ratelimit._drivers.runtime import Runtime
from otel_ratelimit._drivers.scope import block_policy
from otel_ratelimit._drivers.session import Session, current

Function = Any
Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]


class UnsupportedSDKError(RuntimeError):
    """The installed SDK lacks a seam that the hooks need."""


class Hooks:
    """The wrappers on the SDK, and the runtime that they serve; ``None`` makes all of them pass through."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self._installed: list[tuple[type, str, Any, Any]] = []

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
        standing = {(owner, name) for owner, name, *_ in self._installed}
        for owner, name in openai_sdk.SEAMS:
            if (owner, name) in standing:
                continue
            original = owner.__dict__[name]
            wrapper = self._wrapper_for(owner, name)
            setattr(owner, name, wrapper)
            self._installed.append((owner, name, wrapper, original))

    def remove(self) -> None:
        """Restore what is still ours to restore; the rest goes passive."""
        self.runtime = None
        kept = []
        for owner, name, wrapper, original in self._installed:
            if owner.__dict__.get(name) is wrapper:
                setattr(owner, name, original)
            else:
                kept.append((owner, name, wrapper, original))
        self._installed = kept

    def outermost(self) -> bool:
        """Whether every wrapper of ours is in place with nobody else's above it."""
        return len(self._installed) == len(openai_sdk.SEAMS) and all(
            owner.__dict__.get(name) is wrapper for owner, name, wrapper, _ in self._installed
        )

    def _wrapper_for(self, owner: type, name: str) -> Function:
        """A plain function around the one that stands there, which stays bound as it was: it may be somebody else's
        wrapper, that has to be told its instance."""
        original = owner.__dict__[name]
        asynchronous = inspect.iscoroutinefunction(original)
        factory = {
            "request": self._request_async if asynchronous else self._request,
            "_process_response": self._process_response,
            "_sleep_for_retry": self._sleep_for_retry_async if asynchronous else self._sleep_for_retry,
            "_should_retry": self._should_retry,
            "_build_request": self._build_request,
        }[name]
        return functools.wraps(original)(factory(original))

    # --- the wrappers: each a factory, given the function that stood there ------------------------------------------

    def _request(self, original: Function) -> Function:
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            session = self._open(client, args, kwargs)
            wrapped = original.__get__(client)
            return wrapped(*args, **kwargs) if session is None else sync.request(session, wrapped, args, kwargs)

        return request

    def _request_async(self, original: Function) -> Function:
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            session = self._open(client, args, kwargs)
            wrapped = original.__get__(client)
            if session is None:
                return await wrapped(*args, **kwargs)
            return await aio.request(session, wrapped, args, kwargs)

        return request

    @_guard.contained("open", lambda _self, _client, _args, _kwargs: None)
    def _open(self, client: Any, args: Arguments, kwargs: Keywords) -> Session | None:
        """A session for this call, or None where it is to pass untouched."""
        runtime = self.runtime
        if runtime is None:
            return None
        policy = block_policy.get() or runtime.policy
        if policy.mode == "off":
            return None
        if runtime.on_first_call is not None:
            runtime.first_call()
        options = args[1] if len(args) > 1 else kwargs["options"]
        return Session(runtime, policy, client, options)

    def _build_request(self, original: Function) -> Function:
        def _build_request(client: Any, *args: Any, **kwargs: Any) -> Any:
            session = current.get()
            if session is not None and session.client is client:
                options = args[0] if args else kwargs["options"]
                kwargs["retries_taken"] = session.attempt_began(kwargs.get("retries_taken", 0), options)
            return original.__get__(client)(*args, **kwargs)

        return _build_request

    def _process_response(self, original: Function) -> Function:
        def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            session = current.get()
            if session is not None and session.client is client:
                kwargs["retries_taken"] = session.answered(kwargs["response"], kwargs.get("retries_taken", 0))
            return original.__get__(client)(*args, **kwargs)

        return _process_response

    def _should_retry(self, original: Function) -> Function:
        def _should_retry(client: Any, *args: Any, **kwargs: Any) -> Any:
            session = current.get()
            if session is None or session.client is not client:
                return original.__get__(client)(*args, **kwargs)
            response = args[0] if args else kwargs["response"]
            return False if session.takes_over(response) else original.__get__(client)(*args, **kwargs)

        return _should_retry

    def _sleep_for_retry(self, original: Function) -> Function:
        def _sleep_for_retry(client: Any, *args: Any, **kwargs: Any) -> Any:
            wrapped = original.__get__(client)
            session = current.get()
            if session is None or session.client is not client:
                return wrapped(*args, **kwargs)
            session.backoff_began(kwargs.get("response"))
            result = wrapped(*args, **kwargs)
            session.backoff_ended()
            return result

        return _sleep_for_retry

    def _sleep_for_retry_async(self, original: Function) -> Function:
        async def _sleep_for_retry(client: Any, *args: Any, **kwargs: Any) -> Any:
            wrapped = original.__get__(client)
            session = current.get()
            if session is None or session.client is not client:
                return await wrapped(*args, **kwargs)
            session.backoff_began(kwargs.get("response"))
            result = await wrapped(*args, **kwargs)
            session.backoff_ended()
            return result

        return _sleep_for_retry
