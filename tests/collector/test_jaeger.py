"""Jaeger as it is shipped here: with a UI where it is given one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.collector.programs import CONFIGURATION, find, get, missing
from tests.collector.traces import JaegerTraces

pytestmark = pytest.mark.slow

needs_jaeger = pytest.mark.skipif(missing("jaeger") is not None, reason=missing("jaeger") or "")


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    """What stands for a release's: the page that all others lead to, and one file."""
    directory = tmp_path / "ui"
    (directory / "static").mkdir(parents=True)
    (directory / "index.html").write_text('<html><head><base href="/"/></head><body>the UI</body></html>')
    (directory / "static" / "main.js").write_text("// a script")
    return directory


@needs_jaeger
def test_the_ui_is_served_from_a_directory(ui: Path, tmp_path: Path) -> None:
    """Its pages, the monitor page by the link that is set to this project's spans, its files; and the API beside it."""
    with JaegerTraces(tmp_path, "http://127.0.0.1:9", ui) as jaeger:
        assert "the UI" in get(f"{jaeger.url}/search")
        assert "the UI" in get(jaeger.monitor_url("shop"))
        assert "a script" in get(f"{jaeger.url}/static/main.js")
        assert jaeger.search("shop") == []


@needs_jaeger
def test_tools_keep_where_the_ui_is(ui: Path, tmp_path: Path) -> None:
    """``tools.sh jaeger --ui DIRECTORY`` is said once; a directory without a UI is refused."""
    kept = tmp_path / "cache" / "otel-ratelimit"
    built = Path(find("jaeger") or "")
    (kept / built.parent.name).mkdir(parents=True)
    (kept / built.parent.name / "jaeger").symlink_to(built)

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(CONFIGURATION / "tools.sh"), "jaeger", *arguments],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )

    done = tool("--ui", str(ui))
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()).parent / "ui").resolve() == ui.resolve()
    refused = tool("--ui", str(tmp_path))
    assert refused.returncode == 2
    assert "index.html" in refused.stderr
