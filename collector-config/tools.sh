#!/usr/bin/env bash
# Gets the real programs that the tests and chain.sh run. Does nothing where they are there already.
#
#   tools.sh packages     Prometheus and Alertmanager, from Debian's packages (needs root where they are missing)
#   tools.sh collector    builds the Collector of builder.yaml with Go, and prints where it is
#   tools.sh jaeger [--ui DIRECTORY]
#                         builds Jaeger of jaeger/go.mod with Go, and prints where it is; with --ui it serves the UI whose files are
#                         in DIRECTORY (index.html and its like), also later: the module has none
#   tools.sh prometheus3  builds Prometheus of prometheus3/go.mod with Go, and prints where it is
#   tools.sh phoenix      installs Arize Phoenix of phoenix/requirements.txt with uv, and prints where it is
#   tools.sh find NAME    prints where one of these four is, if it is there; builds nothing
#   tools.sh place NAME   prints where it would be
#
# Ends with 3 where a program can neither be found nor had. What is built is kept outside of the checkout, under
# ${XDG_CACHE_HOME:-~/.cache}/otel-ratelimit, by the hash of what it is built from.
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/otel-ratelimit
work= # a directory to build in
trap 'rm -rf "$work"' EXIT

source_of() {
  case $1 in
    collector) echo "$here/builder.yaml" ;;
    jaeger) echo "$here/jaeger/go.mod" ;;
    prometheus3) echo "$here/prometheus3/go.mod" ;;
    phoenix) echo "$here/phoenix/requirements.txt" ;;
    *) echo "tools.sh: no such program: $1" >&2; exit 2 ;;
  esac
}

place_of() { # only the lines that are no comments make another program
  local source
  source=$(source_of "$1")
  local place
  place=$cache/$1-$(grep -v '^ *\(#\|//\)' "$source" | sha256sum | cut -c1-16)
  [ "$1" = phoenix ] && place=$place/bin # a Python environment of its own
  echo "$place/$1"
}

build() {
  local place builder
  place=$(place_of "$1")
  if [ ! -x "$place" ]; then
    command -v go >/dev/null || { echo "tools.sh: Go is not installed; $1 cannot be built" >&2; exit 3; }
    work=$(mktemp -d)
    printf 'module probe\n\ngo 1.25.0\n' >"$work/go.mod"
    (cd "$work" && go list -m >/dev/null) || { echo "tools.sh: $1 needs Go 1.25 or newer" >&2; exit 3; }
    rm "$work/go.mod"
    echo "building $1, once; this takes some minutes" >&2
    if [ "$1" = collector ]; then
      builder=$(sed -n 's/^  version: /v/p' "$here/builder.yaml")
      GOBIN=$work nice go install "go.opentelemetry.io/collector/cmd/builder@$builder"
      sed "s|^dist:|dist:\n  output_path: $work/out|" "$here/builder.yaml" >"$work/builder.yaml"
      nice "$work/builder" --config "$work/builder.yaml" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
      mv "$work/out/otelcol" "$work/collector"
    else
      local package=github.com/jaegertracing/jaeger/cmd/jaeger
      [ "$1" = prometheus3 ] && package=github.com/prometheus/prometheus/cmd/prometheus
      cp "$(source_of "$1")" "$work/go.mod"
      (cd "$work" && nice go build -mod=mod -tags remove_all_sd -ldflags='-s -w' -o "$1" "$package") \
        2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    fi
    mkdir -p "$(dirname "$place")"
    mv "$work/$1" "$place.new"
    mv "$place.new" "$place" # whole or not at all
  fi
  echo "$place"
}

install() { # Phoenix: a tree of packages that must not meet the project's own
  local place
  place=$(place_of phoenix)
  if [ ! -x "$place" ]; then
    command -v uv >/dev/null || { echo "tools.sh: uv is not installed; phoenix cannot be had" >&2; exit 3; }
    local home=${place%/bin/phoenix}
    rm -rf "$home"
    uv venv --quiet --python 3.11 "$home"
    uv pip install --quiet --python "$home/bin/python" --requirements "$here/phoenix/requirements.txt" ||
      { rm -rf "$home"; exit 3; }
  fi
  echo "$place"
}

packages() {
  local missing=()
  command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
  command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
  [ ${#missing[@]} -eq 0 ] && return
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "tools.sh: missing ${missing[*]}; as root on Debian: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 3
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

case ${1-} in
  packages) packages ;;
  collector | prometheus3) build "$1" ;;
  jaeger)
    if [ "${2-}" = --ui ]; then
      [ -f "${3-}/index.html" ] || { echo "tools.sh: --ui: there is no index.html in ${3:-(no directory)}" >&2; exit 2; }
    fi
    build jaeger
    [ "${2-}" != --ui ] || ln -sfn "$(cd "$3" && pwd)" "$(dirname "$(place_of jaeger)")/ui"
    ;;
  phoenix) install ;;
  find)
    place=$(place_of "${2-}")
    [ -x "$place" ] && echo "$place"
    ;;
  place) place_of "${2-}" ;;
  *)
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
