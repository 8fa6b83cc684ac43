"""All checks, in the order in which a reader needs them; a check that itself fails is one more finding."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_ratelimit._commands.doctor import environment, exporter, hooks, program, pytest_settings, store, versions
from otel_ratelimit._commands.doctor.check import Check, fault


def checkup(path: Path | None = None) -> list[Check]:
    """Every finding; with ``path``, a program's file or folder, whether that instruments."""
    found: list[Check] = []
    areas: list[tuple[str, Callable[[], Iterable[Check]]]] = [
        ("versions", versions.check),
        ("environment", lambda: environment.check(os.environ)),
        ("hooks", hooks.check),
        ("export", lambda: exporter.check(os.environ)),
        ("store", lambda: store.check(os.environ)),
        ("tests", lambda: pytest_settings.check(os.environ, Path.cwd())),
    ]
    if path is not None:
        areas.insert(0, (program.AREA, lambda: program.check(path)))
    with _quiet():
        for area, check in areas:
            try:
                found += check()
            except Exception as error:
                found.append(Check(area, "failure", f"the check itself failed: {fault(error)}", "please report it"))
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that is logged meanwhile reaches the screen: what matters of it is in the findings."""
    before = logging.root.manager.disable
    handlers = logging.root.handlers[:]
    logging.root.handlers[:] = [logging.NullHandler()]
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.disable(before)
