"""``run`` on a machine that others share: nothing is written where another user has put something, and whatever lies in the
folder of a run neither blocks nor breaks the parent, nor costs the program's exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_ratelimit._commands.output import Line
from otel_ratelimit._commands.run import child, command
from otel_ratelimit._commands.run.figures import MAX_STRETCHES, Figures
from otel_ratelimit._commands.run.folder import MOST_BYTES, Folder, GoneError
from otel_ratelimit._commands.run.tap import Tap
from tests.helpers.eventually import eventually

if sys.platform == "win32":
    pytest.skip("users, links and pipes of Unix", allow_module_level=True)

ATTRIBUTES = {"gen_ai.request.model": "gpt-4o"}
SECRET = "a file of root's"


@pytest.fixture
def directory() -> Iterator[Path]:
    """As the parent makes it."""
    with tempfile.TemporaryDirectory(prefix="otel-ratelimit-run-") as path:
        yield Path(path)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text(SECRET)
    return file


def figures(**fields: Any) -> dict[str, Any]:
    """Of one model, right but for these."""
    model = {
        "calls": 3, "throttles": {}, "retries": {}, "give_ups": {}, "waits": {}, "waited": {}, "waiting": 0, "stretches": {},
        "levels": {}, **fields,
    }  # fmt: skip
    return {"gpt-4o": model}


def linked(directory: Path, victim: Path) -> None:
    """Every name that a process writes, as a link to somebody's file."""
    for ending in ("json", "json.new", "jsonl", "python", "missing", "unsent", "unsent.new", "lent", "lent.new"):
        (directory / f"{os.getpid()}.{ending}").symlink_to(victim)
    (directory / "spans").mkdir(mode=0o700)
    (directory / "spans" / f"{os.getpid()}.jsonl").symlink_to(victim)


