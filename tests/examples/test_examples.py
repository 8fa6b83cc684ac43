"""Every file of examples/ runs as it is, with the command that its README names; none is forgotten."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_ratelimit.testing import Limit, ThrottlingServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LOCALLY = [sys.executable, "-m", "otel_ratelimit", "run", "--local", "--latency", "0"]

# The file, the package that it needs, what it prints, and how many calls that takes. The options are those of the README.
SCRIPTS: list[tuple[str, str, str, int]] = [
    ("quickstart.py", "openai", "Hello from the throttling server.", 1),
    ("fan_out.py", "openai", "60 answers, the first: Hello", 60),
    ("progress_tqdm.py", "tqdm", "", 60),
    ("progress_rich.py", "rich", "60/60", 60),
    ("streaming.py", "openai", "Hello from the throttling server.", 1),
    ("tools_and_structured_output.py", "openai", "advice: umbrella=False", 2),
    ("embeddings.py", "openai", "400 vectors of 8 numbers", 40),
    ("azure.py", "openai", "Hello from the throttling server.", 1),
    ("agent.py", "agents", "Hello from the throttling server.", 1),
    ("langchain_chat.py", "langchain_openai", "20 answers, the first: Hello", 20),
    ("fastapi_service.py", "fastapi", '{"answer":"Hello from the throttling server."}', 0),
    ("celery_worker.py", "celery", "40 summaries, the first: Hello", 40),
]
ELSEWHERE = {"notebook.ipynb"}


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: uv sync --group examples")


def clean() -> dict[str, str]:
    """Of the environment, what has nothing to do with OpenAI; the SDKs' own telemetry off."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "AZURE_", "OTEL_"))}
    return {**kept, "LANGSMITH_TRACING": "false"}


def options_of(file: str) -> list[str]:
    """What the README of the folder says behind ``otel-ratelimit run``."""
    row = re.search(
        rf"^\| \[{re.escape(file)}\].*?\| `(--local[^`]*)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE
    )
    assert row, file
    return row[1].split()


@pytest.mark.parametrize(("file", "module", "said", "calls"), SCRIPTS, ids=[row[0] for row in SCRIPTS])
def test_a_script(file: str, module: str, said: str, calls: int, tmp_path: Path) -> None:
    """With the options of its README: every call is answered, as many as it makes, and the limit was met."""
    needs(module)
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "otel_ratelimit", "run", *options_of(file), "--latency", "0", "--json", figures, "--",
            sys.executable, EXAMPLES / file,
        ],
        env=clean(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    told = json.loads(figures.read_text())
    assert sum(told["throttles"].values()) + sum(told["waits"].values()) >= 1, done.stderr
    if calls:  # the service ends with its user's question, in the middle of its background work
        assert f": {calls} answered, " in done.stderr


def test_the_notebook(tmp_path: Path) -> None:
    """Executed from the first cell to the last, against the local server."""
    needs("nbclient")
    needs("ipykernel")
    notebook = tmp_path / "notebook.ipynb"
    shutil.copy(EXAMPLES / "notebook.ipynb", notebook)
    code = (
        f"import nbclient, nbformat; notebook = nbformat.read({str(notebook)!r}, 4);"
        f" nbclient.NotebookClient(notebook).execute(); nbformat.write(notebook, {str(notebook)!r})"
    )
    done = subprocess.run(
        [*LOCALLY, "--tokens-per-minute", "7900", "--", sys.executable, "-W", "ignore", "-c", code],
        env={**clean(), "IPYTHONDIR": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "20 answers" in notebook.read_text()
    assert ": 20 answered, " in done.stderr


@contextmanager
def running(
    command: list[str | Path], environment: dict[str, str], **options: str | Path
) -> Iterator[subprocess.Popen[str]]:
    """A process for the time of the block; asked to end, and then ended."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=options.get("cwd")
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_the_fastapi_service() -> None:
    """Its background batch fills the limit; a user is answered all the same, before the batch is through."""
    needs("fastapi")
    port = free_port()
    with ThrottlingServer([Limit("tokens", 4_000, window=30)], latency=0.01) as server:
        environment = {**clean(), "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "local"}
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "uvicorn",
            "--app-dir",
            EXAMPLES,
            "--port",
            str(port),
            "fastapi_service:app",
        ]
        with running(command, environment) as service:
            server.wait_for(14, timeout=60)  # the batch has met the limit
            assert service.poll() is None
            url = f"http://127.0.0.1:{port}/answer?question=why"
            with urllib.request.urlopen(url, timeout=60) as response:
                assert json.load(response) == {"answer": "Hello from the throttling server."}
            assert server.counts.succeeded < 21  # 20 of the batch and the user's


def test_the_celery_workers(tmp_path: Path) -> None:
    """A real Redis, two worker processes, forty tasks; all are answered."""
    needs("celery")
    needs("redis")
    from tests.helpers import redis_server

    if redis_server.PROGRAM is None:
        pytest.skip(redis_server.MISSING)
    with (
        ThrottlingServer([Limit("tokens", 11_700)], latency=0.01) as server,
        redis_server.RedisServer() as redis,
    ):
        environment = {
            **clean(),
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "local",
            "CELERY_BROKER": redis.url,
            "OTEL_RATELIMIT_STORE": redis.url.removesuffix("0") + "1",
            "C_FORCE_ROOT": "1",  # CI runs as root
        }
        worker: list[str | Path] = [
            sys.executable, "-m", "celery", "-A", "celery_worker", "worker", "--concurrency", "2", "--without-mingle",
        ]  # fmt: skip
        with running(worker, environment, cwd=EXAMPLES):
            done = subprocess.run(
                [sys.executable, EXAMPLES / "celery_worker.py"],
                env=environment,
                cwd=EXAMPLES,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        assert "40 summaries, the first: Hello from the throttling server." in done.stdout
        assert server.counts.succeeded == 40


def test_no_example_is_forgotten() -> None:
    """Each file has a row in the README of the folder, and a test here."""
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert files == {row[0] for row in SCRIPTS} | ELSEWHERE
    listed = re.findall(r"^\| \[([^]]+)\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == files
    assert all(name == target for name, target in listed)


def test_a_service_that_is_busy_says_so() -> None:
    """The example's own error handling: a user whose turn would come too late gets a 503, not a traceback."""
    needs("fastapi")
    port = free_port()
    with ThrottlingServer([Limit("tokens", 400, window=3600)]) as server:
        environment = {**clean(), "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "local"}
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "uvicorn",
            "--app-dir",
            EXAMPLES,
            "--port",
            str(port),
            "fastapi_service:app",
        ]
        with running(command, environment):
            server.wait_for(2, timeout=60)
            time.sleep(0.2)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/answer?question=why", timeout=60)
            assert caught.value.code == 503
            assert "busy" in caught.value.read().decode()
            caught.value.close()
