"""``run``: the program notices nothing, and the figures are those that the server counted."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import venv
from collections import Counter
from pathlib import Path

import pytest

from otel_ratelimit._commands.run import process
from tests.commands.conftest import Command

if sys.platform == "win32":
    pytest.skip("signals and terminals of Unix", allow_module_level=True)

FAN_OUT = """
import asyncio, sys
import openai

async def main():
    async with openai.AsyncOpenAI() as client:
        def ask(tokens):
            messages = [{"role": "user", "content": "hi"}]
            return client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=tokens)

        await ask(5900)  # of 6000 a minute
        print(len(await asyncio.gather(*(ask(100) for _ in range(5)))), "answers")

asyncio.run(main())
print("trouble", file=sys.stderr)
sys.exit(7)
"""


def program(tmp_path: Path, code: str, name: str = "app.py") -> Path:
    path = tmp_path / name
    path.write_text(code)
    return path


def test_a_fan_out_and_its_figures(command: Command, tmp_path: Path) -> None:
    """Output, errors and exit status are the program's own; calls and throttles are the server's; the file becomes a page."""
    app = program(tmp_path, FAN_OUT)
    done = command(
        "run",
        "--local",
        "--tokens-per-minute",
        "6000",
        "--latency",
        "0",
        "--file",
        "out.json",
        "--",
        sys.executable,
        app,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == "5 answers\n"
    first, *rest = done.stderr.splitlines()
    assert first == "trouble"
    told = "\n".join(rest)
    assert re.search(r"otel-ratelimit: 6 calls, \d+\.\d s", told)
    (counted,) = re.findall(r"the local server counted (\d+) requests: 6 answered, (\d+) throttled", told)
    assert int(counted[0]) == 6 + int(counted[1])
    throttled = re.search(r"throttled +(\d+) +tokens (\d+)", told)
    assert (throttled[1] if throttled else "0") == counted[1]
    assert "Twice the limit would have saved up to" in told
    assert "\x1b" not in done.stdout + done.stderr
    assert command("report", "out.json").returncode == 0
    document = json.loads((tmp_path / "out.json").read_text())
    names = Counter(
        span["name"].split(" ")[0]
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    )
    assert names["throttle"] == int(counted[1])
    assert names["wait"] >= 1
    gauges = {
        metric["name"] for resource in document["resourceMetrics"] for metric in resource["scopeMetrics"][0]["metrics"]
    }
    assert "otel_ratelimit.tokens.remaining" in gauges


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        (["sh", "-c", "exit 3"], 3, "no Python was started"),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM, "no figures"),
        (["sh", "-c", "kill -KILL $$"], -signal.SIGKILL, "no figures"),
        (["/no/such/program"], 127, "cannot run /no/such/program"),
        (["/"], 126, "cannot run /"),
        ([], 2, "nothing to run"),
    ],
)
def test_the_exit_status_is_the_programs(command: Command, script: list[str], status: int, said: str) -> None:
    """As it would be without, a signal included."""
    done = command("run", "--", *script)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stdout == ""


def test_what_the_program_sees_is_what_it_would_see(command: Command, tmp_path: Path) -> None:
    """Arguments, standard input, sys.path, its own sitecustomize and working directory; openai is not imported for it."""
    program(tmp_path, "import builtins\nbuiltins.of_the_site = True\n", "sitecustomize.py")
    app = program(
        tmp_path,
        "import sys\nprint(sys.argv[1:], input(), of_the_site, 'openai' in sys.modules, 'opentelemetry' in sys.modules)\n"
        "print([entry for entry in sys.path if 'bootstrap' in entry], sys.modules['sitecustomize'].__file__)\n",
    )
    done = command("run", "--", sys.executable, app, "--help", "-x", stdin="typed\n", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['--help', '-x'] typed True False False",
        f"[] {tmp_path / 'sitecustomize.py'}",
    ]
    assert "made no call through the openai package" in done.stderr


def test_another_interpreter_without_the_package(command: Command, tmp_path: Path) -> None:
    """It runs as it would, and is named."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    done = command("run", "--", python, "-c", "print(1)")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert f"otel-ratelimit is not installed for {python}" in done.stderr


