"""Nothing private in what the commands write: the file of a run, its summary, the page made of it."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.commands.conftest import Command

MARK = "zxq"

PROGRAM = f"""
from concurrent.futures import ThreadPoolExecutor
import openai

client = openai.OpenAI(api_key="sk-{MARK}", organization="org-{MARK}", project="proj-{MARK}")

def ask(_):
    messages = [{{"role": "user", "content": "{MARK} prompt"}}]
    client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=1250, user="{MARK}")

with ThreadPoolExecutor(5) as pool:
    list(pool.map(ask, range(5)))  # four fit into 6000 a minute
"""


def test_nothing_private_in_a_run_and_its_page(command: Command, tmp_path: Path) -> None:
    """Throttled, with a marked key, organisation, project and prompt."""
    app = tmp_path / "app.py"
    app.write_text(PROGRAM)
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
    assert done.returncode == 0, done.stderr
    page = command("report", "out.json", "--output", "out.html")
    assert page.returncode == 0, page.stderr
    texts = [done.stderr, page.stdout, page.stderr]
    texts += [(tmp_path / name).read_text() for name in ("out.json", "out.html")]
    assert '"name": "throttle gpt-4o"' in texts[-2]
    assert not [text for text in texts if MARK in text]
