"""``python -m otel_ratelimit.testing``: the server in the foreground, to try a program against by hand."""

from __future__ import annotations

import argparse
import sys
import time

from otel_ratelimit.testing import Limit, ThrottlingServer


def main() -> int:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m otel_ratelimit.testing")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--tokens-per-minute", type=float, default=200_000)
    parser.add_argument("--requests-per-minute", type=float, default=500)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds before an answer (default: %(default)s)")
    options = parser.parse_args()
    limits = [Limit("tokens", options.tokens_per_minute), Limit("requests", options.requests_per_minute)]
    with ThrottlingServer(limits, latency=options.latency, port=options.port) as server:
        print(f"OPENAI_BASE_URL={server.base_url} (any key will do; Ctrl-C stops)", flush=True)  # noqa: T201
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            print(server.counts)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
