#!/usr/bin/env bash
# Builds daemon/Dockerfile and runs what comes out, on a machine without a container engine.
#
# buildah builds and runs as root without daemon, namespaces or cgroups (chroot isolation). Where
# the base image cannot be pulled, a Debian of the same release with the same Python takes its
# name: the Dockerfile is used as it is.
#
# Environment:
#   MIRROR      Debian mirror to make the base from; default: the one that apt uses
#   CA_BUNDLE   certificates that the build trusts; default: the machine's
#   BASE_IMAGE  an archive (docker-archive, `docker save`) of the real base, instead of making one
#   PORT        where the daemon listens meanwhile; default: 19464
#   IMAGE_TEST_DIR  where to work (10 GB, removed at the end); default: a new folder in /var/tmp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PORT=${PORT:-19464}
CA_BUNDLE=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
BASE=$(sed -n 's/^FROM \([^ ]*\).*/\1/p' daemon/Dockerfile | sort -u)
RELEASE=${BASE##*-} # bookworm, of python:3.11-slim-bookworm

missing() {
    echo "image-test: $1, wanted $2" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || missing "user $(id -un)" "root (buildah and debootstrap need it)"
tools=(buildah)
[ -n "${BASE_IMAGE:-}" ] || tools+=(debootstrap)
for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || missing "no $tool on this machine" \
        "it (apt-get install --no-install-recommends ${tools[*]})"
done
[ -x .venv/bin/forecastd ] || missing "no .venv here" "one, for the broker (make image-test)"
[ "$(wc -l <<<"$BASE")" = 1 ] || missing "base images $(tr '\n' ' ' <<<"$BASE")" "one"

# In a mount namespace of its own: what is mounted here ends with the script.
[ -n "${FORECASTD_IMAGE_TEST:-}" ] ||
    exec env FORECASTD_IMAGE_TEST=1 unshare --mount --propagation private "$0" "$@"

work=$(mktemp -d "${IMAGE_TEST_DIR:-/var/tmp}/forecastd-image-XXXXXX")
root=
started=() # process ids that end with the script
export BUILDAH_ISOLATION=chroot
buildah() {
    command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"
}
cleanup() {
    if [ "${#started[@]}" != 0 ]; then kill "${started[@]}" 2>/dev/null || true; wait || true; fi
    if [ -n "$root" ]; then umount --recursive --lazy "$root" || true; fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
fail() {
    echo "image-test: $1" >&2
    exit 1
}

wait_for() { # SECONDS WHAT COMMAND...: until the command succeeds
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { tail -n 20 "$work"/*.log >&2; fail "no $what in time"; }
        sleep 0.5
    done
    echo "$what after ${SECONDS}s"
}
fetch() { # PATH PATTERN: the daemon answers 200 there, with a line like that
    .venv/bin/python - "http://127.0.0.1:$PORT/$1" "$2" <<'PYTHON'
import re, sys, urllib.request
body = urllib.request.urlopen(sys.argv[1], timeout=5).read().decode()
sys.exit(not re.search(sys.argv[2], body, re.MULTILINE))
PYTHON
}

base() { # the base image under the name that FROM uses
    if [ -n "${BASE_IMAGE:-}" ]; then
        step "base: $BASE from $BASE_IMAGE"
        buildah pull -q "docker-archive:$BASE_IMAGE" >/dev/null
        return
    fi
    local mirror
    # shellcheck disable=SC2016  # what apt-get fills in
    mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
        'Created-By: Packages' | awk -v release="$RELEASE" '$2 == release && $3 == "main" {print $1; exit}')}
    [ -n "$mirror" ] || missing "no source of $RELEASE in apt's lists" "MIRROR=<address>"
    step "base: a Debian $RELEASE as $BASE"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        "$RELEASE" "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap of $RELEASE ended with an error"; }
    # Where the official image has it. As in that one, pip may install beside the system's packages.
    ln -s /usr/bin/python3 "$work/base/usr/local/bin/python3"
    cp "$CA_BUNDLE" "$work/base/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$work"/base/var/cache/apt/archives/*.deb
    local container
    container=$(buildah from scratch)
    buildah copy -q "$container" "$work/base" / >/dev/null
    buildah commit -q --rm "$container" "localhost/$BASE" >/dev/null
    rm -rf --one-file-system "$work/base"
}

base
step "build: daemon/Dockerfile"
buildah build --pull=never --network host --format docker --layers=false --quiet \
    --tag localhost/forecastd --file daemon/Dockerfile .
container=$(buildah from --pull-never localhost/forecastd)
root=$(buildah mount "$container")
du -sh "$root" | awk '{print "image: " $1}'

# From here on as docker-compose.yml has it: a read-only root, /tmp in memory and one volume, which
# takes the owner that its folder has in the image. /run is for buildah, as it is for an engine.
cp -a "$root/var/lib/forecastd" "$work/volume"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$work/volume" "$root/var/lib/forecastd"
inside() { # in the container, as the user of the image
    buildah run --network host "$container" -- "$@" </dev/null
}

step "user"
uid=$(inside python3 -c 'import os; print(os.getuid())')
[ "$uid" != 0 ] || fail "the image runs as root, wanted another user"
echo "uid $uid"

step "a root that is read-only"
for folder in / /opt/forecastd /srv/forecastd /etc; do
    ! buildah run --user 0:0 "$container" -- touch "$folder/probe" 2>/dev/null ||
        fail "$folder can be written to"
done
inside touch /tmp/probe /var/lib/forecastd/probe /var/lib/forecastd/models/probe

step "forecastd --version"
inside forecastd --version

step "forecastd settings"
inside forecastd settings

step "a broker that is not there"
# Port 9 is `discard`: nobody listens.
inside env FORECASTD_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9 FORECASTD_STARTUP_TIMEOUT=15s \
    FORECASTD_OBSERVE__PORT="$PORT" forecastd run >"$work/alone.log" 2>&1 &
alone=$!
mapfile -t health < <(buildah inspect --format \
    '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' "$container" | sed '1d;/^$/d')
wait_for 15 "healthy, waiting for its broker" \
    inside env FORECASTD_OBSERVE__PORT="$PORT" "${health[@]}"
status=0
wait "$alone" || status=$?
cat "$work/alone.log"
[ "$status" != 0 ] || fail "the daemon ended with status 0 without a broker"
grep -q '127.0.0.1:9' "$work/alone.log" || fail "the daemon ended without naming the broker"
! grep -q Traceback "$work/alone.log" || fail "the daemon ended with a traceback"
! inside env FORECASTD_OBSERVE__PORT="$PORT" "${health[@]}" 2>/dev/null ||
    fail "a daemon that has ended is healthy"

step "training"
awk 'BEGIN {
    print "timestamp,a,b"
    for (i = 0; i < 2000; i++) print 1700000000 + i "," sin(i / 5) "," 3 + cos(i / 9)
}' >"$work/volume/history.csv"
inside forecastd train /var/lib/forecastd/history.csv --out /var/lib/forecastd/models/first \
    --epochs 2

step "records in, forecasts out"
.venv/bin/forecastd broker --data "$work/kafka" >"$work/broker.log" 2>&1 &
started+=($!)
wait_for 120 "a broker" grep -q '^ready ' "$work/broker.log"
broker=$(sed -n 's/^ready //p' "$work/broker.log")
# No namespace of process ids here, so what a command writes down is a number of this machine's.
inside sh -c 'echo $$ >/tmp/feed.pid; exec "$@"' sh \
    forecastd feed --broker "$broker" --topic records >"$work/feed.log" 2>&1 &
wait_for 30 "a feed" test -s "$root/tmp/feed.pid"
started+=("$(cat "$root/tmp/feed.pid")")
inside sh -c 'echo $$ >/tmp/daemon.pid; exec "$@"' sh env \
    FORECASTD_KAFKA__BOOTSTRAP_SERVERS="$broker" FORECASTD_OBSERVE__PORT="$PORT" \
    FORECASTD_MODELS__SERVE=/var/lib/forecastd/models/first forecastd run >"$work/daemon.log" 2>&1 &
daemon=$!
wait_for 30 "a daemon" test -s "$root/tmp/daemon.pid"
started+=("$(cat "$root/tmp/daemon.pid")")
wait_for 60 "ready" fetch readyz ""
wait_for 90 "forecasts of the model" \
    fetch metrics '^forecastd_forecasts_published_total{.*source="model".*} [1-9]'
kill -TERM "$(cat "$root/tmp/daemon.pid")"
status=0
wait "$daemon" || status=$?
tail -n 5 "$work/daemon.log"
[ "$status" = 0 ] || fail "the daemon ended with status $status after SIGTERM, wanted 0"

echo
echo "image-test: passed in ${SECONDS}s"
