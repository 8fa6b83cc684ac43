"""``otel-ratelimit demo``: real SDK calls against a real throttling server on loopback, without and with the plugin."""
