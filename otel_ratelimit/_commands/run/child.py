"""What runs inside the program once it imports ``openai``: instruments it unless it does so itself, and counts along."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Final

from otel_ratelimit._commands.run.folder import Folder

DIRECTORY: Final = "OTEL_RATELIMIT_RUN_DIRECTORY"
"""The variable by which the parent tells its children where they leave their figures. Internal, no setting."""

LENT: Final = ".lent"
"""The ending of a file that says: the process of this number does not instrument itself."""


def pre_instrument() -> None:
    """Entry point ``opentelemetry_pre_instrument``: ``opentelemetry-instrument`` hides our ``sitecustomize`` behind its own,
    and calls this before it instruments. Does nothing outside of ``otel-ratelimit run``.
    """
    if os.environ.get(DIRECTORY) and Folder(os.environ[DIRECTORY]).is_there():
        _listen()


def openai_imported(_module: Any) -> None:
    """Instrument as ``import otel_ratelimit.auto`` would. What the program sets up by itself goes before, also later."""
    try:
        importing = "otel_ratelimit._drivers.hooks" in sys.modules  # by the program's own import of auto, say
        instrumentor = _listen()
        if importing or instrumentor.is_instrumented_by_opentelemetry:
            return
        instrumentor.instrument()
        _lend()
        _give_way(type(instrumentor))
    except Exception as error:
        from otel_ratelimit import _guard  # noqa: PLC0415

        _guard.report("run", error)


def _lend() -> None:
    """Note that this program waits only because it is run by us, until it instruments itself."""
    import wrapt  # noqa: PLC0415

    with contextlib.suppress(OSError):
        Folder(os.environ[DIRECTORY]).write(f"{os.getpid()}{LENT}", "")
    wrapt.register_post_import_hook(_owned, "otel_ratelimit.auto")


def _owned(_module: Any = None) -> None:
    with contextlib.suppress(OSError, KeyError):  # the program may have cleared its environment
        Folder(os.environ[DIRECTORY]).remove(f"{os.getpid()}{LENT}")


def _listen() -> Any:
    from otel_ratelimit import _guard  # noqa: PLC0415
    from otel_ratelimit._commands.run.tap import Tap  # noqa: PLC0415
    from otel_ratelimit._instrumentor import RateLimitInstrumentor  # noqa: PLC0415

    if RateLimitInstrumentor._listener is None:
        contained = _guard.contained("run", lambda _instruments: None)
        RateLimitInstrumentor._listener = contained(Tap(Folder(os.environ[DIRECTORY])).listen)
    return RateLimitInstrumentor()


def _give_way(instrumentor: Any) -> None:
    """Make the program's own ``instrument(...)``, with its policy and providers, replace ours instead of only warning."""
    original = instrumentor.instrument

    def instrument(self: Any, **kwargs: Any) -> Any:
        instrumentor.instrument = original
        _owned()
        self.uninstrument()
        return original(self, **kwargs)

    instrumentor.instrument = instrument
