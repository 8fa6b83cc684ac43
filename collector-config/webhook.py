"""Prints each alert that Alertmanager sends, one line each: where it went, what it is, whom it is about.

``python collector-config/webhook.py``, to see alerts arrive. Standard library only. For real use Alertmanager has integrations.
"""

import argparse
import contextlib
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Takes Alertmanager's webhook messages (version 4)."""

    def do_GET(self) -> None:
        """Says that it is there."""
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        """Prints one message: a group of alerts."""
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for alert in message["alerts"]:
            labels = alert["labels"]
            about = " ".join(labels[name] for name in ("job", "gen_ai_request_model") if name in labels)
            summary = alert["annotations"].get("summary", "")
            print(self.path.strip("/"), alert["status"], labels["alertname"], f"[{about}]", summary, flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """The alerts are the log."""


def main() -> None:
    """Listen until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Prints each alert that Alertmanager sends.")
    # A container reaches its host by the address of a bridge, not by loopback.
    parser.add_argument("--host", default="0.0.0.0", help="where to listen (default: everywhere)")
    parser.add_argument("--port", type=int, default=9099)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer((options.host, options.port), Receiver) as server:
        print(f"listening on port {server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
