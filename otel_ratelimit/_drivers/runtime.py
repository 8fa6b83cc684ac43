"""What the hooks work with while they are installed; built by the composition root (``_instrumentor``)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from otel_ratelimit._core.policy import Policy
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.scope import block_policy
from otel_ratelimit._stores.memory import MemoryStore, Place
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Instruments, Subject, SubjectAttributes

_MAX_SEEN: Final = 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and randomness, handed in so that tests and the virtual-clock benchmarks can move them."""

    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.SystemRandom().random  # forked workers must not all jitter alike


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
        self._on_first_call: Callable[[], None] | None = on_first_call
        self._first_call_lock = threading.Lock()
        self._seen: dict[Any, tuple[object, SubjectAttributes]] = {}
        self._subjects: dict[Subject, SubjectAttributes] = {}
        self._models: set[str] = set()

    def current_policy(self) -> Policy:
        return block_policy.get() or self.policy

    def first_call(self) -> None:
        """Run what was put off until the first call; every other call waits for it, none runs it again."""
        if self._on_first_call is None:
            return
        with self._first_call_lock:
            action, self._on_first_call = self._on_first_call, None
            if action is not None:
                action()

    def subject(self, client: Any, options: Any) -> SubjectAttributes:
        """The attribute sets of what this request is about, made at first sight and reused."""
        body = options.json_data
        model = body.get("model") if type(body) is dict else None
        # By the URL object's identity, which is cheap (its hash is not), and kept alive beside its entry.
        base_url = client._base_url
        key = (id(base_url), options.url, model if isinstance(model, str) else None)
        known = self._seen.get(key)
        if known is not None and known[0] is base_url:
            return known[1]
        subject = self._bounded(openai_sdk.subject_of(client, options))
        attributes = self._subjects.get(subject)
        if attributes is None:
            attributes = self._subjects.setdefault(subject, SubjectAttributes(subject))
            self.instruments.seed(attributes)
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen[key] = (base_url, attributes)
        return attributes

    def place(self, client: Any, options: Any, subject: SubjectAttributes, *, paced: bool) -> Place:
        """A place in the queue of the account that this request counts against."""
        return self.store.place(openai_sdk.account_of(client, options), subject, paced=paced)

    def _bounded(self, subject: Subject) -> Subject:
        """The model becomes ``other`` once too many have been seen: label values come from user input."""
        if subject.model is None or subject.model in self._models:
            return subject
        if len(self._models) >= names.MAX_MODELS:
            return replace(subject, model=names.OTHER)
        self._models.add(subject.model)
        return subject