def test_a_file_that_could_not_be_written_is_said_before_the_program_runs(command: Command) -> None:
    """Not after an hour of work."""
    done = command("run", "--file", "no/such/folder/out.json", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no folder no/such/folder" in done.stderr


OWN_SET_UP = """
import openai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ratelimit

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
otel_ratelimit.instrument(policy=otel_ratelimit.Policy(max_wait=0, pacing=False), tracer_provider=provider)
client = openai.OpenAI()
for _ in range(2):
    try:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=900)
    except openai.RateLimitError as error:
        print(type(error).__name__)
print([span.name for span in exporter.get_finished_spans()])
"""


def test_a_program_that_instruments_itself_keeps_its_settings(command: Command, tmp_path: Path) -> None:
    """Its policy holds, its provider gets the spans, and the figures and the file have them too."""
    app = program(tmp_path, OWN_SET_UP)
    done = command(
        "run",
        "--local",
        "--tokens-per-minute",
        "1000",
        "--latency",
        "0",
        "--file",
        "out.json",
        "--",
        sys.executable,
        app,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "RateLimitError\n['throttle gpt-4o', 'rate_limited chat gpt-4o']\n"
    assert "already instrumented" not in done.stderr
    assert re.search(r"gave up +1 +the delay asked for did not fit", done.stderr)
    assert "rate_limited chat gpt-4o" in (tmp_path / "out.json").read_text()


WORKERS = """
import multiprocessing, os
import openai

def work(_):
    client = openai.OpenAI()
    return client.embeddings.create(model="text-embedding-3-small", input="x").data[0].index

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sum(pool.map(work, range(8), chunksize=4)))
        pool.close()
        pool.join()
"""


def test_forked_workers_are_counted_together(command: Command, tmp_path: Path) -> None:
    """Each leaves its own figures; none is lost at its end, none is counted twice."""
    done = command("run", "--local", "--latency", "0", "--", sys.executable, program(tmp_path, WORKERS))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n"
    assert "8 calls" in done.stderr
    assert "counted 8 requests: 8 answered, 0 throttled" in done.stderr


def test_under_opentelemetry_instrument(command: Command, tmp_path: Path) -> None:
    """Which hides our sitecustomize behind its own, and calls our entry point instead."""
    agent = Path(sys.executable).with_name("opentelemetry-instrument")
    if not agent.exists():
        pytest.skip("opentelemetry-instrument is not beside this interpreter")
    app = program(
        tmp_path,
        "import openai\nopenai.OpenAI().embeddings.create(model='text-embedding-3-small', input='x')\n",
    )
    done = command(
        "run", "--local", "--latency", "0", "--", agent, "--traces_exporter", "none", "--metrics_exporter", "none",
        "--logs_exporter", "none", sys.executable, app,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "otel-ratelimit: 1 call, " in done.stderr


COUNTS_SIGNALS = """
import os, signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(number))
print("ready", sys.stdin.isatty(), sys.stderr.isatty(), flush=True)
end = time.monotonic() + 20
while not seen and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)  # a second one would come now
print("signals", [int(number) for number in seen], flush=True)
sys.exit(len(seen))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sent_to_us_reaches_the_program_once(tmp_path: Path, number: signal.Signals) -> None:
    """As a supervisor sends it: to our process alone."""
    app = program(tmp_path, COUNTS_SIGNALS)
    running = subprocess.Popen(
        [sys.executable, "-m", "otel_ratelimit", "run", "--", sys.executable, app],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready False False\n"
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert out == f"signals [{int(number)}]\n"
    assert running.returncode == 1


def in_a_terminal(arguments: list[str], keys: bytes, after: bytes) -> tuple[int, bytes]:
    """Run the command on a terminal of its own; type ``keys`` once ``after`` has been shown. Exit status and all output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-m", "otel_ratelimit", *arguments])
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    shown, typed, end = b"", False, time.monotonic() + 90
    try:
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    data = os.read(terminal, 65536)
                except OSError:  # the other side has closed it
                    break
                if not data:
                    break
                shown += data
            if not typed and after in shown:
                os.write(terminal, keys)
                typed = True
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown


def test_ctrl_c_in_a_terminal_reaches_the_program_once(tmp_path: Path) -> None:
    """The terminal sends it to the whole group: passing it on would make it two."""
    app = program(tmp_path, COUNTS_SIGNALS)
    status, shown = in_a_terminal(["run", "--no-status", "--", sys.executable, str(app)], b"\x03", b"ready True True")
    assert b"signals [2]" in shown
    assert status == 1


def test_the_status_line_stays_out_of_the_way(tmp_path: Path) -> None:
    """It is drawn in the last row, below a scroll region, and the region is given back; what the program asks and is told by
    its user goes through."""
    app = program(tmp_path, "name = input('name? ')\nimport time\ntime.sleep(1.2)\nprint('hello', name)\n")
    status, shown = in_a_terminal(["run", "--", sys.executable, str(app)], b"Ada\n", b"name? ")
    assert status == 0
    assert b"hello Ada" in shown
    assert b"\x1b[1;23r" in shown
    assert b"\x1b[24;1H" in shown
    assert b"0 calls | 0 throttled | 0 waiting" in shown
    assert shown.rindex(b"\x1b[r") > shown.rindex(b"0 calls |")


def test_where_nobody_tells_who_sent_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way to watch a process (macOS, Windows): statuses and signals come out the same."""
    monkeypatch.setattr(process, "EXACT", False)
    ticks: list[None] = []
    with process.held_back() as before:
        for code, status in (("exit 3", 3), ("kill -TERM $$", -15), ("sleep 0.6", 0)):
            assert process.execute(["sh", "-c", code], dict(os.environ), before, lambda: ticks.append(None)) == status
    assert ticks
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


ONE_CALL = """
import openai
openai.OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
"""


@pytest.mark.parametrize(
    ("before", "lent"),
    [
        ("", True),
        ("import otel_ratelimit  # and never instruments", True),
        ("import otel_ratelimit.auto", False),
        ("import otel_ratelimit; otel_ratelimit.instrument()", False),
        ("import openai, otel_ratelimit.auto", False),
        ("import openai, otel_ratelimit; otel_ratelimit.instrument()", False),
    ],
)
def test_a_program_that_does_not_instrument_itself_is_told(
    command: Command, tmp_path: Path, before: str, lent: bool
) -> None:
    """It waits only because it is run; in every order of the imports, one that instruments by itself hears nothing."""
    done = command("run", "--local", "--", sys.executable, program(tmp_path, before + ONE_CALL))
    assert done.returncode == 0, done.stderr
    assert ("The program does not instrument itself" in done.stderr) == lent, done.stderr
    assert ("import otel_ratelimit.auto  # noqa: F401" in done.stderr) == lent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--local", "--tokens-per-minute", "-5", "--", "true"], "a number above 0 is needed; got '-5'"),
        (["run", "--local", "--requests-per-minute", "many", "--", "true"], "a number above 0 is needed; got 'many'"),
        (["run", "--local", "--latency", "nan", "--", "true"], "seconds from 0 to 3600 are needed; got 'nan'"),
        (["run", "--local", "--tokens-per-minute", "inf", "--", "true"], "a number above 0 is needed; got 'inf'"),
        (["run", "--tokens-per-minute", "5", "--", "true"], "--tokens-per-minute is of the local server"),
        (["run", "--latency", "0", "--", "true"], "--latency is of the local server"),
        (["run", "--refuse", "1", "--", "true"], "--refuse is of the local server"),
        (["run", "--local", "--refuse", "-1", "--", "true"], "a whole number from 0 to 1000 is needed"),
        (["run", "--json", "no/such/folder.json", "--", "true"], "--json: there is no folder no/such"),
        (["run", "--file", ".", "--", "true"], "--file: . is a folder"),
        (["run", "--"], "nothing to run"),
        (["rnu", "--", "python", "app.py"], "'rnu' is no command; did you mean run?"),
        (["app.py", "-x"], "to run a program: otel-ratelimit run -- python app.py -x"),
        (["sh", "-c", "exit 3"], "to run a program: otel-ratelimit run -- sh -c 'exit 3'"),
        (["out.json"], "for a page of it: otel-ratelimit report out.json"),
        (["zzzz"], "there are demo, run, explain, report, doctor"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(command: Command, arguments: list[str], said: str) -> None:
    """Status 2 and one line that says what would; nothing is run, nothing is a traceback."""
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bare_command_prints_help(command: Command) -> None:
    """All that there is, as with --help."""
    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == command("--help").stdout


GIVES_UP = """
import openai, sys
client = openai.OpenAI()
for tokens in (100, 100_000):
    try:
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=tokens)
    except openai.RateLimitError:
        pass
sys.exit(int(sys.argv[1]))
"""


def test_figures_as_json_and_a_status_for_ci(command: Command, tmp_path: Path) -> None:
    """A call that was given up fails a run that asks for that; the program's own status goes before it."""
    app = program(tmp_path, GIVES_UP)
    fails = ("run", "--local", "--fail-on-give-up", "--json", "figures.json", "--", sys.executable, app)
    done = command(*fails, "0")
    assert done.returncode == 1
    assert "exit status 1, because 1 call gave up (--fail-on-give-up)" in done.stderr
    assert "counted 2 requests: 1 answered, 1 throttled" in done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["exit_status"] == 0
    assert (figures["calls"], figures["throttles"], figures["give_ups"]) == (2, {"tokens": 1}, {"request_too_large": 1})
    assert figures["models"]["gpt-4o"]["calls"] == 2
    assert figures["waited"] == figures["somebody_waited"] == 0
    assert command(*fails, "5").returncode == 5
    assert command("run", "--local", "--", sys.executable, app, "0").returncode == 0


def test_a_program_of_one_call_can_be_throttled(command: Command, tmp_path: Path) -> None:
    """So that it can be seen what a wait is."""
    done = command("run", "--local", "--refuse", "1", "--", sys.executable, program(tmp_path, ONE_CALL))
    assert "counted 2 requests: 1 answered, 1 throttled" in done.stderr
    assert "waits       1  throttled 1" in done.stderr


def test_one_is_no_plural(command: Command, tmp_path: Path) -> None:
    """Counts in words that agree."""
    done = command("run", "--local", "--", sys.executable, program(tmp_path, ONE_CALL))
    assert "otel-ratelimit: 1 call, " in done.stderr
    assert "counted 1 request: 1 answered" in done.stderr
