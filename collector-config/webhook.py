"""Prints each alert that Alertmanager sends, one line each: where it went, what it is, whom it is about.

``python collector-config/webhook.py``, to see alerts arrive. Standard library only. For real use Alertmanager has integrations.
It listens on loopback; whoever can reach it can have lines printed, and no more: messages are of bounded size and time, texts are
printable.
"""

import argparse
import contextlib
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST_BYTES = 1 << 20
"""Of one message; Alertmanager's have some kilobytes."""

MOST_TEXT = 200
"""Characters of one name or summary."""


class Receiver(BaseHTTPRequestHandler):
    """Takes Alertmanager's webhook messages (version 4)."""

    timeout = 10  # seconds for each read from the connection

    def do_GET(self) -> None:
        """Says that it is there."""
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        """Prints one message: a group of alerts."""
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            self.send_error(411)
            return
        if len(length) > 9 or int(length) > MOST_BYTES:
            self.send_error(413)
            return
        try:
            lines = [line_of(self.path, alert) for alert in json.loads(self.rfile.read(int(length)))["alerts"]]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            self.send_error(400)
            return
        # One write for the whole message: `print` writes a line and its end apart, and two messages arrive in two threads.
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """The alerts are the log."""


def line_of(path: str, alert: dict) -> str:
    """One alert."""
    labels = alert["labels"]
    about = " ".join(plain(labels[name]) for name in ("job", "gen_ai_request_model") if name in labels)
    words = (
        path.strip("/"),
        alert["status"],
        labels["alertname"],
        f"[{about}]",
        alert["annotations"].get("summary", ""),
    )
    return " ".join(map(plain, words))


def plain(text: object) -> str:
    """As it may be written to a terminal: what can be seen, in one line, of bounded length."""
    return "".join(one if one.isprintable() else "?" for one in str(text)[:MOST_TEXT])


def main() -> None:
    """Listen until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Prints each alert that Alertmanager sends.")
    # A container reaches its host by the address of a bridge, not by loopback: `docker network inspect bridge` names it.
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9099)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer((options.host, options.port), Receiver) as server:
        print(f"listening on port {server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
