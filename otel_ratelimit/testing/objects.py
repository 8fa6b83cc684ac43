"""The things that a server keeps (files, models, batches, fine-tuning jobs), as its endpoints show them: always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from otel_ratelimit.testing.answers import CREATED

FILES: Final = 5
JOBS: Final = 2
DEFAULT_PAGE: Final = 2
"""Objects on a page where the request sets no limit; few, so that going through a list takes several requests."""


def page(items: Sequence[Mapping[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """The part of a list that follows ``after``."""
    identifiers = [item["id"] for item in items]
    start = identifiers.index(after) + 1 if after in identifiers else 0
    shown = items[start : start + max(1, limit)]
    return {
        "object": "list",
        "data": list(shown),
        "has_more": start + len(shown) < len(items),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def models() -> dict[str, Any]:
    """Two models."""
    return {"object": "list", "data": [model(name) for name in ("gpt-4o", "gpt-4o-mini")]}


def model(name: str) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "test"}


def file(identifier: str, size: int = 0, name: str = "data.jsonl", digest: str = "") -> dict[str, Any]:
    """One file; ``sha256`` is of the bytes that arrived, so that a replay can be compared byte for byte."""
    return {
        "id": identifier, "object": "file", "bytes": size, "created_at": CREATED, "filename": name,
        "purpose": "batch", "status": "processed", "sha256": digest,
    }  # fmt: skip


def files() -> list[dict[str, Any]]:
    """All files."""
    return [file(f"file-{number}") for number in range(FILES)]


def batch(identifier: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One batch that has just been made, with what the request said of it."""
    asked = {"endpoint": "/v1/chat/completions", "input_file_id": "file-0", "completion_window": "24h", **(body or {})}
    return {"id": identifier, "object": "batch", "created_at": CREATED, "status": "validating", **asked}


def batches() -> list[dict[str, Any]]:
    """All batches."""
    return [batch(f"batch_{number}") for number in range(JOBS)]


def job(identifier: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One fine-tuning job that waits its turn."""
    asked = body or {}
    return {
        "id": identifier,
        "object": "fine_tuning.job",
        "created_at": CREATED,
        "model": asked.get("model", "gpt-4o-mini"),
        "training_file": asked.get("training_file", "file-0"),
        "status": "queued",
        "hyperparameters": {"n_epochs": "auto"},
        "organization_id": "org-test",
        "result_files": [],
        "seed": 0,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "trained_tokens": None,
        "validation_file": None,
    }


def jobs() -> list[dict[str, Any]]:
    """All fine-tuning jobs."""
    return [job(f"ftjob-{number}") for number in range(JOBS)]


def upload(identifier: str, body: Mapping[str, Any] | None = None, *, status: str = "pending") -> dict[str, Any]:
    """An upload in parts; complete, it has become a file."""
    asked = body or {}
    return {
        "id": identifier, "object": "upload", "bytes": asked.get("bytes", 0), "created_at": CREATED,
        "expires_at": CREATED + 3600, "filename": asked.get("filename", "data.jsonl"),
        "purpose": asked.get("purpose", "batch"), "status": status,
        "file": file("file-new") if status == "completed" else None,
    }  # fmt: skip


def vector_store(identifier: str) -> dict[str, Any]:
    """One vector store, ready."""
    return {
        "id": identifier, "object": "vector_store", "created_at": CREATED, "name": "store", "status": "completed",
        "usage_bytes": 0, "last_active_at": CREATED, "metadata": {}, "file_counts": _counts(),
    }  # fmt: skip


def vector_store_file(identifier: str, *, status: str = "completed") -> dict[str, Any]:
    """A file in a vector store; when it has just been added it is still being read."""
    return {
        "id": identifier, "object": "vector_store.file", "created_at": CREATED, "status": status, "usage_bytes": 0,
        "vector_store_id": "vs_1", "last_error": None, "attributes": {},
    }  # fmt: skip


def vector_store_batch(identifier: str, *, status: str = "completed") -> dict[str, Any]:
    """A batch of such files."""
    return {
        "id": identifier, "object": "vector_store.files_batch", "created_at": CREATED, "status": status,
        "vector_store_id": "vs_1", "file_counts": _counts(),
    }  # fmt: skip


def _counts() -> dict[str, int]:
    return {"cancelled": 0, "completed": 1, "failed": 0, "in_progress": 0, "total": 1}


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
