"""What the hooks work with while they are installed; built by the composition root (``_instrumentor``)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from otel_ratelimit._core.policy import Policy
from otel_ratelimit._drivers import identity, openai_sdk
from otel_ratelimit._drivers.aliases import alias_of
from otel_ratelimit._drivers.openai_sdk import NO_HEADERS
from otel_ratelimit._stores.memory import Line, MemoryStore
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Instruments, Subject, SubjectAttributes

_MAX_SEEN: Final = 1000


class Clock(NamedTuple):
    """Time and randomness, handed in so that tests and the virtual-clock benchmarks can move them."""

    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.SystemRandom().random  # forked workers must not all jitter alike


class Known:
    """What is worked out once for all requests of one client, path and model. Has no ``repr`` of its parts: ``payer`` is
    the client's own credential, kept beside the client's own reference to it, to notice when that changes.
    """

    __slots__ = ("api_key", "base_url", "headers", "line", "organization", "payer", "project", "query", "subject")

    def __init__(self, client: Any, subject: SubjectAttributes, line: Line) -> None:
        self.base_url = client._base_url
        self.payer = identity.payer_of(client)
        self.subject = subject
        self.line = line
        self.see(client)

    def see(self, client: Any) -> None:
        """What shows at a glance that the payer is still the same.

        Default headers and query by the mappings that hold them: the SDK makes new ones for each client.
        """
        self.headers = getattr(client, "_custom_headers", None)
        self.query = getattr(client, "_custom_query", None)
        self.api_key = getattr(client, "api_key", None)
        self.organization = getattr(client, "organization", None)
        self.project = getattr(client, "project", None)


class Runtime:
    """One installation: its settings, where state lives, where telemetry goes."""

    def __init__(
        self,
        policy: Policy,
        store: MemoryStore,
        instruments: Instruments,
        clock: Clock,
        on_first_call: Callable[[], None],
    ) -> None:
        self.policy = policy
        self.store = store
        self.instruments = instruments
        self.clock = clock
        self.on_first_call: Callable[[], None] | None = on_first_call
        self._setting_up = setting_up = threading.RLock()
        self.setting_up: Callable[[], bool] = setting_up._is_owned  # type: ignore[attr-defined]
        """Whether this thread is setting something up. (The lock's own function: each call asks.)"""
        self._seen: dict[tuple[object, ...], Known] = {}
        self._subjects: dict[Subject, SubjectAttributes] = {}
        self._models: set[str] = set()
        self._operations: set[str] = set()
        self._servers: set[str] = set()

    def first_call(self) -> None:
        """Run what was put off until the first call; every other call waits for it, none runs it again."""
        # What reads answers has many patterns: too slow for the import of a program, and for the middle of a throttle.
        from otel_ratelimit._core.parsing import events, limits, response  # noqa: F401, PLC0415

        with self._setting_up:
            action, self.on_first_call = self.on_first_call, None
            if action is not None:
                action()

    def known(self, client: Any, options: Any) -> Known:
        """What this request is about, and whose limit it counts against; worked out at first sight and reused."""
        body = options.json_data
        model = body.get("model") if type(body) is dict or isinstance(body, Mapping) else None
        if type(model) is not str and not isinstance(model, str):
            model = None
        # By the URL object's identity, which is cheap (its hash is not), and kept alive beside its entry.
        base_url = client._base_url
        key: tuple[object, ...] = (id(base_url), options.url, model)
        if type(options.headers) is not NO_HEADERS or options.params:
            key += (hash(identity.credentials_in(options)),)
        known = self._seen.get(key)
        if known is not None and known.base_url is base_url and not known.line.dropped:
            # At a glance: while these are the same, so is the payer. (A token that is fetched anew is another one.)
            try:
                if (
                    known.api_key is client.api_key
                    and known.organization is client.organization
                    and known.project is client.project
                    and known.headers is client._custom_headers
                    and known.query is client._custom_query
                ):
                    return known
            except AttributeError:  # a client of another kind
                pass
            if known.payer == identity.payer_of(client):
                known.see(client)
                return known
        subject = self._subject(client, options)
        account = identity.account_of(client, model, self.store, identity.credentials_in(options))
        known = Known(client, subject, self.store.line(account, subject))
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen[key] = known
        return known

    def _subject(self, client: Any, options: Any) -> SubjectAttributes:
        subject = self._bounded(openai_sdk.subject_of(client, options))._replace(alias=alias_of(client))
        attributes = self._subjects.get(subject)
        if attributes is None:
            if len(self._subjects) >= names.MAX_SUBJECTS:
                # Every part was seen before, but never together: from here on only what cannot be made up is told.
                model = None if subject.model is None else names.OTHER
                subject = subject._replace(operation=names.OTHER, model=model, address=names.OTHER, port=None)
                if (attributes := self._subjects.get(subject)) is not None:
                    return attributes
            attributes = self._subjects.setdefault(subject, SubjectAttributes(subject))
            with self._setting_up:
                self.instruments.seed(attributes)
        return attributes

    def _bounded(self, subject: Subject) -> Subject:
        """What a program or its users can make up becomes ``other`` once too many were seen: each makes series."""
        model = None if subject.model is None else self._capped(subject.model, self._models, names.MAX_MODELS)
        operation = self._capped(subject.operation, self._operations, names.MAX_OPERATIONS)
        address = self._capped(f"{subject.address}:{subject.port}", self._servers, names.MAX_SERVERS)
        if address == names.OTHER:
            subject = subject._replace(address=names.OTHER, port=None)
        return subject._replace(model=model, operation=operation)

    @staticmethod
    def _capped(name: str, seen: set[str], most: int) -> str:
        if name not in seen:
            if len(seen) >= most:
                return names.OTHER
            seen.add(name)
        return name
