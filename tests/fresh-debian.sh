#!/usr/bin/env bash
# fresh-debian.sh [FOLDER] - tries both README commands, `make demo` and `make test`, in a fresh Debian.
#
# Makes a minimal Debian 12 with debootstrap in FOLDER (which is kept; by default a temporary one, which is not), clones the
# committed tree into it, and runs the commands there as root, with nothing of this system but its package
# mirror and its name servers. Needs root, debootstrap, git and about 3 GB. DEBIAN_MIRROR names a mirror; by default
# the one that this system uses. FRESH_COMMANDS replaces the commands ("make demo").
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "fresh-debian: needs root, for debootstrap and chroot" >&2; exit 77; }
for tool in debootstrap git; do
    command -v "$tool" >/dev/null || { echo "fresh-debian: needs $tool: apt-get install $tool" >&2; exit 77; }
done
given=${1:-}
target=${given:-$(mktemp -d /var/tmp/fresh-debian.XXXXXX)}
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)}
[ -n "$mirror" ] || { echo "fresh-debian: no package mirror is known: set DEBIAN_MIRROR" >&2; exit 77; }

cleanup() {
    for mount in dev/shm dev sys proc; do
        mountpoint -q "$target/$mount" && umount -l "$target/$mount"
    done
    [ -n "$given" ] || rm -rf --one-file-system "$target"
}
trap 'cleanup' EXIT

echo "== debootstrap in $target"
debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$target" "$mirror" >"$target.log" 2>&1 || {
    tail -n 20 "$target.log" >&2
    exit 1
}
rm -f "$target.log"
# The packages come from where this system gets them: its sources, its proxy, its certificates.
cp /etc/apt/sources.list "$target/etc/apt/" 2>/dev/null || true
cp -r /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/preferences.d "$target/etc/apt/" 2>/dev/null || true
cp -r /usr/local/share/ca-certificates "$target/usr/local/share/" 2>/dev/null || true
cp /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/" 2>/dev/null || true
cp -L /etc/resolv.conf /etc/hosts "$target/etc/" 2>/dev/null || true
mount -t proc proc "$target/proc"
mount -t sysfs -o ro sysfs "$target/sys"
mount --rbind /dev "$target/dev" && mount --make-rslave "$target/dev"

git clone -q "$top" "$target/root/longspan"
status=0
while IFS= read -r command; do
    [ -n "$command" ] || continue
    echo "== $command"
    start=$(date +%s)
    if chroot "$target" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        TERM=dumb ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c "cd /root/longspan && $command"; then
        echo "== $command: ok after $(($(date +%s) - start)) s"
    else
        echo "== $command: FAILED ($?) after $(($(date +%s) - start)) s"
        status=1
    fi
done <<<"${FRESH_COMMANDS:-make demo
make test}"
exit $status