def test_links_in_the_folder_are_not_followed(directory: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to write nor to read."""
    linked(directory, victim)
    tap = Tap(Folder(directory))
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    tap._write()
    tap._export_failed()
    monkeypatch.setenv(child.DIRECTORY, str(directory))
    child._lend()
    with pytest.raises(OSError, match=r".*"):
        Folder(directory).inside("spans").append(f"{os.getpid()}.jsonl", "overwritten")
    with pytest.raises(OSError, match=r".*"):
        Folder(directory).read(f"{os.getpid()}.python")
    assert victim.read_text() == SECRET
    assert json.loads((directory / f"{os.getpid()}.json").read_text())["gpt-4o"]["calls"] == 1
    assert json.loads((directory / f"{os.getpid()}.unsent").read_text()) == {}
    assert Folder(directory).read(f"{os.getpid()}.lent") == ""
    child._owned()
    assert not os.path.lexists(directory / f"{os.getpid()}.lent")


def test_a_folder_that_is_a_link(directory: Path, victim: Path, tmp_path: Path) -> None:
    """Made anew by somebody else, as a link to a folder of ours."""
    link = tmp_path / "link"
    link.symlink_to(directory)
    tap = Tap(Folder(link))
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    tap._write()
    assert list(directory.iterdir()) == []
    assert tap._gone
    tap._gone = False
    tap._export_failed()
    assert list(directory.iterdir()) == []
    assert tap._gone


@pytest.mark.parametrize("how", ["another owner", "open to others"])
def test_a_folder_that_is_not_ours(how: str, directory: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent removed its folder, another user made one of that name: the daemon writes nothing there, ever again."""
    tap = Tap(Folder(directory))
    for name in os.listdir(directory):
        os.unlink(directory / name)
    linked(directory, victim)
    if how == "another owner":
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    else:
        directory.chmod(0o777)
    before = sorted(os.listdir(directory))
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    tap._write()
    monkeypatch.undo()
    directory.chmod(0o700)
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    tap._write()
    assert sorted(os.listdir(directory)) == before
    assert victim.read_text() == SECRET


def test_a_daemon_stops_once_the_folder_is_gone(directory: Path) -> None:
    """Its thread ends, it counts no longer, and it does not come back with the folder."""
    tap = Tap(Folder(directory))
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    thread = tap._thread
    assert thread is not None
    for name in os.listdir(directory):
        os.unlink(directory / name)
    directory.rmdir()
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    thread.join(20)
    assert not thread.is_alive()
    directory.mkdir(mode=0o700)
    tap.counted("call_duration", 0.1, ATTRIBUTES)
    tap._write()
    tap._export_failed()
    assert os.listdir(directory) == []


DEEP = "[" * 100_000
PARTS: dict[str, list[Any]] = {
    "calls": ["x", None, True, float("nan"), float("inf"), 1e308, [1]],
    "waiting": ["x", {}],
    "throttles": [[], "x", {"tokens": "x"}, {"tokens": None}, {str(n): 1 for n in range(101)}],
    "waited": [{"throttled": float("nan")}, {"throttled": "x"}],
    "next_turn": ["x", None, float("nan"), [1]],
    "levels": [{"tokens": [1]}, {"tokens": 7}, {"tokens": [1, float("inf")]}],
    "stretches": [{"a": 1}, {"a": [[1]]}, {"a": [["x", 1]]}, {"a": [[0, 1]] * (MAX_STRETCHES + 1)}],
}
WRONG: dict[str, str] = {
    "nothing": "",
    "a list": "[]",
    "deep": DEEP,
    "deep in a model": f'{{"gpt-4o": {DEEP}',
    "a number": "7",
    "a model of null": '{"gpt-4o": null}',
    "too many digits": json.dumps(figures()).replace("3", "9" * 5000),
    **{
        f"{name}: {value!r}": json.dumps(figures(**{name: value})) for name, values in PARTS.items() for value in values
    },
}


@pytest.mark.parametrize("name", WRONG, ids=lambda name: name[:40])
def test_files_that_hold_something_else(name: str, directory: Path) -> None:
    """They are left out, whole; what the others have written is shown."""
    (directory / "1.json").write_text(WRONG[name])
    (directory / "2.json").write_text(json.dumps(figures()))
    read = command._read(Folder(directory))
    assert read.calls == 3
    assert command._last_words(Folder(directory), 1.0)


def test_files_that_are_none(directory: Path) -> None:
    """A pipe that nobody writes to, a folder, a socket's device, a file of 65 MiB: the parent does not wait, and goes on."""
    for ending in ("json", "missing", "python", "jsonl", "unsent"):
        os.mkfifo(directory / f"1.{ending}")
        (directory / f"3.{ending}").mkdir()
    with open(directory / "4.json", "wb") as large:
        large.truncate(MOST_BYTES + 1)
    (directory / "2.json").write_text(json.dumps(figures()))
    done: list[Figures] = []
    unsent: list[list[Line]] = []

    def read() -> None:
        done.append(command._read(Folder(directory)))
        unsent.append(command._unsent(Folder(directory)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert [one.calls for one in done] == [3]
    assert unsent == [[]]


def test_names_are_shown_as_text(directory: Path) -> None:
    """No escape sequence, no second line, no mile of text from a file reaches the terminal."""
    evil = "gpt\x1b]0;owned\x07\r\n\u202e" + "x" * 10_000
    (directory / "1.json").write_text(json.dumps({evil: figures(waited={evil: 1.0}, throttles={evil: 1})["gpt-4o"]}))
    shown = [line.text for line in command._last_words(Folder(directory), 1.0)]
    (directory / "1.json").unlink()
    (directory / "1.missing").write_text(evil)
    shown += [line.text for line in command._last_words(Folder(directory), 1.0)]
    assert len(shown) > 3
    for text in shown:
        assert text.isprintable()
        assert len(text) < 1000


@pytest.mark.parametrize("text", ["", "[]", "7", "null", DEEP, '["traces"]', '{"x": "y"}', '{"TRACES": "y"}'])
def test_what_was_not_exported_by_files_that_hold_something_else(text: str, directory: Path) -> None:
    """They are left out; what another process has written is shown."""
    (directory / "1.unsent").write_text(text)
    (directory / "2.unsent").write_text('{"traces": "HTTP 404"}')
    shown = [line.text for line in command._unsent(Folder(directory))]
    assert shown == ["  traces could not be exported (HTTP 404); otel-ratelimit doctor looks closer"]


def test_reasons_are_shown_as_text(directory: Path) -> None:
    """One line for each signal, of what can be seen, of bounded length; whatever else the file names."""
    evil = "\x1b]0;owned\x07\r\n\u202e" + "x" * 10_000
    signals = {"traces": evil, "metrics": {evil: [evil]}, evil: evil, **{f"s{n}": "x" for n in range(2000)}}
    (directory / "1.unsent").write_text(json.dumps(signals))
    shown = [line.text for line in command._unsent(Folder(directory))]
    assert len(shown) == 2
    for text in shown:
        assert text.isprintable()
        assert len(text) < 400


def test_what_was_not_exported_from_a_folder_that_is_gone(directory: Path) -> None:
    """The last words say that it is gone, and are not lost."""
    assert command._unsent(Folder(directory / "gone")) == []
    assert [line.style for line in command._last_words(Folder(directory / "gone"), 1.0)] == ["warning"]


ODD = """
import json, os, sys
folder = os.environ["OTEL_RATELIMIT_RUN_DIRECTORY"]
os.mkfifo(folder + "/1.json")
os.mkfifo(folder + "/1.missing")
os.mkfifo(folder + "/1.unsent")
open(folder + "/2.unsent", "w").write("[" * 100_000)
open(folder + "/3.unsent", "w").write('{"traces": "\\\\u001b[31m"}')
os.mkdir(folder + "/2.json")
open(folder + "/3.json", "w").write("[" * 100_000)
open(folder + "/4.json", "w").write('{"\\\\u001b[31m": {"calls": []}}')
os.mkfifo(folder + "/spans/1.jsonl")
open(folder + "/spans/2.jsonl", "w").write("[" * 100_000 + '\\n{"resourceSpans": 7}\\n{"x": []}\\n[]\\n')
sys.exit(7)
"""
REMOVES = """
import os, shutil, sys
shutil.rmtree(os.environ["OTEL_RATELIMIT_RUN_DIRECTORY"])
sys.exit(7)
"""


@pytest.mark.parametrize("code", [ODD, REMOVES], ids=["odd files", "no folder"])
def test_the_status_is_not_lost(code: str, tmp_path: Path) -> None:
    """The whole command: it ends, with the program's status, and says nothing that is no text."""
    app = tmp_path / "app.py"
    app.write_text(code)
    options = ["--file", "out.json", "--json", "figures.json", "--fail-on-give-up"]
    arguments = [sys.executable, "-m", "otel_ratelimit", "run", *options, "--", sys.executable, str(app)]
    done = subprocess.run(arguments, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert ("traces could not be exported" in done.stderr) is (code is ODD)
    assert ("has removed the folder" in done.stderr) is (code is REMOVES)
    assert (tmp_path / "figures.json").exists() is (code is ODD)


DAEMON = """
import os, sys, time
import openai
if os.fork():
    sys.exit(0)
os.setsid()
with open({log!r}, "w") as log:
    os.dup2(log.fileno(), 0), os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
client = openai.OpenAI(base_url={base_url!r}, api_key="test", max_retries=0)
while not os.path.exists({stop!r}):
    client.chat.completions.create(model="gpt-4o", messages=[])
    open({calls!r}, "a").write(f"{{os.getpid()}}\\n")
    time.sleep(0.02)
open({ended!r}, "w").close()
"""


def test_a_program_that_daemonises(tmp_path: Path, victim: Path) -> None:
    """The whole command: the parent has ended and removed its folder; it is made anew, with a link; the daemon goes on making
    calls and does not follow it. (As the same user, so that no right protects the file.)"""
    from otel_ratelimit.testing import ThrottlingServer

    stop, ended, calls = tmp_path / "stop", tmp_path / "ended", tmp_path / "calls"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with ThrottlingServer() as server:
        app = tmp_path / "app.py"
        app.write_text(
            textwrap.dedent(DAEMON).format(
                base_url=server.base_url, stop=str(stop), ended=str(ended), calls=str(calls), log=str(tmp_path / "log")
            )
        )
        watched: list[str] = []
        parent = subprocess.Popen(
            [sys.executable, "-m", "otel_ratelimit", "run", "--", sys.executable, str(app)],
            env={**os.environ, "TMPDIR": str(temporary)},
            stderr=subprocess.DEVNULL,
        )
        try:
            while parent.poll() is None:
                watched = os.listdir(temporary) or watched
                time.sleep(0.01)
            assert parent.returncode == 0
            (name,) = watched
            assert not (temporary / name).exists()
            eventually(lambda: calls.exists() and calls.stat().st_size)
            (temporary / name).mkdir(mode=0o700)
            before, daemon = calls.stat().st_size, calls.read_text().split()[0]
            os.symlink(victim, temporary / name / f"{daemon}.json.new")
            eventually(lambda: calls.stat().st_size > before + 200)
        finally:
            stop.touch()
            eventually(ended.exists)
            parent.wait(20)
    assert victim.read_text() == SECRET


def test_our_own_folder_works(directory: Path) -> None:
    """Written, replaced, added to, listed, read; with the rights of its owner alone."""
    folder = Folder(directory)
    folder.write("1.json", "one")
    folder.write("1.json", "two")
    folder.inside("spans").make()
    folder.inside("spans").append("1.jsonl", "a\n")
    folder.inside("spans").append("1.jsonl", "b\n")
    assert folder.names(".json") == ["1.json"]
    assert folder.read("1.json") == "two"
    assert folder.inside("spans").read("1.jsonl") == "a\nb\n"
    assert (directory / "1.json").stat().st_mode & 0o777 == 0o600
    assert not folder.inside("nothing").is_there()
    with pytest.raises(GoneError):
        folder.inside("nothing").write("x", "y")
