"""``python -m otel_ratelimit.testing``: the server in the foreground, to try a program against by hand."""

from __future__ import annotations

import argparse
import sys
import threading

from otel_ratelimit.testing import Limit, ThrottlingServer


def main() -> int:
    """Run until Ctrl-C; then tell what was counted. 1 where the port is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m otel_ratelimit.testing", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    parser.add_argument("--tokens-per-minute", type=float, default=200_000, help="the token limit")
    parser.add_argument("--requests-per-minute", type=float, default=500, help="the request limit")
    parser.add_argument("--latency", type=float, default=0.5, help="seconds before an answer")
    options = parser.parse_args()
    try:
        limits = [Limit("tokens", options.tokens_per_minute), Limit("requests", options.requests_per_minute)]
        server = ThrottlingServer(limits, latency=options.latency, port=options.port)
    except ValueError as error:
        parser.error(str(error))
    try:
        server.start()
    except (OSError, OverflowError) as error:
        print(f"cannot listen on port {options.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    try:
        print(f"OPENAI_BASE_URL={server.base_url} (any key will do; Ctrl-C stops)", flush=True)  # noqa: T201
        threading.Event().wait()
    except KeyboardInterrupt:
        counts = server.counts
        print(  # noqa: T201
            f"\n{counts.requests} requests: {counts.succeeded} succeeded, {counts.throttled} throttled; "
            f"at most {counts.peak_concurrency} at once"
        )
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
