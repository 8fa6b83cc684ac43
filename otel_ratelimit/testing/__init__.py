"""An OpenAI-compatible server that throttles for real, to test programs with: real sockets, real buckets, OpenAI's words.

Needs the extra ``testing``. Independent of the rest of the package: it neither instruments anything nor needs it to.

The names are loaded when they are first used: the pytest plugin beside this file is imported by every pytest run where the
package is installed, with the extra or without it, and must neither fail there nor take time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_ratelimit.testing.app import Counts, Received, ThrottlingApp
    from otel_ratelimit.testing.buckets import Limit
    from otel_ratelimit.testing.replies import Fault, Reply, throttle_reply
    from otel_ratelimit.testing.server import ThrottlingServer
    from otel_ratelimit.testing.wording import AZURE, BARE, HEADERS_ONLY, MESSAGE_ONLY, OPENAI, Dialect

__all__ = [
    "AZURE",
    "BARE",
    "HEADERS_ONLY",
    "MESSAGE_ONLY",
    "OPENAI",
    "Counts",
    "Dialect",
    "Fault",
    "Limit",
    "Received",
    "Reply",
    "ThrottlingApp",
    "ThrottlingServer",
    "throttle_reply",
]

_HOMES: Final = {
    "app": ("Counts", "Received", "ThrottlingApp"),
    "buckets": ("Limit",),
    "replies": ("Fault", "Reply", "throttle_reply"),
    "server": ("ThrottlingServer",),
    "wording": ("AZURE", "BARE", "HEADERS_ONLY", "MESSAGE_ONLY", "OPENAI", "Dialect"),
}
_EXTRA: Final = frozenset({"python_multipart", "starlette", "uvicorn"})


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"otel_ratelimit.testing needs {error.name}: pip install 'otel-ratelimit[testing]'", name=error.name
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
