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
#   IMAGE_TEST_DIR  where to work (10 GB, removed at the end); default: a new folder in /var/tmp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

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
[ "$(wc -l <<<"$BASE")" = 1 ] || missing "base images $(tr '\n' ' ' <<<"$BASE")" "one"

# In a mount namespace of its own: what is mounted here ends with the script.
[ -n "${FORECASTD_IMAGE_TEST:-}" ] ||
    exec env FORECASTD_IMAGE_TEST=1 unshare --mount --propagation private "$0" "$@"

work=$(mktemp -d "${IMAGE_TEST_DIR:-/var/tmp}/forecastd-image-XXXXXX")
root=
export BUILDAH_ISOLATION=chroot
buildah() {
    command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"
}
cleanup() {
    if [ -n "$root" ]; then umount --lazy "$root" || true; fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
fail() {
    echo "image-test: $1" >&2
    exit 1
}

base() { # the base image under the name that FROM uses
    if [ -n "${BASE_IMAGE:-}" ]; then
        step "base: $BASE from $BASE_IMAGE"
        buildah pull -q "docker-archive:$BASE_IMAGE" >/dev/null
        return
    fi
    local mirror
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

# From here on as in docker-compose.yml: a read-only root, /tmp and one volume to write to. A new
# volume takes the owner that the folder has in the image.
cp -a "$root/var/lib/forecastd" "$work/volume"
touch "$root/run/.containerenv" # which buildah would make
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
inside() { # in the container, as the user of the image
    buildah run --network host --mount type=tmpfs,destination=/tmp \
        --volume "$work/volume:/var/lib/forecastd" "$container" -- "$@" </dev/null
}

step "user"
uid=$(inside python3 -c 'import os; print(os.getuid())')
[ "$uid" != 0 ] || fail "the image runs as root, wanted another user"
echo "uid $uid"

step "a root that is read-only"
for folder in / /opt/forecastd /srv/forecastd /etc; do
    ! inside touch "$folder/probe" 2>/dev/null || fail "$folder can be written to"
done
inside touch /tmp/probe /var/lib/forecastd/probe /var/lib/forecastd/models/probe

step "forecastd --version"
inside forecastd --version

step "forecastd settings"
inside forecastd settings

step "a broker that is not there"
# Port 9 is `discard`: nobody listens.
set +e
said=$(inside env FORECASTD_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9 FORECASTD_STARTUP_TIMEOUT=5s \
    FORECASTD_OBSERVE__PORT=0 forecastd run 2>&1)
status=$?
set -e
echo "$said"
[ "$status" != 0 ] || fail "the daemon ended with status 0 without a broker"
grep -q '127.0.0.1:9' <<<"$said" || fail "the daemon ended without naming the broker"
! grep -q Traceback <<<"$said" || fail "the daemon ended with a traceback"

echo
echo "image-test: passed in ${SECONDS}s"
