// A module of its own, because Jaeger's has a `replace`, which `go install` refuses. `bash collector-config/tools.sh jaeger` builds
// Jaeger 2.13 from it: with the query API, without the UI, whose files are not in the module.
module otel-ratelimit.example/jaeger

go 1.25.0

require github.com/jaegertracing/jaeger v1.76.0
