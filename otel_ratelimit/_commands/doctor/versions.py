"""What is installed, and whether it is what this version supports. The ranges are those of our own package metadata."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement

from otel_ratelimit._commands.doctor.check import Check
from otel_ratelimit._version import __version__

AREA: Final = "versions"

_NEEDED: Final = ("openai", "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt")
_OPTIONAL: Final = {
    "opentelemetry-exporter-otlp-proto-http": "otlp",
    "redis": "redis",
    "rich": "demo",
}
_RELATED: Final = (*_NEEDED, *_OPTIONAL, "opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-semantic-conventions")


def check() -> Iterator[Check]:
    """Python, ourselves, what we need, what we can use, and whether they fit each other."""
    yield Check(AREA, "ok", f"otel-ratelimit {__version__}, Python {platform.python_version()} ({sys.executable})")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        yield Check(AREA, "note", "Python runs without its global interpreter lock; that is not tested yet")
    ranges = _ranges()
    for name in _NEEDED:
        installed, wanted = _installed(name), ranges[name]
        if installed is None:
            yield Check(AREA, "failure", f"{name} is not installed", f"pip install '{name}{wanted.specifier}'")
        elif not wanted.specifier.contains(installed, prereleases=True):
            yield Check(
                AREA, "failure", f"{name} {installed} is not supported", f"pip install '{name}{wanted.specifier}'"
            )
        else:
            yield Check(AREA, "ok", f"{name} {installed}")
    for name, extra in _OPTIONAL.items():
        installed = _installed(name)
        if installed is None:
            yield Check(AREA, "note", f"{name} is not installed (extra {extra})")
        else:
            yield Check(AREA, "ok", f"{name} {installed}")
    yield from _misfits()


def _ranges() -> dict[str, Requirement]:
    requirements = [Requirement(text) for text in metadata.requires("otel-ratelimit") or ()]
    return {requirement.name: requirement for requirement in requirements}


def _misfits() -> Iterator[Check]:
    """OpenTelemetry's packages pin each other exactly; half an upgrade is the most common way to break them."""
    for name in _RELATED:
        try:
            requires = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, requires):
            installed = _installed(requirement.name)
            if requirement.name not in _RELATED or installed is None:
                continue
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            if not requirement.specifier.contains(installed, prereleases=True):
                yield Check(
                    AREA,
                    "failure",
                    f"{name} {_installed(name)} needs {requirement.name} {requirement.specifier}, but {installed} is installed",
                    f"pip install --upgrade {name} {requirement.name}",
                )


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
