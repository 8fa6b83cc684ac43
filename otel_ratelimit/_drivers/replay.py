"""Whether a request's body can be sent again, byte for byte, and the rewinding of its files.

Newer SDKs (3.x) rewind for the retries of their own loop; ours sends anew from outside of it, and older ones never did.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final


class Replay:
    """Where the files of a request stood before it was first sent.

    Only what is certain to give the same bytes again counts as replayable: bytes, strings, paths, lists and tuples, and
    seekable files. A generator, or any other iterable, may be used up after one reading.
    """

    __slots__ = ("_rewinds", "possible")

    def __init__(self, options: Any) -> None:
        self._rewinds: list[tuple[Callable[[int], object], int]] = []
        self.possible = all(self._note(content) for content in _contents(options))

    def _note(self, content: object) -> bool:
        read = getattr(content, "read", None)
        if not callable(read):
            return (
                content is None
                or isinstance(content, (bytes, bytearray, str, list, tuple))
                or hasattr(content, "__fspath__")
            )
        if inspect.iscoroutinefunction(read):
            return False  # an asynchronous file would have to be awaited, here and in the SDK
        try:
            if not content.seekable():  # type: ignore[attr-defined]  # a file without it is none we can rewind
                return False
            position = content.tell()  # type: ignore[attr-defined]
            seek = content.seek  # type: ignore[attr-defined]
        except (AttributeError, OSError, ValueError):
            return False
        if not isinstance(position, int):
            return False
        self._rewinds.append((seek, position))
        return True

    def rewind(self) -> bool:
        """Put every file back where it stood; False where that is not possible."""
        if not self.possible:
            return False
        try:
            for seek, position in self._rewinds:
                seek(position)
        except (OSError, ValueError):
            return False
        return True


def _contents(options: Any) -> Iterator[object]:
    if options is None:
        return
    yield getattr(options, "content", None)
    files = options.files
    if files is None:
        return
    for _, file in files.items() if isinstance(files, Mapping) else files:
        yield file[1] if isinstance(file, tuple) and len(file) > 1 else file


NOTHING_TO_REWIND: Final = Replay(None)
