"""Bodies that are files: sent again byte for byte from where they stood, or not sent again."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import openai
import pytest
from openai._files import to_httpx_files

from otel_ratelimit._drivers.replay import Replay
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller
from tests.telemetry_probe import Probe, notes

Instrumented = Callable[..., Probe]

DATA = bytes(range(256)) * 300
SHA256 = hashlib.sha256(DATA).hexdigest()


class Pipe(io.RawIOBase):
    """A file that can be read once."""

    def __init__(self) -> None:
        self._rest = io.BytesIO(DATA)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._rest.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "data.jsonl"
    file.write_bytes(DATA)
    return file


FORMS: dict[str, Callable[[Path, Any], Any]] = {
    "bytes": lambda _path, _file: DATA,
    "path": lambda path, _file: path,
    "open file": lambda _path, file: file,
    "BytesIO": lambda _path, _file: io.BytesIO(DATA),
    "tuple of bytes": lambda _path, _file: ("named.jsonl", DATA),
    "tuple of a file": lambda _path, file: ("named.jsonl", file, "application/jsonl"),
    "tuple of a path": lambda path, _file: ("named.jsonl", path),
    "with headers": lambda _path, _file: ("named.jsonl", io.BytesIO(DATA), "application/jsonl", {"x-part": "1"}),
}


def reads_paths_in_tuples() -> bool:
    """Whether the SDK does what it documents: the older ones hand the path on, on which the transport fails."""
    files: Any = to_httpx_files({"file": ("named", Path(__file__))})
    return isinstance(files["file"][1], bytes)


@pytest.mark.feature("uploads: bytes, paths, files, tuples")
@pytest.mark.parametrize("form", [form for form in FORMS if form != "tuple of a path" or reads_paths_in_tuples()])
def test_a_file_is_sent_again_byte_for_byte(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, path: Path, form: str
) -> None:
    """Throttled twice: the server hashes what finally came, and all attempts had the same size. (Their bytes
    differ in the boundary that each draws.)"""
    probe = instrumented()
    server.script([throttle_reply(delay=0.01), throttle_reply(delay=0.01)])
    with path.open("rb") as file:
        content = FORMS[form](path, file)
        answer = caller(server, lambda client: client.files.create(file=content, purpose="batch"))
    assert answer.to_dict()["sha256"] == SHA256
    assert len({request.size for request in server.requests}) == 1
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 2, "retry": 2}


@pytest.mark.feature("uploads: several images in one request")
def test_several_images(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Each is rewound by itself."""
    instrumented()
    server.script([throttle_reply(delay=0.01)])
    images: list[Any] = [("one.png", io.BytesIO(DATA)), ("two.png", DATA), ("three.png", io.BytesIO(DATA[:1000]))]
    answer = caller(server, lambda client: client.images.edit(image=images, prompt="A hat", model="gpt-image-1"))
    expected = [SHA256, SHA256, hashlib.sha256(DATA[:1000]).hexdigest()]
    assert [image.b64_json for image in answer.data] == expected


@pytest.mark.feature("uploads: audio, also answered by a stream")
@pytest.mark.parametrize("stream", [False, True])
def test_audio(caller: Caller, server: ThrottlingServer, instrumented: Instrumented, stream: bool) -> None:
    """A transcription, whose file is rewound for a stream that is refused inside of a 200 as well."""
    probe = instrumented()
    delta = {"type": "transcript.text.delta", "delta": "Hel"}
    done = {"type": "transcript.text.done", "text": "Hello"}
    error = {
        "message": "Rate limit reached. Please try again in 10ms.",
        "code": "rate_limit_exceeded",
        "type": "tokens",
    }
    script = [Reply(events=({"type": "error", "error": error},)), Reply(events=(delta, done))] if stream else []
    server.script([throttle_reply(delay=0.01), *script])
    file = io.BytesIO(DATA)

    def action(client: Any) -> Any:
        options: dict[str, Any] = {"stream": True} if stream else {}
        transcribe = client.audio.transcriptions.create
        if not caller.asynchronous:
            answer = transcribe(file=file, model="whisper-1", **options)
            return [event.type for event in answer] if stream else answer.text

        async def main() -> Any:
            answer = await transcribe(file=file, model="whisper-1", **options)
            return [event.type async for event in answer] if stream else answer.text

        return main()

    seen = caller(server, action)
    assert seen == (["transcript.text.delta", "transcript.text.done"] if stream else SHA256)
    assert len({request.size for request in server.requests}) == 1
    assert probe.names()["throttle"] == (2 if stream else 1)


def parts() -> Iterator[bytes]:
    yield from (DATA[:1000], DATA[1000:])


async def async_parts() -> AsyncIterator[bytes]:
    for part in parts():
        yield part


@pytest.mark.feature("bodies that can be read once are not sent again")
@pytest.mark.parametrize("form", ["generator", "iterator object", "pipe"])
def test_what_cannot_be_rewound_is_not_sent_again(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, form: str
) -> None:
    """The SDK's own error goes up, with a note that says why."""
    probe = instrumented()
    server.script([throttle_reply(delay=0.01)])

    class Once:
        """An iterable that gives its one iterator each time."""

        def __init__(self) -> None:
            self._only = parts()

        def __iter__(self) -> Iterator[bytes]:
            return self._only

    def action(client: Any) -> Any:
        if form == "pipe":
            return client.files.create(file=("named.jsonl", Pipe()), purpose="batch")
        content: Any = Once() if form == "iterator object" else parts()
        if caller.asynchronous:
            content = async_parts()
        return client.post("/files", cast_to=object, content=content)

    if form != "pipe" and not content_is_supported():
        pytest.skip("this SDK's post takes no content")
    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, action)
    (note,) = notes(raised.value)
    assert "cannot be read a second time" in note
    assert server.counts.requests == 1
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="body_not_replayable") == 1


def content_is_supported() -> bool:
    """Whether ``client.post`` has ``content``."""
    import inspect

    return "content" in inspect.signature(openai.OpenAI.post).parameters


def test_an_asynchronous_file_is_not_asked_in_vain(path: Path) -> None:
    """Its methods are coroutines: none is called, which would warn, and it counts as one that cannot be rewound."""

    async def main() -> None:
        async with await anyio.open_file(path, "rb") as file:
            assert not Replay(SimpleNamespace(files=None, content=file)).possible
            assert not Replay(SimpleNamespace(files={"file": ("named", file)}, content=None)).possible

    anyio.run(main)


@pytest.mark.feature("uploads: large files are never in memory")
def test_a_large_file_is_not_read_into_memory(server: ThrottlingServer, tmp_path: Path) -> None:
    """Twelve megabytes, refused once, in a process of its own whose allocations are counted."""
    size = 12_000_000
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(size)
    server.script([throttle_reply(delay=0.01)])
    program = f"""
        import tracemalloc
        import otel_ratelimit.auto
        import openai
        client = openai.OpenAI(base_url={server.base_url!r}, api_key="test")
        client.models.list()
        tracemalloc.start()
        with open({str(path)!r}, "rb") as file:
            answer = client.files.create(file=file, purpose="batch")
        print(answer.bytes, tracemalloc.get_traced_memory()[1])
    """
    server.script([Reply(), throttle_reply(delay=0.01)])
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100, check=True
    )
    received, peak = map(int, run.stdout.split())
    assert received == size
    assert server.counts.throttled == 1
    assert peak < size / 4
