#!/usr/bin/env bash
# deps.sh [--if-missing|--fuzz] - installs what Longspan needs to build, run and test, from Debian's packages.
#
# With --if-missing it asks the package database first and does nothing, without root and without network, when
# everything is there; what only tests need is left out then. An ssh server is such a thing (hosts made of namespaces run
# it): it is installed without being started, now or at the next boot.
# --fuzz: what `make fuzz` needs too.
set -eu
packages="gcc make pkg-config python3 openmpi-bin libopenmpi-dev libzmq3-dev libprotobuf-c-dev
    protobuf-c-compiler libhwloc-dev libjansson-dev libmicrohttpd-dev libcurl4-openssl-dev libcyaml-dev libyaml-dev libpcre2-dev libunistring-dev libcmocka-dev"

test_packages="curl iproute2 openssh-client openssh-server"
[ "${1:-}" = --if-missing ] || packages="$packages $test_packages"

[ "${1:-}" != --fuzz ] || packages="$packages clang libclang-rt-dev"

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done
if [ -z "$missing" ]; then
    [ "${1:-}" = --if-missing ] || echo "deps: everything is installed"
    exit 0
fi
echo "deps: installing$missing"
as_root=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "deps: run as root (or install sudo): apt-get install$missing" >&2
        exit 1
    }
    as_root=sudo
fi
$as_root apt-get update -qq
policy=""
case "$missing" in
*openssh-server*)
    [ -e /usr/sbin/policy-rc.d ] || policy=/usr/sbin/policy-rc.d
    [ -z "$policy" ] || printf '#!/bin/sh\nexit 101\n' | $as_root install -m 755 /dev/stdin "$policy"
    ;;
esac
trap '[ -z "$policy" ] || $as_root rm -f "$policy"' EXIT
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
case "$missing" in
*openssh-server*) $as_root systemctl disable ssh.service >/dev/null 2>&1 || true ;;
esac
