// `bash collector-config/tools.sh prometheus3` builds Prometheus 3.16 from it, without service discovery and without the UI, for the
// tests of the variant that takes OTLP (prometheus/prometheus-otlp.yaml): Debian's Prometheus is 2.42.
module otel-ratelimit.example/prometheus3

go 1.25.0

require github.com/prometheus/prometheus v0.316.0
