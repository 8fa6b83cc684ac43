"""Python imports this at its start because ``otel-ratelimit run`` has put this folder first in ``PYTHONPATH``.

Costs a program that never imports ``openai`` next to nothing, and changes nothing for it: the folder leaves ``sys.path``
again, and the ``sitecustomize`` that would have been imported without it is imported now.
"""

import contextlib
import importlib
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _start() -> None:
    directory = os.environ.get("OTEL_RATELIMIT_RUN_DIRECTORY", "")
    if not os.path.isdir(directory):
        return
    # Another interpreter may lack both.
    found = all(importlib.util.find_spec(name) for name in ("otel_ratelimit", "wrapt"))
    if found:
        importlib.import_module("wrapt").register_post_import_hook(_openai_imported, "openai")
    with open(os.path.join(directory, f"{os.getpid()}.{'python' if found else 'missing'}"), "w") as marker:
        marker.write(sys.executable or "")


def _openai_imported(module: object) -> None:
    importlib.import_module("otel_ratelimit._commands.run.child").openai_imported(module)


def _next_one() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


with contextlib.suppress(Exception):  # nothing of ours may keep a program from starting
    _start()
_next_one()
