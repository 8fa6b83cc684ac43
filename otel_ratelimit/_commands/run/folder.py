"""The folder in which the processes of a run leave their figures, on a machine that others share.

Owns how it is opened: by a handle, whose owner and rights are looked at, and everything in it relative to that. A name in a
shared temporary directory is anybody's once the parent has removed its folder, and a program that outlives the parent must not
write where another user has put one of that name. Nothing stays open: a program that turns into a daemon closes what it does
not know.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

MOST_FILES: Final = 10_000
"""Looked at. A process leaves three."""

MOST_BYTES: Final = 1 << 26
"""Read of one file: 64 MiB. The figures of a process are some kilobytes, its traces one for each disturbed call."""

UNSENT: Final = ".unsent"
"""How the file's name ends in which a process says what of its telemetry could not be exported."""

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EMLINK})
_HANDLES: Final = {os.open, os.unlink, os.rename, os.mkdir} <= os.supports_dir_fd and os.listdir in os.supports_fd
"""Not on Windows, where a user's temporary directory is the user's own."""

_FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE: Final = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
"""No link, and no waiting for the other end of a pipe."""


class GoneError(OSError):
    """The folder is there no longer, or is not ours any more. It does not come back."""


class Folder:
    """One folder; opens nothing when it is made.

    Args:
        path: of it.
        inside: of a folder in it, where that is meant.
    """

    def __init__(self, path: str | os.PathLike[str], inside: str = "") -> None:
        self._path = os.fspath(path)
        self._inside = inside

    def inside(self, name: str) -> Folder:
        """A folder in it."""
        return Folder(self._path, name)

    def make(self) -> None:
        """The folder ``inside``."""
        outer = Folder(self._path)
        with outer._opened() as handle:
            os.mkdir(self._at(handle, self._inside, outer=True), 0o700, **_relative("dir_fd", handle))

    def is_there(self) -> bool:
        """Whether it can be opened, and is ours."""
        try:
            with self._opened():
                return True
        except OSError:
            return False

    def names(self, ending: str) -> list[str]:
        """Files in it, sorted."""
        with self._opened() as handle:
            found = os.listdir(handle if handle is not None else self._at(None, ""))
        return sorted(name for name in found if name.endswith(ending))[:MOST_FILES]

    def read(self, name: str) -> str:
        """A file.

        Raises:
            OSError: it is no plain file, or cannot be read.
            ValueError: it is too large.
        """
        with self._opened() as handle, self._file(handle, name, os.O_RDONLY) as file:
            data = bytearray()
            while len(data) <= MOST_BYTES:
                part = os.read(file, 1 << 16)
                if not part:
                    return data.decode("utf-8", "replace")
                data += part
        raise ValueError("it is too large")

    def write(self, name: str, text: str) -> None:
        """Put a file there, whole, in place of the one that may be there.

        Raises:
            GoneError: see there.
            OSError: it cannot be written now.
        """
        with self._opened() as handle:
            new = f"{name}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._at(handle, new), **_relative("dir_fd", handle))
            with self._file(handle, new, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                _write(file, text)
            os.replace(
                self._at(handle, new),
                self._at(handle, name),
                **_relative("src_dir_fd", handle),
                **_relative("dst_dir_fd", handle),
            )

    def append(self, name: str, text: str) -> None:
        """Add to a file, or begin it. Raises what ``write`` does."""
        with self._opened() as handle, self._file(handle, name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            _write(file, text)

    def remove(self, name: str) -> None:
        """Take a file away.

        Raises:
            GoneError: see there.
            OSError: it is not there.
        """
        with self._opened() as handle:
            os.unlink(self._at(handle, name), **_relative("dir_fd", handle))

    def _at(self, handle: int | None, name: str, *, outer: bool = False) -> str:
        return name if handle is not None else os.path.join(self._path, "" if outer else self._inside, name)

    @contextlib.contextmanager
    def _file(self, handle: int | None, name: str, flags: int) -> Iterator[int]:
        file = os.open(self._at(handle, name), flags | _FILE, 0o600, **_relative("dir_fd", handle))
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file")
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Its handle; None where the system has none."""
        if not _HANDLES:
            if not os.path.isdir(self._at(None, "")):
                raise GoneError(errno.ENOENT, "the folder is gone")
            yield None
            return
        handle = -1
        try:
            handle = _ours(os.open(self._path, os.O_RDONLY | _FOLDER))
            if self._inside:
                outer, handle = handle, -1
                try:
                    handle = _ours(os.open(self._inside, os.O_RDONLY | _FOLDER, dir_fd=outer))
                finally:
                    os.close(outer)
        except OSError as error:
            if error.errno in _GONE:
                raise GoneError(error.errno, "the folder is gone, or not ours") from None
            raise
        try:
            yield handle
        finally:
            os.close(handle)


def _ours(handle: int) -> int:
    """The handle again, if the folder belongs to whom we act as, and to nobody else's rights; else it is closed."""
    found = os.fstat(handle)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(handle)
        raise PermissionError(errno.EPERM, "it is not ours")
    return handle


def _relative(name: str, handle: int | None) -> dict[str, Any]:
    return {} if handle is None else {name: handle}


def _write(file: int, text: str) -> None:
    data = memoryview(text.encode("utf-8", "replace"))
    while data:
        data = data[os.write(file, data) :]
