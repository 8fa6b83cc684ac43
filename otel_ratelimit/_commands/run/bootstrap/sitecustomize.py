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
    if not directory or not _ours(directory):
        return
    # Another interpreter may lack both.
    found = all(importlib.util.find_spec(name) for name in ("otel_ratelimit", "wrapt"))
    if found:
        importlib.import_module("wrapt").register_post_import_hook(_openai_imported, "openai")
    _leave(directory, f"{os.getpid()}.{'python' if found else 'missing'}", sys.executable or "")


def _ours(directory: str) -> bool:
    """As in ``folder``, which another interpreter may lack: somebody else may have a folder of that name by now."""
    if not os.path.isdir(directory) or os.path.islink(directory):
        return False
    if not hasattr(os, "geteuid"):
        return True
    found = os.stat(directory, follow_symlinks=False)
    return found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _leave(directory: str, name: str, text: str) -> None:
    if os.open not in os.supports_dir_fd:
        handle, options, path = None, {}, os.path.join(directory, name)
    else:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        options, path = {"dir_fd": handle}, name
    try:
        if handle is not None and os.fstat(handle).st_uid != os.geteuid():
            return
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, **options)
        with open(file, "w") as marker:
            marker.write(text)
    finally:
        if handle is not None:
            os.close(handle)


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
