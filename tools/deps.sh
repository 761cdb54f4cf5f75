#!/bin/sh
# Installs what oasis needs to build and test on Debian 12 or newer.  Only runs apt-get, and says which packages.
#   tools/deps.sh [--if-missing] [MORE PACKAGES]
#       --if-missing  say nothing when everything is there
#   For training by several processes (liboasis-mpi): tools/deps.sh libopenmpi-dev openmpi-bin
set -eu
quiet=""
if [ "${1:-}" = "--if-missing" ]; then
    quiet=1
    shift
fi
packages="gcc libc6-dev make cmake ninja-build pkg-config libdnnl-dev libjansson-dev libjpeg62-turbo-dev libxxhash-dev
 libavformat-dev libavcodec-dev libavfilter-dev libswscale-dev libavutil-dev libcmocka-dev $*"
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -z "$missing" ]; then
    [ -n "$quiet" ] || echo "deps: everything is installed"
    exit 0
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "deps: run as root, or install sudo; needed:$missing" >&2; exit 1; }
    sudo=sudo
fi
echo "deps: apt-get install$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086  # several words are meant
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
