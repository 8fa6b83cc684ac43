"""What telemetry calls the operation of a request: a name of the conventions, or the words of its path that the SDK itself has.

A list, because what stands between them is the program's: an identifier may look like a word (a vector store called ``legal``),
and ends in labels, of which there would be as many as identifiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NAMED: Final[Mapping[str, str]] = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""Paths that the GenAI conventions have a name for."""

_MOST_WORDS: Final = 4

WORDS: Final = frozenset(
    """
    accept activate admin_api_keys agents alerts alpha api_keys archive artifacts assistants attach audio audio_speeches
    audio_transcriptions audit_logs automations batches beta calls cancel cases certificates characters chat chatkit checkpoints
    client_secrets code_interpreter_sessions compact complete completions containers content content_provenance_checks
    conversations costs credentials data_retention deactivate decisions edits embeddings environments evals events extensions
    external_keys external_storage federation_rules file_batches file_search_calls files fine_tuning fork generations graders
    groups hangup hosted_tool_permissions images input_items input_tokens invites invocations items jobs live messages
    model_permissions models moderations openai organization output_items parts pause permissions projects rate_limits realtime
    refer reject remix responses resume roles rotate_secret run runs safety search service_accounts service_tier_settings
    sessions skills speech spend_alerts spend_limit steps subagents submit_tool_outputs templates test threads traces
    transcription_sessions transcriptions translations turns uploads usage users validate variations vaults vector_stores
    versions videos voice_consents voices web_search_calls webhook_endpoints webhook_event_types workload_identity_providers
    """.split()  # noqa: SIM905 - a column of 130 lines says no more
)
"""The fixed parts of the paths in the SDK's resources, up to openai 3.57; a test holds this against the one that is installed."""


def operation_of(path: str) -> str:
    """``gen_ai.operation.name`` for a request path: ``/files/file-abc123/content`` is ``files.content``."""
    path = path.partition("?")[0].strip("/")
    _, azure, behind = path.partition("deployments/")
    if azure:  # the part behind it names a model
        path = behind.partition("/")[2]
    named = _NAMED.get(path)
    if named is not None:
        return named
    return ".".join([part for part in path.split("/") if part in WORDS][:_MOST_WORDS]) or "request"
