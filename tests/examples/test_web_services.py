"""The services of docs/how-to/web-services.md, served for real: a short wait is waited, a long one is a 503 at once."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from tests.docs.pages import ROOT, Page
from tests.examples.test_examples import clean, free_port, needs, running

PATH = ROOT / "docs" / "how-to" / "web-services.md"


def get(url: str) -> tuple[int, str | None, str]:
    """Status, Retry-After, body."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status, response.headers["retry-after"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["retry-after"], error.read().decode()


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            get(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the service never came up")


@pytest.mark.parametrize(
    ("file", "package", "command"),
    [
        ("service.py", "fastapi", ["-m", "uvicorn", "service:app", "--port"]),
        ("flask_service.py", "flask", ["-m", "flask", "--app", "flask_service", "run", "--port"]),
    ],
)
def test_a_service(file: str, package: str, command: list[str], tmp_path: Path) -> None:
    """As the page has it, against a server that asks for 0.2 s, then for 30 s, then for nothing."""
    needs(package)
    page = Page(PATH, PATH.read_text("utf-8"))
    code = "\n".join(block.text for block in page.blocks() if block.rest == f'title="{file}"')
    (tmp_path / file).write_text(code)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ThrottlingServer() as server:
        environment = {
            **clean(),
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "local",
            "PYTHONPATH": os.fspath(ROOT),
        }
        with running([sys.executable, *command, str(port)], environment, cwd=tmp_path):
            wait_for(url)
            server.script([throttle_reply(delay=0.2)])
            status, _, body = get(f"{url}/answer?question=why")
            assert (status, "Hello" in body) == (200, True)
            assert server.counts.throttled == 1
            server.script([throttle_reply(delay=30.0)])
            began = time.monotonic()
            assert get(f"{url}/answer?question=why")[:2] == (503, "30")
            assert time.monotonic() - began < 25  # the 30 s were not waited for
            assert server.counts.throttled == 2
