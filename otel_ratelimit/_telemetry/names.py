"""Every name that leaves this library: spans, metrics, attributes, units, bounds. Imports nothing.

Literals, because the ``gen_ai.*`` constants of ``opentelemetry.semconv`` are deprecated. Own names live under
``otel_ratelimit.`` only: no convention for rate limits exists yet (open-telemetry/semantic-conventions#3361).
``docs/reference/telemetry.md`` is held against this file by a test.
"""

from typing import Final

SCOPE: Final = "otel_ratelimit"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""The conventions that the borrowed names are of: the first with ``gen_ai.provider.name``."""

# --- spans (all INTERNAL); the part behind the word is "{operation} {model}" or "{model}" ---------------------------
SPAN_CALL: Final = "rate_limited"
SPAN_THROTTLE: Final = "throttle"
SPAN_WAIT: Final = "wait"
SPAN_RETRY: Final = "retry"

# --- attributes of the conventions ----------------------------------------------------------------------------------
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
STATUS_CODE: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
RESEND_COUNT: Final = "http.request.resend_count"

# --- attributes of ours ---------------------------------------------------------------------------------------------
MODEL_HERE: Final = "otel_ratelimit.model"
"""The model on every span of ours. Backends for LLMs take a span with ``gen_ai.*`` for a model call, and count it."""

ALIAS: Final = "otel_ratelimit.alias"
THROTTLED: Final = "otel_ratelimit.throttled"
THROTTLE_COUNT: Final = "otel_ratelimit.throttle.count"
WAIT_TOTAL: Final = "otel_ratelimit.wait.total"
OUTCOME: Final = "otel_ratelimit.outcome"
GIVE_UP_REASON: Final = "otel_ratelimit.give_up.reason"
LIMIT_KIND: Final = "otel_ratelimit.limit.kind"
LIMIT_WINDOW: Final = "otel_ratelimit.limit.window"
LIMIT_VALUE: Final = "otel_ratelimit.limit.value"
LIMIT_USED: Final = "otel_ratelimit.limit.used"
LIMIT_REQUESTED: Final = "otel_ratelimit.limit.requested"
HINT_DELAY: Final = "otel_ratelimit.hint.delay"
HINT_SOURCE: Final = "otel_ratelimit.hint.source"
WAIT_REASON: Final = "otel_ratelimit.wait.reason"
WAIT_PLANNED: Final = "otel_ratelimit.wait.planned"
WAIT_HINT: Final = "otel_ratelimit.wait.hint"
WAIT_BUFFER: Final = "otel_ratelimit.wait.buffer"
WAIT_QUEUED: Final = "otel_ratelimit.wait.queued"
WAIT_BACKOFF: Final = "otel_ratelimit.wait.backoff"
WAIT_PART: Final = "otel_ratelimit.wait.part"
RETRY_REASON: Final = "otel_ratelimit.retry.reason"

# --- metrics --------------------------------------------------------------------------------------------------------
THROTTLES: Final = "otel_ratelimit.throttles"
RETRIES: Final = "otel_ratelimit.retries"
GIVE_UPS: Final = "otel_ratelimit.give_ups"
WAIT_DURATION: Final = "otel_ratelimit.wait.duration"
WAIT_TIME: Final = "otel_ratelimit.wait.time"
ATTEMPT_DURATION: Final = "otel_ratelimit.attempt.duration"
CALL_DURATION: Final = "otel_ratelimit.call.duration"
WAITING: Final = "otel_ratelimit.request.waiting"
STORE_ERRORS: Final = "otel_ratelimit.store.errors"
TOKENS_LIMIT: Final = "otel_ratelimit.tokens.limit"
TOKENS_REMAINING: Final = "otel_ratelimit.tokens.remaining"
REQUESTS_LIMIT: Final = "otel_ratelimit.requests.limit"
REQUESTS_REMAINING: Final = "otel_ratelimit.requests.remaining"
TOKENS_RESET: Final = "otel_ratelimit.tokens.reset"
REQUESTS_RESET: Final = "otel_ratelimit.requests.reset"

UNIT_THROTTLE: Final = "{throttle}"
UNIT_RETRY: Final = "{retry}"
UNIT_REQUEST: Final = "{request}"
UNIT_ERROR: Final = "{error}"
UNIT_TOKEN: Final = "{token}"  # noqa: S105 - a unit, no secret
UNIT_SECONDS: Final = "s"

DURATION_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds. From the shortest hints seen (tens of milliseconds) to the SDK's default timeout of 600 s."""

OTHER: Final = "other"
"""Stands in for a model, operation or server once the most below have been seen, so that no input can make series without end."""

ERROR_IN_STREAM: Final = "rate_limit_exceeded"
"""``error.type`` of a throttle inside of a 200: the status says nothing there. OpenAI's own code for it."""

NO_HINT: Final = "none"
"""``hint.source`` of a throttle that named no delay: an absent label and an empty one are the same in Prometheus."""

MAX_MODELS: Final = 200
MAX_OPERATIONS: Final = 100
MAX_SERVERS: Final = 100
"""The SDK has some 150 operations, of which a program uses a few; servers are host and port."""

MAX_SUBJECTS: Final = 2000
"""Operations, models and servers as they were met together: as many as OpenTelemetry's SDK keeps series of a metric."""

MAX_MODEL_LENGTH: Final = 100
