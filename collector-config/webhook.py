"""Prints each alert that Alertmanager sends, one line each: where it went, what it is, whom it is about.

``python collector-config/webhook.py [PORT]`` (9099 by default; 0 takes any free one). Standard library only. To try the alerts
out; Alertmanager's own integrations are for real use.
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Takes Alertmanager's webhook messages (version 4)."""

    def do_POST(self) -> None:
        """One message: a group of alerts."""
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
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9099
    # Containers reach the host by the address of their network's bridge, never by loopback; a free port is for tests on this host.
    with ThreadingHTTPServer(("127.0.0.1" if port == 0 else "", port), Receiver) as server:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"listening on port {server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
