#!/usr/bin/env bash
# Runs the test-suite on a Python that this machine does not have.
#
#   bash tests/pythons.sh VERSION [-- PYTEST ARGUMENTS]     e.g. bash tests/pythons.sh 3.14 -- tests/unit tests/drivers
#
# As root on Debian: a small Debian sid, which has the newest Pythons (and a newer Redis), is unpacked beside the checkout's caches
# (${XDG_CACHE_HOME:-~/.cache}/otel-ratelimit/sid; it is kept, and asked for packages by the machine's own mirror), and the last commit
# is tested in it. Without arguments: the tests of the core, the drivers, the stores and the telemetry.
#
# Ends with 3 where that cannot be done here.
set -Eeuo pipefail
trap 'echo "pythons.sh: a Debian with this Python cannot be made ready here" >&2; exit 3' ERR
cd "$(dirname "$0")/.."

version=${1:?which Python? e.g. 3.14}
shift
[ "${1:-}" = -- ] && shift
[ $# -gt 0 ] || set -- tests/unit tests/drivers tests/stores tests/telemetry

[ "$(id -u)" = 0 ] || { echo "pythons.sh: needs root" >&2; exit 3; }
command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null 2>&1 ||
  { echo "pythons.sh: debootstrap cannot be had" >&2; exit 3; }
mirror=$({ grep -hsv '^ *#' /etc/apt/sources.list /etc/apt/sources.list.d/* || true; } |
  sed -n 's#.*\(https\?://[^ ]*/debian\)/\?\( .*\)\?$#\1#p' | head -1)
[ -n "$mirror" ] || { echo "pythons.sh: no Debian mirror in /etc/apt" >&2; exit 3; }
root=${XDG_CACHE_HOME:-$HOME/.cache}/otel-ratelimit/sid

inside() { # the environment of pip and uv goes along: where packages come from is the machine's affair
  env PYTHONDONTWRITEBYTECODE= LC_ALL=C.UTF-8 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
}

if [ ! -x "$root/usr/bin/apt-get" ]; then
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase sid "$root" "$mirror" >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; exit 3; }
fi
copied() {
  local file
  for file in "$@"; do
    [ ! -e "$file" ] || { mkdir -p "$root$(dirname "$file")" && cp -L "$file" "$root$file"; }
  done
}
copied /etc/resolv.conf /etc/hosts /etc/pip.conf
mkdir -p "$root/root/.config"
for directory in pip uv; do
  [ ! -d "$HOME/.config/$directory" ] || cp -rL "$HOME/.config/$directory" "$root/root/.config/"
done
[ -d "$root/proc/1" ] || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT
[ -e "$root/dev/urandom" ] || mknod -m 666 "$root/dev/urandom" c 1 9
[ -e "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3

inside apt-get -o Acquire::Check-Valid-Until=false update -qq # a mirror may be a snapshot
# A compiler: for a Python that is not released yet there are few wheels.
inside apt-get install -y -qq --no-install-recommends "python$version-venv" "python$version-dev" g++ redis-server procps openssl >/dev/null
copied /etc/ssl/certs/ca-certificates.crt # a machine may trust one of its own
rm -rf "$root/work"
mkdir "$root/work"
git archive HEAD | tar -x -C "$root/work"
uv=$(command -v uv || true)
[ -n "$uv" ] || { echo "pythons.sh: needs uv (pip install uv)" >&2; exit 3; }
cp -L "$(python3 -c 'import uv; print(uv.find_uv_bin())' 2>/dev/null || echo "$uv")" "$root/usr/bin/uv"
export UV_PYTHON_DOWNLOADS=never
inside sh -c 'cd /work && uv sync --quiet --python "$0" --group test' "$version"

trap - ERR
inside sh -c 'cd /work && . .venv/bin/activate && python -VV && exec python -m pytest -q "$@"' pytest "$@"
