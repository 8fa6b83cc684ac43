#!/usr/bin/env bash
# Runs the whole chain once, on free loopback ports: calls of the real SDK against a throttling server -> Collector -> Jaeger and
# Prometheus -> Alertmanager -> webhook, with the configurations in this folder, and prints what each stage counted beside the
# server's own count. It installs nothing but what is missing: Debian's packages (as root) and, with Go, the Collector and
# Jaeger, built once. The first run takes some minutes for that; later ones half a minute.
#
#   chain.sh                 all of it
#   chain.sh --no-jaeger     a sink for OTLP in Jaeger's place, if Jaeger has not been built yet
#   chain.sh --ui DIRECTORY  Jaeger with its UI, whose files are in DIRECTORY (docs/how-to/view-in-jaeger.md says where a release has them)
#   chain.sh --shipped       at the shipped intervals, with a restart of the Collector in the middle; some four minutes
#   chain.sh --stay          leaves everything running at its end, and says where
set -euo pipefail
cd "$(dirname "$0")/.."
bash collector-config/tools.sh packages
bash collector-config/tools.sh collector >/dev/null
if [ "${1-}" = --no-jaeger ]; then
  shift
else
  bash collector-config/tools.sh jaeger >/dev/null
fi
command -v uv >/dev/null || pip install --quiet uv
exec uv run --quiet --group test python -m tests.collector.chain "$@"
