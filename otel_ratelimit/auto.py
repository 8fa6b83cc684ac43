"""The one import: ``import otel_ratelimit.auto`` patches the ``openai`` SDK at once.

Settings come from ``OTEL_RATELIMIT_*``. Nobody's OpenTelemetry set-up is taken over: spans and metrics go to the global
providers, also if the program sets them later. Only if none has been set by the first OpenAI call, and the environment asks
for one, is the SDK set up from the standard ``OTEL_*`` variables (see ``_setup``).
"""

from otel_ratelimit._instrumentor import RateLimitInstrumentor

if not RateLimitInstrumentor().is_instrumented_by_opentelemetry:  # opentelemetry-instrument may have been first
    RateLimitInstrumentor().instrument()
