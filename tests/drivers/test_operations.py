"""What an operation is called: words of the SDK's paths, and nothing that a program or its users can make up."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_ratelimit
from otel_ratelimit._drivers.operations import WORDS, operation_of
from otel_ratelimit.testing import ThrottlingServer
from tests.telemetry_probe import Probe

RESOURCES = Path(openai.__file__).parent / "resources"
PATH = re.compile(r"/[a-z_]+(?:/(?:[a-z_]+|\{[^{}]*\}))*\Z")


def paths_of_the_sdk() -> set[str]:
    """Every literal in the SDK's resources that is a path; a parameter is ``{}``."""
    found = set()
    for module in RESOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            else:
                continue
            if PATH.match(text):
                found.add(re.sub(r"\{[^{}]*\}", "{}", text))
    return found


def test_every_path_of_the_installed_sdk() -> None:
    """Its fixed parts are the operation. What fails here after an update of the SDK belongs into the list."""
    paths = paths_of_the_sdk()
    assert len(paths) > 60
    missing = {part for path in paths for part in path.split("/")} - WORDS - {"", "{}"}
    assert not missing


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/chat/completions", "chat"),
        ("/deployments/legal/chat/completions", "chat"),
        ("/deployments/legal/audio/speech", "audio.speech"),
        ("/vector_stores/legal/files", "vector_stores.files"),
        ("/vector_stores/legal/files/contract/content", "vector_stores.files.content"),
        ("/files/file-abc123/content", "files.content"),
        ("/responses/resp_1/cancel?after=me", "responses.cancel"),
        ("/fine_tuning/jobs/smith", "fine_tuning.jobs"),
        ("/smith", "request"),
        ("https://elsewhere.example/smith/files", "files"),
        ("", "request"),
    ],
)
def test_identifiers_never_pass(path: str, operation: str) -> None:
    """Also where they look like words."""
    assert operation_of(path) == operation


@given(st.text())
def test_any_path(path: str) -> None:
    """At most four words, all of them known."""
    parts = operation_of(path).split(".")
    assert len(parts) <= 4
    assert set(parts) <= WORDS | {"request", "chat", "text_completion", "embeddings"}


def test_a_vector_store_with_a_name() -> None:
    """Over a socket: the name is nowhere in what telemetry says."""
    probe = Probe()
    otel_ratelimit.instrument(tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider)
    with ThrottlingServer() as server, openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        client.vector_stores.retrieve("legal")
    (point,) = probe.points("otel_ratelimit.call.duration")
    assert (point.attributes or {})["gen_ai.operation.name"] == "vector_stores"
    probe.shutdown()
