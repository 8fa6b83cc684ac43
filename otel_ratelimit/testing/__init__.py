"""An OpenAI-compatible server that throttles for real, to test programs with: real sockets, real buckets, OpenAI's words.

Needs the extra ``testing``. Independent of the rest of the package: it neither instruments anything nor needs it to.
"""

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"otel_ratelimit.testing needs {error.name}: pip install 'otel-ratelimit[testing]'", name=error.name
    ) from error

from otel_ratelimit.testing.app import Counts, Received, ThrottlingApp
from otel_ratelimit.testing.buckets import Limit
from otel_ratelimit.testing.replies import Fault, Reply, throttle_reply
from otel_ratelimit.testing.server import ThrottlingServer
from otel_ratelimit.testing.wording import AZURE, BARE, HEADERS_ONLY, MESSAGE_ONLY, OPENAI, Dialect

__all__ = [
    "AZURE",
    "BARE",
    "HEADERS_ONLY",
    "MESSAGE_ONLY",
    "OPENAI",
    "Counts",
    "Dialect",
    "Fault",
    "Limit",
    "Received",
    "Reply",
    "ThrottlingApp",
    "ThrottlingServer",
    "throttle_reply",
]
