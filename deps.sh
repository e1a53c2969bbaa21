#!/usr/bin/env bash
# deps.sh [--if-missing] - installs what Longspan needs to build, run and test, from Debian's packages.
#
# With --if-missing it asks the package database first and does nothing, without root and without network, when
# everything is there.
set -eu
packages="gcc make pkg-config python3 openmpi-bin libopenmpi-dev libzmq3-dev libprotobuf-c-dev
    protobuf-c-compiler libhwloc-dev libjansson-dev libmicrohttpd-dev libcurl4-openssl-dev libcyaml-dev libyaml-dev libpcre2-dev libcmocka-dev"

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
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
